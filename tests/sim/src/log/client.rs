//! What a process uses of the model log: the traits of the publisher and of the aggregators.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::{compressed, entry};
use sluice_log::replay::CommitMark;
use sluice_log::{
    Append, Appended, Backlog, Claimed, ConsumerInfo, Delivered, LogError, LogReader, LogWriter, Position, Pressure,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::server::{Asker, LogServer};
use crate::planted::{Planted, under_a_new_id};
use crate::process::Process;
use crate::store::server::ModelStore;
use crate::wire::{self, Lost};
use crate::world::{Clock, Link, World, lock};

/// The log, as all processes see it.
pub struct ModelLog {
    /// Its state.
    pub server: Mutex<LogServer>,
    /// Notifies readers that wait for entries.
    pub appended: Notify,
    /// The number of streams.
    pub streams: u16,
    /// How long acknowledged entries stay.
    pub replay_window: Duration,
    /// The store, which is asked whether what is removed is stored.
    pub store: Arc<ModelStore>,
}

impl ModelLog {
    /// Creates an empty log.
    pub fn new(streams: u16, replay_window: Duration, store: Arc<ModelStore>) -> Self {
        Self { server: Mutex::new(LogServer::new(streams)), appended: Notify::new(), streams, replay_window, store }
    }
}

/// The connection of one process to the log.
#[derive(Clone)]
pub struct LogClient {
    world: Arc<World>,
    process: Arc<Process>,
    log: Arc<ModelLog>,
    /// The name in the consumer group.
    consumer: Arc<str>,
    cursor: Arc<Mutex<Option<Position>>>,
    pub(super) planted: Option<Planted>,
}

impl LogClient {
    /// Connects a process. `consumer` is its name in the group, if it reads.
    pub fn new(
        world: Arc<World>,
        process: Arc<Process>,
        log: Arc<ModelLog>,
        consumer: &str,
        planted: Option<Planted>,
    ) -> Self {
        Self { world, process, log, consumer: consumer.into(), cursor: Arc::default(), planted }
    }

    /// Sends a command.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        name: &str,
        command: impl FnOnce(&mut LogServer, &Asker) -> T + Send + 'static,
    ) -> Result<T, LogError> {
        let (log, asker) = (self.log.clone(), self.asker());
        let execute = move || command(&mut lock(&log.server), &asker());
        let answer = wire::call(&self.world, &self.process, Link::Log, execute).await;
        self.answered(name, answer)
    }

    /// Returns who asks, at the time when a command is executed.
    fn asker(&self) -> impl Fn() -> Asker + Send + 'static {
        let (world, consumer) = (self.world.clone(), self.consumer.clone());
        move || Asker { consumer: consumer.clone(), now: world.millis(Clock::Log) }
    }

    /// Turns a lost answer into the error that the process sees.
    fn answered<T>(&self, name: &str, answer: Result<T, Lost>) -> Result<T, LogError> {
        let lost = match answer {
            Ok(answer) => return Ok(answer),
            Err(Lost::Answer) => "the answer was lost",
            Err(Lost::Request) => "the request was lost",
            Err(Lost::Late) => "the request is late",
        };
        self.note(|| format!("{name}: {lost}"));
        Err(LogError::Unavailable(format!("{name}: the connection broke")))
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, text: impl FnOnce() -> String) {
        self.world.note(&self.process.label, text);
    }

    /// Returns under which name this process has the right to replay: a second one of the same name has another.
    pub(super) fn owner(&self) -> Arc<str> {
        self.process.label.as_str().into()
    }

    /// Returns whether a worker is one of this consumer's.
    pub(super) fn is_own(&self, worker: &str) -> bool {
        worker.strip_prefix(&*self.consumer).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the number of streams.
    pub(super) fn streams(&self) -> u16 {
        self.log.streams
    }

    pub(super) fn note_delivery(&self, how: &str, entries: &[Delivered]) {
        if !entries.is_empty() {
            self.world.note(&self.process.label, || format!("{how} {}", listed(entries.iter().map(|e| e.position))));
        }
    }

    /// Acknowledges the entries of each stream in a command of its own, in any order.
    async fn acknowledge_each(&self, done: &[(Position, u64)], mark: Option<&CommitMark>) -> Result<u64, LogError> {
        let mut by_stream: BTreeMap<u16, Vec<(Position, u64)>> = BTreeMap::new();
        done.iter().for_each(|entry| by_stream.entry(entry.0.stream).or_default().push(*entry));
        let mut by_stream: Vec<_> = by_stream.into_iter().collect();
        let mut sum = 0;
        while !by_stream.is_empty() {
            let (stream, done) = by_stream.swap_remove(self.world.index(by_stream.len()));
            let (world, label, mark) = (self.world.clone(), self.process.label.clone(), mark.cloned());
            let command = move |server: &mut LogServer, asker: &Asker| {
                let pending = server.acknowledge(asker.now, stream, &done, mark.as_ref());
                world.note(&label, || {
                    let positions = listed(done.iter().map(|(position, _)| *position));
                    let mark = mark.map(|mark| format!(" of commit {} of {}", mark.number, mark.worker));
                    format!("acknowledged {positions}{}: {pending} were pending", mark.unwrap_or_default())
                });
                pending
            };
            sum += self.ask("acknowledge", command).await?;
        }
        Ok(sum)
    }

    /// The planted mistake: acknowledges what was just delivered, before it is committed.
    async fn acknowledge_too_early(&self, entries: &[Delivered]) {
        if self.planted == Some(Planted::AcknowledgeBeforeCommit) {
            let done: Vec<_> = entries.iter().map(|entry| (entry.position, entry.events)).collect();
            if let Err(error) = self.acknowledge(&done).await {
                self.world.note(&self.process.label, || error.to_string());
            }
        }
    }
}

/// Returns the ids of the requests in an entry as one text.
fn requests_in(body: &[u8]) -> String {
    let expanded = compressed::expand(body);
    let requests = expanded.as_ref().map_err(Clone::clone).and_then(|body| {
        let entry = entry::decode(body)?;
        Ok(entry.requests.iter().map(|request| request.id.to_string()).collect::<Vec<_>>().join(" "))
    });
    requests.unwrap_or_else(|error| error.to_string())
}

/// Returns positions as one text.
pub fn listed(positions: impl Iterator<Item = Position>) -> String {
    positions.map(|position| position.to_string()).collect::<Vec<_>>().join(" ")
}

#[async_trait]
impl LogWriter for LogClient {
    fn streams(&self) -> u16 {
        self.log.streams
    }

    async fn append(&self, append: &Append) -> Result<Appended, LogError> {
        if self.world.refuses(Link::Log) {
            let no_disk = self.world.chance(0.5);
            let error = if no_disk { LogError::NoSpace } else { LogError::Full };
            return Err(error("no room for more".into()));
        }
        let mut append = append.clone();
        if self.planted == Some(Planted::NewIdPerRepetition) {
            under_a_new_id(&mut append.entry);
        }
        let (log, world, label) = (self.log.clone(), self.world.clone(), self.process.label.clone());
        let appended = self.ask("append", move |server, asker| {
            let appended = server.append(asker.now, &append);
            world.note(&label, || match &appended {
                Appended::Stored { .. } => format!(
                    "appended entry {} at {} with requests {}",
                    append.entry.id,
                    server.last(append.stream),
                    requests_in(&append.entry.body)
                ),
                Appended::KeyReused(indexes) => format!("did not append entry {}: keys {indexes:?}", append.entry.id),
            });
            log.appended.notify_waiters();
            appended
        });
        appended.await
    }

    async fn pressure(&self) -> Result<Pressure, LogError> {
        let backlog = self.ask("pressure", |server, asker| server.backlog(asker.now)).await?;
        if self.world.refuses(Link::Log) && self.world.chance(0.5) {
            return Err(LogError::NoSpace("no room for more".into()));
        }
        Ok(Pressure { backlog: backlog.events, memory: self.world.refuses(Link::Log).then_some(1.0) })
    }
}

#[async_trait]
impl LogReader for LogClient {
    async fn read_own_pending(&self, after: Option<Position>, entries: usize) -> Result<Vec<Delivered>, LogError> {
        let command = move |server: &mut LogServer, asker: &Asker| server.read_own_pending(asker, after, entries);
        let read = self.ask("read_own_pending", command).await?;
        self.note_delivery("read its own pending", &read);
        self.acknowledge_too_early(&read).await;
        Ok(read)
    }

    async fn read_new(&self, entries: usize, wait: Duration) -> Result<Vec<Delivered>, LogError> {
        let command = move |server: &mut LogServer, asker: &Asker| server.read_new(asker, entries);
        let read = if wait.is_zero() {
            self.ask("read_new", command).await?
        } else {
            let (log, asker) = (self.log.clone(), self.asker());
            let execute = move || command(&mut lock(&log.server), &asker());
            let until = (&self.log.appended, Instant::now() + wait);
            let is_ready = |read: &Vec<Delivered>| !read.is_empty();
            let read = wire::call_and_wait(&self.world, &self.process, Link::Log, execute, is_ready, until).await;
            self.answered("read_new", read)?
        };
        self.note_delivery("read", &read);
        self.acknowledge_too_early(&read).await;
        Ok(read)
    }

    async fn claim(&self, idle: Duration, entries: usize) -> Result<Claimed, LogError> {
        let mut cursor = *lock(&self.cursor);
        let idle = idle.as_millis() as u64;
        let command = move |server: &mut LogServer, asker: &Asker| {
            let claimed = server.claim(asker, &mut cursor, idle, entries);
            (claimed, cursor)
        };
        let (claimed, cursor) = self.ask("claim", command).await?;
        *lock(&self.cursor) = cursor;
        if !claimed.lost.is_empty() {
            self.world.violation(format!("pending entries were trimmed: {:?}", claimed.lost));
        }
        self.note_delivery("claimed", &claimed.entries);
        self.acknowledge_too_early(&claimed.entries).await;
        Ok(claimed)
    }

    async fn extend_claim(&self, held: &[Position]) -> Result<(), LogError> {
        let held = held.to_vec();
        self.ask("extend_claim", move |server, asker| server.extend_claim(asker, &held)).await
    }

    async fn deliveries(&self, held: &[Position]) -> Result<Vec<u64>, LogError> {
        if held.is_empty() {
            return Ok(Vec::new());
        }
        let held = held.to_vec();
        self.ask("deliveries", move |server, _| server.deliveries(&held)).await
    }

    async fn acknowledge(&self, done: &[(Position, u64)]) -> Result<u64, LogError> {
        self.acknowledge_each(done, None).await
    }

    async fn acknowledge_commit(&self, done: &[(Position, u64)], mark: &CommitMark) -> Result<u64, LogError> {
        let is_noted = self.planted != Some(Planted::CommitsAreNotNoted);
        self.acknowledge_each(done, is_noted.then_some(mark)).await
    }

    async fn trim(&self) -> Result<u64, LogError> {
        let window = self.log.replay_window.as_millis() as u64;
        let mut sum = 0;
        for stream in 0..self.log.streams {
            let store = self.log.store.clone();
            let command = move |server: &mut LogServer, asker: &Asker| {
                let (gone, trimmed) = server.trim(asker.now, stream, window);
                (lock(&store.server).note_trimmed(&gone), trimmed)
            };
            let (violations, trimmed) = self.ask("trim", command).await?;
            violations.into_iter().for_each(|violation| self.world.violation(violation));
            sum += trimmed;
        }
        if sum > 0 {
            self.note(|| format!("trimmed {sum} entries"));
        }
        Ok(sum)
    }

    async fn backlog(&self) -> Result<Backlog, LogError> {
        self.ask("backlog", |server, asker| server.backlog(asker.now)).await
    }

    async fn consumers(&self) -> Result<Vec<ConsumerInfo>, LogError> {
        self.ask("consumers", |server, asker| server.consumers(asker.now)).await
    }

    async fn remove_departed(&self, idle: Duration) -> Result<Vec<String>, LogError> {
        let command = move |server: &mut LogServer, asker: &Asker| {
            server.remove_consumers(asker.now, |c| *c.name != *asker.consumer && c.idle >= idle)
        };
        self.ask("remove_departed", command).await
    }

    async fn leave(&self) -> Result<bool, LogError> {
        let command = move |server: &mut LogServer, asker: &Asker| {
            !server.remove_consumers(asker.now, |consumer| *consumer.name == *asker.consumer).is_empty()
        };
        self.ask("leave", command).await
    }

    async fn ping(&self) -> Result<(), LogError> {
        self.ask("ping", |_, _| ()).await
    }
}
