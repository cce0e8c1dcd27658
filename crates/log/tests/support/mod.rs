//! Test support: Redis servers that the tests start themselves, and functions that create, append and read entries.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sluice_event::entry::PackedEntry;
use sluice_event::{BodyHash, EntryId, IdempotencyKeyHash};
use sluice_log::{Append, Delivered, KeyedRequest, LogReader, LogWriter, Position};
use tempfile::TempDir;

/// How long a condition may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A `redis-server` in a temporary folder. It is killed when this is dropped, and when the thread that started it
/// ends, so that it does not continue to run after a killed test.
pub struct RedisServer {
    child: Child,
    pub port: u16,
    folder: TempDir,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts a server that is durable as in production: an append-only file, synced at each write.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        for _ in 0..20 {
            // Another process may take the port before the server does; then another port is tried.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = spawn(port, &folder, &arguments);
            if becomes_ready(&mut child, port).await {
                return Self { child, port, folder, arguments };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("redis-server did not start; its log:\n{}", log_of(&folder));
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts the server again with the same port and the same files.
    pub async fn start_again(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.child = spawn(self.port, &self.folder, &self.arguments);
            if becomes_ready(&mut self.child, self.port).await {
                return;
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        panic!("redis-server did not start again; its log:\n{}", log_of(&self.folder));
    }

    /// Sends the server a signal, by name.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Returns a plain connection, to inspect and change the data without the log.
    pub async fn raw(&self) -> redis::aio::MultiplexedConnection {
        // The client's own defaults, a second and half a second, are too short for a busy machine.
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Sends one command, whose words are separated by spaces.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split_whitespace();
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        let mut connection = self.raw().await;
        command.query_async(&mut connection).await.unwrap()
    }

    /// Returns a number from INFO.
    pub async fn info(&self, field: &str) -> u64 {
        let info: String = self.command("INFO").await;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}")).trim().parse().unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("redis-server on port {}:\n{}", self.port, log_of(&self.folder));
        }
    }
}

fn spawn(port: u16, folder: &TempDir, arguments: &[String]) -> Child {
    let log = folder.path().join("redis.log");
    let server = std::env::var_os("SLUICE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(server)
        .args(["--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"])
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(folder.path())
        .arg("--logfile")
        .arg(log)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the server is ready: it has loaded its data, and the process that replies is the child. Returns
/// `false` when the child exits or does not become ready in time.
async fn becomes_ready(child: &mut Child, port: u16) -> bool {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        if let Ok(mut connection) = client.get_multiplexed_async_connection().await {
            let info: redis::RedisResult<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await;
            match info {
                Ok(info) => return info.contains(&format!("process_id:{}\r", child.id())),
                Err(error) if matches!(error.code(), Some("NOAUTH" | "NOPERM")) => return true,
                Err(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

fn log_of(folder: &TempDir) -> String {
    let path: PathBuf = folder.path().join("redis.log");
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Returns an entry with this number of events and a body of this number of bytes, which cannot be decoded.
pub fn entry(events: u64, bytes: usize) -> PackedEntry {
    let id = EntryId::random();
    let body = id.as_bytes().iter().copied().cycle().take(bytes).collect();
    PackedEntry { id, events, body }
}

/// Returns an append to stream 0 without keys.
pub fn append(events: u64) -> Append {
    append_to(0, events)
}

/// Returns an append without keys.
pub fn append_to(stream: u16, events: u64) -> Append {
    Append { stream, entry: entry(events, 100), keyed: Vec::new() }
}

/// Returns an append with keys. Each pair of numbers stands for a key and for a body.
pub fn keyed(pairs: &[(u128, u128)]) -> Append {
    let request = |&(key, body): &(u128, u128)| KeyedRequest {
        key: IdempotencyKeyHash::from_u128(key),
        body_hash: BodyHash::from_u128(body),
    };
    let keyed = pairs.iter().map(request).collect();
    Append { keyed, ..append(1) }
}

/// Appends entries with one event each; returns their bodies.
pub async fn fill(writer: &dyn LogWriter, stream: u16, entries: usize) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for _ in 0..entries {
        let append = append_to(stream, 1);
        writer.append(&append).await.unwrap();
        bodies.push(append.entry.body);
    }
    bodies
}

/// Reads until this number of new entries has arrived, and returns them.
pub async fn read(reader: &dyn LogReader, entries: usize) -> Vec<Delivered> {
    let mut read = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while read.len() < entries {
        assert!(Instant::now() < deadline, "only {} of {entries} entries were read", read.len());
        read.extend(reader.read_new(entries - read.len(), Duration::from_millis(200)).await.unwrap());
    }
    read
}

pub fn positions(entries: &[Delivered]) -> Vec<Position> {
    entries.iter().map(|entry| entry.position).collect()
}

pub fn bodies(entries: &[Delivered]) -> Vec<Vec<u8>> {
    entries.iter().map(|entry| entry.body.to_vec()).collect()
}

/// Returns positions with their numbers of events, as [`LogReader::acknowledge`] takes them.
pub fn done(entries: &[Delivered]) -> Vec<(Position, u64)> {
    entries.iter().map(|entry| (entry.position, entry.events)).collect()
}

/// Calls `ask` until it returns a value, and returns that; fails with `what` after [`PATIENCE`].
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    wait_for_within(PATIENCE, what, ask).await
}

/// Like [`wait_for`], with another patience.
pub async fn wait_for_within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
