//! A server of one test, in a folder of its own.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::wait::{holds, wait_until};

/// Below the range from which the kernel takes ports for outgoing connections, so that the port of a killed server is still
/// free when it starts again.
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;
static NEXT_PORT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(rand::random_range(0..PORTS)));

/// `sluice-aggregator standalone`. It is killed when it is dropped.
pub struct Server {
    dir: TempDir,
    options: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts a server, and waits until it is ready.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server with more options.
    pub async fn with(options: &[&str]) -> Self {
        let mut server = Self::stopped(options);
        server.launch();
        server.ready().await;
        server
    }

    /// Returns a server that is not started yet.
    pub fn stopped(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { dir, options, port: free_port(), child: None }
    }

    /// Starts the server on the data that it has, without waiting.
    pub fn launch(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        // The kernel kills it when the thread of this test ends, also if the test is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(executable()).args(["standalone", "--data"]);
        command.arg(self.dir.path().join("data")).args(["--listen", &self.address()]).args(&self.options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until it answers.
    pub async fn ready(&mut self) {
        let address = self.address();
        wait_until("the server listens", async || {
            let child = self.child.as_mut().unwrap();
            assert!(child.try_wait().unwrap().is_none(), "the server ended:\n{}", self.log());
            std::net::TcpStream::connect(&address).map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Sends `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns `/stats` once nothing is in the backlog.
    pub async fn stats(&self) -> Value {
        wait_until("the backlog is stored", async || {
            let stats = get(&format!("{}/stats", self.url())).await?;
            holds(stats["backlog"] == 0, &stats).map(|()| stats)
        })
        .await
    }

    /// Returns how many events were accepted and how many of them were stored.
    pub async fn counts(&self) -> (u64, u64) {
        let stats = self.stats().await;
        (stats["received"].as_u64().unwrap(), stats["unique_processed"].as_u64().unwrap())
    }

    /// Returns all stored events of a topic by their ids, each of which must be there once.
    pub async fn events(&self, topic: &str) -> BTreeMap<String, Value> {
        self.stats().await;
        let mut events = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = get(&format!("{}/events?topic={topic}&limit=1000{cursor}", self.url())).await.unwrap();
            for event in page["events"].as_array().unwrap() {
                let id = event["event_id"].as_str().unwrap().to_owned();
                assert!(events.insert(id, event.clone()).is_none(), "stored twice: {event}");
            }
            let Some(next) = page["next_cursor"].as_str() else { return events };
            cursor = format!("&cursor={next}");
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            println!("the end of the server's log:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

async fn get(url: &str) -> Result<Value, String> {
    let client = client();
    let answer = client.get(url).send().await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| error.to_string())?;
    if status != 200 {
        return Err(format!("{status}: {text}"));
    }
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

fn client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().unwrap()
}

/// Returns a port that nobody listens on. This process never returns the same one twice.
pub fn free_port() -> u16 {
    let ports = (0..PORTS).map(|_| FIRST_PORT + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % PORTS);
    ports.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

fn executable() -> PathBuf {
    // A test is target/debug/deps/client-….
    let ours = std::env::current_exe().unwrap();
    let beside = || ours.parent().unwrap().parent().unwrap().join("sluice-aggregator");
    let path = std::env::var_os("SLUICE_AGGREGATOR").map_or_else(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p sluice-aggregator`, or name it in SLUICE_AGGREGATOR",
        path.display()
    );
    path
}
