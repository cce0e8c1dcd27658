//! The hostile clients.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use sluice_tests::raw::client_hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::wire::{self, Endpoint};
use crate::load::http::Connection;

/// A payload of the largest size that an event may have.
const LARGE_PAYLOAD: usize = 250 << 10;
/// The largest body of a request.
const LARGE_BODY: usize = (8 << 20) - 1;

/// A kind of hostile client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hostile {
    /// 200 connections that read large pages, a byte a second
    SlowReaders,
    /// 64 connections that send a body of 8 MiB, a kilobyte at a time
    SlowWriters,
    /// 600 connections with 400 KB of an unfinished header
    HugeHeaders,
    /// 8,192 connections that send nothing
    IdleConnections,
    /// Each event has a topic of its own, beside queries of all topics
    Topics,
    /// Each request has one event and a key of its own
    Keys,
    /// The same ids again and again, with other payloads
    Conflicts,
    /// The largest pages of large events, on 16 connections
    Pages,
    /// Replays of a dead letter that does not exist, on 100 connections
    Replays,
    /// Filters that match nothing, on 8 connections
    Filters,
    /// All of these at once
    All,
    /// 2,000 connections that begin a handshake of TLS and never finish it
    TlsUnfinished,
    /// Handshakes of TLS, again and again, on 64 connections
    TlsHandshakes,
    /// 64 connections that send other bytes in place of a handshake
    TlsGarbage,
}

/// The number of answers by status.
#[derive(Debug, Clone, Default)]
pub struct Answers(BTreeMap<u16, u64>);

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(status, number)| format!("{number} × {status}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// The system under attack.
#[derive(Debug)]
pub struct Target {
    endpoint: Endpoint,
    answers: Mutex<Answers>,
    next: AtomicU64,
}

impl Target {
    /// Returns the system there.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, answers: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// Stores events for the clients that read: large ones, and small ones after them.
    pub async fn fill(&self) -> anyhow::Result<()> {
        let mut connection = self.endpoint.open().await?;
        let payload = format!("\"{}\"", "a".repeat(LARGE_PAYLOAD));
        for request in 0..20 {
            let events: Vec<_> = (0..20).map(|n| wire::event("large", &format!("{request}-{n}"), &payload)).collect();
            let response = connection.exchange(&wire::publish(&format!("[{}]", events.join(",")), None)).await?;
            ensure!(response.status == 202, "status {} when the store was filled", response.status);
        }
        let small: Vec<_> = (0..100).map(|n| wire::event("small", &n.to_string(), "1")).collect();
        let response = connection.exchange(&wire::publish(&format!("[{}]", small.join(",")), None)).await?;
        ensure!(response.status == 202, "status {} when the store was filled", response.status);
        Ok(())
    }

    /// Returns where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Returns how often each status was answered.
    pub fn answers(&self) -> Answers {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answered(&self, status: u16) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).0.entry(status).or_default() += 1;
    }

    fn address(&self) -> &str {
        &self.endpoint.address
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn request(&self, method: &str, path: &str) {
        match wire::status_of(self.address(), method, path).await {
            Some(status) => self.answered(status),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }

    /// Sends requests on one connection as fast as they are answered.
    async fn publish(&self, mut request: impl FnMut() -> Vec<u8>) {
        loop {
            if let Ok(mut connection) = Connection::open(self.address()).await {
                while let Ok(response) = connection.exchange(&request()).await {
                    self.answered(response.status);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Hostile {
    /// Returns a description for the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::SlowReaders => "200 slow readers of pages",
            Self::SlowWriters => "64 slow writers of 8 MiB",
            Self::HugeHeaders => "600 unfinished heads of 400 KB",
            Self::IdleConnections => "8,192 idle connections",
            Self::Topics => "a topic per event",
            Self::Keys => "a key per event",
            Self::Conflicts => "conflicts at full rate",
            Self::Pages => "16 readers of the largest pages",
            Self::Replays => "replays on 100 connections",
            Self::Filters => "8 filters that match nothing",
            Self::All => "all of these at once",
            Self::TlsUnfinished => "2,000 unfinished handshakes",
            Self::TlsHandshakes => "handshakes on 64 connections",
            Self::TlsGarbage => "64 senders of garbage",
        }
    }

    /// Returns whether it is about the TLS of the listener. It does nothing to a server without TLS.
    pub fn is_about_tls(self) -> bool {
        matches!(self, Self::TlsUnfinished | Self::TlsHandshakes | Self::TlsGarbage)
    }

    /// Starts the client. It ends when the returned set is dropped.
    pub fn start(self, target: &Arc<Target>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        self.add_to(&mut tasks, target);
        tasks
    }

    fn add_to(self, tasks: &mut JoinSet<()>, target: &Arc<Target>) {
        let spawn = |tasks: &mut JoinSet<()>, number: usize| {
            for _ in 0..number {
                tasks.spawn(self.attack(target.clone()));
            }
        };
        match self {
            Self::SlowReaders => spawn(tasks, 200),
            Self::SlowWriters => spawn(tasks, 64),
            Self::HugeHeaders => spawn(tasks, 600),
            Self::IdleConnections => spawn(tasks, 8192),
            Self::Topics | Self::Conflicts => spawn(tasks, 4),
            Self::Keys | Self::Pages => spawn(tasks, 16),
            Self::Replays => spawn(tasks, 100),
            Self::Filters => spawn(tasks, 8),
            Self::TlsUnfinished => spawn(tasks, 2000),
            Self::TlsHandshakes | Self::TlsGarbage => spawn(tasks, 64),
            Self::All => {
                let kinds = Self::value_variants().iter().filter(|kind| **kind != Self::All && !kind.is_about_tls());
                kinds.for_each(|kind| kind.add_to(tasks, target));
            }
        }
    }

    /// Runs one connection of the client for ever.
    async fn attack(self, target: Arc<Target>) {
        match self {
            Self::SlowReaders => loop {
                if read_slowly(&target).await.is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Self::SlowWriters => loop {
                let head = format!(
                    "POST /publish HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\n\
                     Content-Length: {LARGE_BODY}\r\n\r\n"
                );
                write_slowly(&target, head.as_bytes(), Some(&[b' '; 1024])).await;
            },
            Self::HugeHeaders => loop {
                let head = format!("GET /stats HTTP/1.1\r\nHost: sluice\r\nX-Long: {}", "a".repeat(400 << 10));
                write_slowly(&target, head.as_bytes(), None).await;
            },
            Self::IdleConnections => loop {
                write_slowly(&target, b"", None).await;
            },
            Self::Topics => {
                let queries = async {
                    loop {
                        target.request("GET", "/stats").await;
                        target.request("GET", "/topics").await;
                    }
                };
                tokio::join!(target.publish(|| events(&target, 100, None)), queries);
            }
            Self::Keys => {
                let keyed = || {
                    let key = format!("key-{}", target.number());
                    let event = wire::event("keyed", &key, "1");
                    wire::publish(&event, Some(&key))
                };
                target.publish(keyed).await;
            }
            Self::Conflicts => target.publish(|| events(&target, 100, Some("conflicts"))).await,
            Self::Pages => loop {
                target.request("GET", "/events?limit=10000").await;
            },
            Self::Replays => loop {
                target.request("POST", "/dead-letters/1/replay").await;
            },
            Self::Filters => loop {
                target.request("GET", "/events?source=nobody").await;
            },
            Self::All => {}
            Self::TlsUnfinished => loop {
                write_slowly(&target, &client_hello(), None).await;
            },
            Self::TlsHandshakes => loop {
                if target.endpoint.open().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Self::TlsGarbage => loop {
                // What is no record at all, and the head of the longest record with nothing that TLS knows in it.
                let garbage = [vec![b'?'; 16 << 10], [&[22, 3, 1, 64, 0][..], &[0xff; 16 << 10]].concat()];
                for bytes in garbage {
                    send(&target, &bytes).await;
                }
            },
        }
    }
}

/// Returns a request of new events of topics of their own; or of the same events of one topic with other payloads.
fn events(target: &Target, number: u64, topic: Option<&str>) -> Vec<u8> {
    let events: Vec<String> = (0..number)
        .map(|n| {
            let unique = target.number().to_string();
            match topic {
                Some(topic) => wire::event(topic, &n.to_string(), &unique),
                None => wire::event(&format!("topic-{unique}"), "1", "1"),
            }
        })
        .collect();
    wire::publish(&format!("[{}]", events.join(",")), None)
}

/// Sends bytes on a connection of their own, and waits until the server closes it.
async fn send(target: &Target, bytes: &[u8]) {
    let sent = async {
        let mut socket = TcpStream::connect(target.address()).await?;
        socket.write_all(bytes).await?;
        let mut answer = [0; 1024];
        while socket.read(&mut answer).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    if sent.await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks for a large page, and reads a byte a second until the connection is closed. Returns `None` if it could not
/// connect.
async fn read_slowly(target: &Target) -> Option<()> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.set_recv_buffer_size(4096).ok()?;
    let mut socket = socket.connect(target.address().parse().ok()?).await.ok()?;
    let request = "GET /events?limit=1000&topic=large HTTP/1.1\r\nHost: sluice\r\n\r\n";
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut head = [0; 12];
    socket.read_exact(&mut head).await.ok()?;
    target.answered(std::str::from_utf8(&head[9..]).ok()?.parse().ok()?);
    let mut byte = [0];
    while socket.read(&mut byte).await.is_ok_and(|read| read > 0) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Some(())
}

/// Opens a connection, sends this beginning, and then `more` ten times a second, until the connection is closed.
async fn write_slowly(target: &Target, beginning: &[u8], more: Option<&[u8]>) {
    let closed = async {
        let socket = TcpStream::connect(target.address()).await.ok()?;
        let (mut reading, mut writing) = socket.into_split();
        let write = async {
            writing.write_all(beginning).await.ok()?;
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if let Some(more) = more {
                    writing.write_all(more).await.ok()?;
                }
            }
        };
        let read = async {
            let mut head = [0; 4096];
            let read = reading.read(&mut head).await.ok()?;
            target.answered(std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()?);
            (read > 0).then_some(())
        };
        // It is over when the server answers or closes.
        let _: Option<()> = tokio::select! {
            ended = write => ended,
            answered = read => answered,
        };
        Some(())
    };
    let _: Option<()> = closed.await;
    tokio::time::sleep(Duration::from_millis(100)).await;
}
