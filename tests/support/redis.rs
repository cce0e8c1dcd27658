//! A Redis server of our own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisResult};

use crate::certificates::Identity;
use crate::process::{Process, tail};
use crate::wait::wait_blocking;
use crate::{dirs, ports};

/// How long a server may take to answer one command of a test.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a connection of [`connect`], where the client's own default is half a second: a busy machine is slower.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a connection of a test to a server.
///
/// # Errors
/// When the URL is wrong, or there is no connection.
pub async fn connect(url: &str) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// A Redis server with the settings that the system requires: every write is on disk before the response, and
/// nothing is evicted. Its data survives [`RedisServer::kill`] and [`RedisServer::start_again`].
#[derive(Debug)]
pub struct RedisServer {
    data: PathBuf,
    log: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    settings: Vec<String>,
    process: Option<Process>,
}

impl RedisServer {
    /// Starts a server with an empty directory.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Like [`RedisServer::start`], with further settings as `--NAME` and value, which override ours.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_in(&dirs::fresh("redis"), settings)
    }

    /// Like [`RedisServer::start_with`], with the data in this directory, which is on a disk of the test. The log
    /// is elsewhere.
    pub fn start_in(data: &Path, settings: &[&str]) -> Self {
        let mut server = Self::prepare_in(data, settings);
        server.start_again();
        server
    }

    /// Starts a replica of a server, with further settings, and waits until it has everything.
    pub fn start_replica_of(primary: &Self, settings: &[&str]) -> Self {
        let port = primary.port.to_string();
        // A server with few replicas waits for more of them before it sends its data.
        let replica = ["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"];
        let server = Self::start_with(&[&replica, settings].concat());
        wait_blocking("the replica is connected", Duration::from_secs(60), || {
            let info: String = server.command(&["INFO", "replication"])?;
            crate::wait::holds(info.contains("master_link_status:up"), || info.clone())
        });
        server
    }

    /// Starts a server that offers TLS with this certificate on a second port; with a CA of clients it demands a
    /// certificate of theirs. The first port, without TLS, is for the test itself.
    pub fn start_with_tls(identity: &Identity, client_ca: Option<&Path>) -> Self {
        Self::start_with_tls_and(identity, client_ca, &[])
    }

    /// Like [`RedisServer::start_with_tls`], with further settings.
    pub fn start_with_tls_and(identity: &Identity, client_ca: Option<&Path>, settings: &[&str]) -> Self {
        let mut server = Self::prepare_in(&dirs::fresh("redis"), settings);
        let port = ports::free();
        server.tls_port = Some(port);
        let port = port.to_string();
        let file = |path: &Path| path.display().to_string();
        let (cert, key) = (file(&identity.cert), file(&identity.key));
        let settings = [["--tls-port", &port], ["--tls-cert-file", &cert], ["--tls-key-file", &key]].concat();
        server.settings.extend(settings.into_iter().map(str::to_owned));
        let clients = match client_ca {
            Some(ca) => vec!["--tls-ca-cert-file".to_owned(), file(ca)],
            None => vec!["--tls-auth-clients".to_owned(), "no".to_owned()],
        };
        server.settings.extend(clients);
        server.start_again();
        server
    }

    fn prepare_in(data: &Path, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&word| word.to_owned()).collect();
        let log = dirs::fresh("redis-log").join("redis.log");
        Self { data: data.to_owned(), log, port: ports::free(), tls_port: None, settings, process: None }
    }

    /// Starts the server again with its data on the same port, and waits until it responds.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|reason| panic!("{reason}"));
    }

    /// Like [`RedisServer::start_again`], for data with which the server may refuse to start.
    ///
    /// # Errors
    /// The end of its log if it has ended instead of responding.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        let dir = self.data.display().to_string();
        let port = self.port.to_string();
        let args = [
            ["--port", &port],
            ["--bind", "127.0.0.1"],
            ["--dir", &dir],
            ["--appendonly", "yes"],
            ["--appendfsync", "always"],
            ["--maxmemory", "512mb"],
            ["--maxmemory-policy", "noeviction"],
            ["--save", ""],
        ];
        let ours = args.concat().into_iter().map(str::to_owned);
        let args: Vec<String> = ours.chain(self.settings.clone()).collect();
        let mut process = Process::start(&program(), &args, &[], None, &self.log);
        wait_blocking("Redis answers", Duration::from_secs(60), || match process.exited() {
            Some(status) => Ok(Err(format!("redis-server ended with {status}:\n{}", tail(process.log(), 30)))),
            None => self.ping().map(Ok).map_err(|e| e.to_string()),
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Sends `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("Redis runs").kill();
    }

    /// Whether it was started and not stopped by the test.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Copies the data of this server, which has ended, into a directory that does not exist.
    pub fn back_up(&self, backup: &Path) {
        copy(&self.data, backup);
    }

    /// Replaces the data of this server, which has ended, by a copy of them.
    pub fn restore(&mut self, backup: &Path) {
        let data = dirs::fresh("redis").join("data");
        copy(backup, &data);
        self.data = data;
    }

    /// Sends SIGTERM, and waits for the end. Fails when it takes longer than a minute.
    pub fn terminate(&mut self) {
        let status = self.process.take().expect("Redis runs").terminate(Duration::from_secs(60));
        assert!(status.is_some(), "Redis does not end on SIGTERM");
    }

    /// Returns its process, while it runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("Redis runs")
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns its URL for TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port())
    }

    /// Returns its port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns its port for TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port.expect("a server with TLS")
    }

    /// Returns the port that it tells to other nodes of a cluster.
    pub fn announced_port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// Sends one command on a connection of its own.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn command<T: FromRedisValue>(&self, words: &[&str]) -> Result<T, String> {
        command_at(&self.url(), words)
    }

    /// Returns its address, for a proxy.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn ping(&self) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 5];
        socket.read_exact(&mut answer)?;
        if &answer == b"+PONG" { Ok(()) } else { Err(std::io::Error::other("it is loading its data")) }
    }
}

/// Returns the program of the server: `SLUICE_REDIS_SERVER`, or `redis-server` from the `PATH`.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("SLUICE_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from)
}

/// Sends one command to the server at this URL, on a connection of its own.
///
/// # Errors
/// What went wrong, in words.
pub fn command_at<T: FromRedisValue>(url: &str, words: &[&str]) -> Result<T, String> {
    let answer = || {
        let mut connection = redis::Client::open(url)?.get_connection_with_timeout(COMMAND_TIMEOUT)?;
        connection.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query(&mut connection)
    };
    answer().map_err(|error: redis::RedisError| error.to_string())
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}
