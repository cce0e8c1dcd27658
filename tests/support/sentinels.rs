//! A primary, its replicas, and the Sentinels that watch them.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use redis::{FromRedisValue, Role};

use crate::certificates::Identity;
use crate::process::Process;
use crate::redis::RedisServer;
use crate::wait::{holds, wait_blocking};
use crate::{dirs, ports};

/// The name of the primary.
const NAME: &str = "shop";
/// The number of Sentinels, of which two must agree.
const SENTINELS: usize = 3;
/// How long a server may be silent before a failover. Longer makes tests slower, shorter lets a busy machine cause
/// failovers.
const DOWN_AFTER_MS: u64 = 3_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// Servers that Sentinels watch, which promote a replica when the primary fails.
#[derive(Debug)]
pub struct WatchedRedis {
    /// The servers. The first one is the primary at the beginning.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    password: Option<String>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    process: Process,
}

impl WatchedRedis {
    /// Starts a primary and replicas, all with these settings, and three Sentinels, with a password if one is given.
    pub fn start(replicas: usize, settings: &[&str], password: Option<&str>) -> Self {
        let primary = RedisServer::start_with(settings);
        let replicated: Vec<_> = (0..replicas).map(|_| RedisServer::start_replica_of(&primary, settings)).collect();
        let mut servers = vec![primary];
        servers.extend(replicated);
        let extra = password.map(|password| format!("requirepass {password}\n")).unwrap_or_default();
        let sentinels = (0..SENTINELS).map(|_| start_sentinel(servers[0].port(), 2, &extra)).collect();
        let started = Self { servers, sentinels, password: password.map(str::to_owned) };
        started.wait_until_watched();
        started
    }

    /// Starts a primary, and one Sentinel, that are reached over TLS with this certificate.
    pub fn start_with_tls(identity: &Identity, ca: &Path) -> Self {
        let primary = RedisServer::start_with_tls(identity, None);
        let mut extra = "tls-replication yes\ntls-auth-clients no\n".to_owned();
        for (name, file) in
            [("tls-cert-file", &*identity.cert), ("tls-key-file", &*identity.key), ("tls-ca-cert-file", ca)]
        {
            let _ = writeln!(extra, "{name} {}", file.display());
        }
        let _ = writeln!(extra, "tls-port {}", ports::free());
        let sentinel = start_sentinel(primary.tls_port(), 1, &extra);
        Self { servers: vec![primary], sentinels: vec![sentinel], password: None }
    }

    /// Returns the URL by which programs find the primary.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// Returns the index of the primary. Fails when there is none, or more than one.
    pub fn primary(&self) -> usize {
        let primaries: Vec<_> = (0..self.servers.len()).filter(|&index| self.is_primary(index)).collect();
        assert_eq!(primaries.len(), 1, "the primaries: {primaries:?}");
        primaries[0]
    }

    /// Kills the primary with SIGKILL, and returns its index.
    pub fn kill_primary(&mut self) -> usize {
        let primary = self.primary();
        self.servers[primary].kill();
        primary
    }

    /// Waits until another server than this one is the primary for all Sentinels.
    pub fn wait_for_failover_from(&self, old: usize) {
        let before = self.servers[old].port();
        wait_blocking("another primary", PATIENCE, || {
            let named: Vec<_> = self.sentinels.iter().filter_map(|sentinel| self.named_by(sentinel)).collect();
            let moved = named.iter().filter(|&&port| port != before).count();
            holds(moved == self.sentinels.len(), || format!("the Sentinels name {named:?}, {before} was it"))
        });
    }

    /// Makes the Sentinels promote a replica although the primary works.
    pub fn fail_over(&self) {
        wait_blocking("a Sentinel begins a failover", PATIENCE, || {
            self.ask::<String>(&self.sentinels[0], &["SENTINEL", "FAILOVER", NAME])
        });
    }

    /// Waits until all replicas have what the primary has.
    pub fn wait_until_replicated(&self) {
        let primary = &self.servers[self.primary()];
        let replicas = self.servers.iter().filter(|server| server.runs()).count() - 1;
        wait_blocking("the replicas have everything", PATIENCE, || {
            let text: String = primary.command(&["INFO", "replication"])?;
            let field =
                |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
            let offset = field("master_repl_offset:");
            let caught_up = text.lines().filter(|line| line.contains(&format!("offset={},", offset.trim()))).count();
            holds(caught_up == replicas, || text.clone())
        });
    }

    /// Stops a Sentinel, which then accepts connections and does not answer.
    pub fn freeze_sentinel(&self, index: usize) {
        self.sentinels[index].process.freeze();
    }

    /// Kills a Sentinel.
    pub fn kill_sentinel(&mut self, index: usize) {
        self.sentinels[index].process.kill();
    }

    /// Whether a server runs and is a primary.
    fn is_primary(&self, index: usize) -> bool {
        let server = &self.servers[index];
        server.runs() && matches!(server.command::<Role>(&["ROLE"]), Ok(Role::Primary { .. }))
    }

    fn named_by(&self, sentinel: &Sentinel) -> Option<u16> {
        let answer: Option<(String, u16)> = self.ask(sentinel, &["SENTINEL", "get-master-addr-by-name", NAME]).ok()?;
        answer.map(|(_, port)| port)
    }

    /// Waits until each Sentinel knows the replicas and the other Sentinels, without which there is no failover.
    fn wait_until_watched(&self) {
        let (replicas, others) = (self.servers.len() - 1, self.sentinels.len() - 1);
        for sentinel in &self.sentinels {
            wait_blocking("a Sentinel knows the others", PATIENCE, || {
                let known: std::collections::HashMap<String, String> =
                    self.ask(sentinel, &["SENTINEL", "MASTER", NAME])?;
                let is = |name: &str, number: usize| known.get(name) == Some(&number.to_string());
                let ready = is("num-slaves", replicas) && is("num-other-sentinels", others);
                holds(ready && known.get("flags").is_some_and(|flags| flags == "master"), || format!("{known:?}"))
            });
        }
        self.wait_until_replicated();
    }

    fn ask<T: FromRedisValue>(&self, sentinel: &Sentinel, words: &[&str]) -> Result<T, String> {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        crate::redis::command_at(&format!("redis://{login}127.0.0.1:{}", sentinel.port), words)
    }
}

/// Starts a Sentinel that watches the server at this port. The port in `extra` is used if it has one for TLS.
fn start_sentinel(server: u16, quorum: usize, extra: &str) -> Sentinel {
    let dir = dirs::fresh("sentinel");
    let tls_port = extra.lines().find_map(|line| line.strip_prefix("tls-port ")).and_then(|port| port.parse().ok());
    let port = if tls_port.is_some() { 0 } else { ports::free() };
    let file = dir.join("sentinel.conf");
    let settings = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\n{extra}sentinel monitor {NAME} 127.0.0.1 {server} {quorum}\n\
         sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 10000\n",
        dir.display()
    );
    std::fs::write(&file, settings).expect("the settings of a Sentinel");
    let args = [file.display().to_string(), "--sentinel".to_owned()];
    let log = dirs::fresh("sentinel-log").join("sentinel.log");
    let process = Process::start(&crate::redis::program(), &args, &[], None, &log);
    Sentinel { port: tls_port.unwrap_or(port), process }
}
