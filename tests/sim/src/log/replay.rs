//! What a process uses of the model log to notice that the store has lost commits, and to replay them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sluice_log::replay::{LogMarks, Loss, Marks, PendingReplay, ReplayLog, StreamReplay};
use sluice_log::{Delivered, LogError, Position};

use super::client::LogClient;
use super::memory::{Id, Replay};
use super::server::{Asker, LogServer};
use crate::planted::Planted;

/// How long the last loss is shown, in milliseconds.
const LOSS_TTL: u64 = 7 * 24 * 3_600_000;

fn position(stream: u16, (millis, sequence): Id) -> Position {
    Position { stream, millis, sequence }
}

/// Returns the replays of all streams as one.
fn pending(replays: &[(u16, Replay)]) -> Option<PendingReplay> {
    let mut marks: Option<Marks> = None;
    for (_, replay) in replays {
        // Parts that two replicas have begun: the lower marks hold for all.
        marks = Some(match marks {
            None => replay.marks.clone(),
            Some(marks) => {
                let both = |(worker, mark): (String, u64)| Some((mark.min(*replay.marks.get(&worker)?), worker));
                marks.into_iter().filter_map(both).map(|(mark, worker)| (worker, mark)).collect()
            }
        });
    }
    let all = || replays.iter().map(|(_, replay)| replay);
    let loss = Loss {
        detected: all().map(|replay| replay.id).min().unwrap_or_default(),
        survived: all().map(|replay| replay.survived).min().flatten(),
        covered_since: all()
            .map(|replay| replay.covered)
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max()),
    };
    let part = |(stream, replay): &(u16, Replay)| StreamReplay {
        id: replay.id,
        until: position(*stream, replay.until),
        reached: position(*stream, replay.reached),
        number: replay.number,
    };
    Some(PendingReplay { loss, streams: replays.iter().map(part).collect(), marks: marks? })
}

#[async_trait]
impl ReplayLog for LogClient {
    /// Each stream is asked by a command of its own, and the last loss by another one.
    async fn marks(&self) -> Result<LogMarks, LogError> {
        let mut all = LogMarks::default();
        let mut replays = Vec::new();
        let mut covered = Vec::new();
        for stream in 0..self.streams() {
            let command = move |server: &mut LogServer, asker: &Asker| {
                let memory = server.memory(stream);
                (memory.marks.clone(), memory.replay.clone(), memory.covered_since(), asker.now)
            };
            let (marks, replay, since, now): (BTreeMap<_, _>, _, _, _) = self.ask("marks", command).await?;
            for (worker, (number, at)) in marks {
                let latest = all.acknowledged_at.entry(worker.clone()).or_default();
                *latest = at.max(*latest);
                let highest = all.marks.entry(worker).or_default();
                *highest = number.max(*highest);
            }
            replays.extend(replay.map(|replay| (stream, replay)));
            covered.push(since);
            all.now = now;
        }
        if self.planted == Some(Planted::OwnCommitsOnly) {
            all.marks.retain(|worker, _| self.is_own(worker));
        }
        all.covered_since = covered.into_iter().collect::<Option<Vec<_>>>().and_then(|times| times.into_iter().max());
        all.replay = pending(&replays);
        let command = |server: &mut LogServer, asker: &Asker| server.loss.filter(|(_, until)| *until > asker.now);
        all.loss = self.ask("loss", command).await?.map(|(loss, _)| loss);
        Ok(all)
    }

    async fn begin_replay(&self, marks: &Marks, survived: Option<u64>) -> Result<bool, LogError> {
        let mut all = true;
        for stream in 0..self.streams() {
            let sent = marks.clone();
            let command = move |server: &mut LogServer, asker: &Asker| {
                let until = server.last_delivered(stream);
                server.memory(stream).begin(until, &sent, survived, asker.now).then_some(until)
            };
            let begun = self.ask("begin_replay", command).await?;
            if let Some(until) = begun {
                self.note(|| format!("began the replay of stream {stream} up to {until:?} with marks {marks:?}"));
            }
            all &= begun.is_some();
        }
        Ok(all)
    }

    async fn lease_replay(&self, ttl: Duration) -> Result<bool, LogError> {
        let (owner, ttl) = (self.owner(), ttl.as_millis() as u64);
        let command = move |server: &mut LogServer, asker: &Asker| {
            let now = asker.now;
            let is_taken = server.replayer.as_ref().is_some_and(|(other, until)| *other != owner && *until > now);
            if !is_taken {
                server.replayer = Some((owner, now + ttl));
            }
            !is_taken
        };
        self.ask("lease_replay", command).await
    }

    async fn release_replay(&self) -> Result<(), LogError> {
        let owner = self.owner();
        let command = move |server: &mut LogServer, _: &Asker| {
            server.replayer.take_if(|(other, _)| *other == owner);
        };
        self.ask("release_replay", command).await
    }

    async fn read_again(&self, after: Position, until: Position, entries: usize) -> Result<Vec<Delivered>, LogError> {
        if self.planted == Some(Planted::ReplayReadsNothing) {
            return Ok(Vec::new());
        }
        let command = move |server: &mut LogServer, _: &Asker| server.read_again(after, until, entries);
        let read = self.ask("read_again", command).await?;
        self.note_delivery("read again", &read);
        Ok(read)
    }

    async fn save_replay(&self, part: &StreamReplay) -> Result<(), LogError> {
        let part = *part;
        let command = move |server: &mut LogServer, _: &Asker| server.memory(part.until.stream).save(&part);
        self.ask("save_replay", command).await
    }

    async fn end_replay(&self, replay: &PendingReplay) -> Result<(), LogError> {
        let loss = replay.loss;
        let command = move |server: &mut LogServer, asker: &Asker| {
            server.loss = Some((loss, asker.now + LOSS_TTL));
            server.losses.push(loss);
        };
        self.ask("note_loss", command).await?;
        for part in &replay.streams {
            let (stream, id) = (part.until.stream, part.id);
            let command = move |server: &mut LogServer, _: &Asker| server.memory(stream).end(id);
            self.ask("end_replay", command).await?;
            self.note(|| format!("ended the replay of stream {stream}"));
        }
        Ok(())
    }

    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<(), LogError> {
        for stream in 0..self.streams() {
            let (workers, age) = (workers.to_vec(), age.as_secs());
            let command =
                move |server: &mut LogServer, asker: &Asker| server.memory(stream).forget(&workers, age, asker.now);
            self.ask("forget_marks", command).await?;
        }
        Ok(())
    }
}
