//! One of our programs, as a user starts it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::ports;
use crate::process::{Process, tail};
use crate::wait::wait_until;

/// How long a program may take from its start to its readiness.
const START: Duration = Duration::from_secs(120);

/// A program with its settings and its port, which are the same after a restart.
#[derive(Debug)]
pub struct Program {
    name: String,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Program {
    /// Creates a program that is not started yet. `--listen` is added; the log is `NAME.log` in `dir`.
    pub fn new(name: &str, binary: &str, args: Vec<String>, env: &[(String, String)], dir: &Path) -> Self {
        let port = ports::free();
        let mut all = args;
        all.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        let log = dir.join(format!("{name}.log"));
        Self { name: name.to_owned(), binary: find(binary), args: all, env: env.to_vec(), log, port, process: None }
    }

    /// Changes the value of an option for its next start.
    pub fn replace_option(&mut self, option: &str, value: &str) {
        let at = self.args.iter().position(|arg| arg == option).expect("an option that was given");
        value.clone_into(&mut self.args[at + 1]);
    }

    /// Takes the executable from this folder at its next start: another version of the program.
    pub fn take_from(&mut self, folder: &Path) {
        self.binary = folder.join(self.binary_name());
    }

    /// Starts the program, and waits until it listens and is ready.
    pub async fn start(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// Starts the program without waiting.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::start(&self.binary, &self.args, &self.env, None, &self.log));
    }

    /// Waits until `/readyz` returns 200.
    pub async fn ready(&mut self) {
        let client = crate::client::http(&self.base());
        let url = format!("{}/readyz", self.base());
        let (name, log) = (self.name.clone(), self.log.clone());
        let process = self.process.as_mut().expect("the program was started");
        wait_until(&format!("{name} is ready"), START, || {
            let gone = process.exited();
            let (client, url, log) = (&client, &url, &log);
            async move {
                assert!(gone.is_none(), "it ended with {}:\n{}", gone.unwrap_or_default(), tail(log, 30));
                match client.get(url).timeout(Duration::from_secs(10)).send().await {
                    Ok(answer) if answer.status() == 200 => Ok(()),
                    Ok(answer) => Err(format!("{} {}", answer.status(), answer.text().await.unwrap_or_default())),
                    Err(e) => Err(format!("{e}; its log ends with:\n{}", tail(log, 5))),
                }
            }
        })
        .await;
    }

    /// Sends `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends SIGTERM, and waits for the end. Returns `None` when it had to be killed after two minutes.
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take().expect("the program runs");
        process.terminate(Duration::from_secs(120))
    }

    /// Sends SIGTERM without waiting for the end.
    pub fn ask_to_stop(&self) {
        self.process.as_ref().expect("the program runs").signal(Signal::TERM);
    }

    /// Waits for the end after [`Program::ask_to_stop`]. Returns `None` when it had to be killed after `patience`.
    pub fn stopped(&mut self, patience: Duration) -> Option<ExitStatus> {
        self.process.take().expect("the program runs").ended(patience)
    }

    /// Sends SIGSTOP: the program is suspended, and its connections stay open.
    pub fn freeze(&self) {
        self.process.as_ref().expect("the program runs").signal(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.process.as_ref().expect("the program runs").signal(Signal::CONT);
    }

    /// Returns its process, while it runs.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("the program runs")
    }

    /// Whether it was started and not stopped by the test.
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Returns its name, which is also the name of its log and, for an aggregator, of the consumer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the executable.
    pub fn binary_name(&self) -> &'static str {
        if self.binary.ends_with("sluice-publisher") { "sluice-publisher" } else { "sluice-aggregator" }
    }

    /// Returns the URL at which it serves: `http://127.0.0.1:PORT`, or `https` if it has a certificate.
    pub fn base(&self) -> String {
        let tls = self.env.iter().any(|(name, _)| name == "SLUICE_TLS_CERT")
            || self.args.iter().any(|arg| arg == "--tls-cert");
        format!("{}://{}", if tls { "https" } else { "http" }, self.address())
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the whole log, over all restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Returns the file with its log.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Returns its settings, for a message.
    pub fn describe(&self) -> String {
        format!("{} {}", self.binary.display(), self.args.join(" "))
    }
}

/// Returns the folder of our executables: `SLUICE_BIN_DIR`, or the directory to which cargo writes them.
pub fn folder() -> PathBuf {
    std::env::var_os("SLUICE_BIN_DIR").map_or_else(
        || {
            let ours = std::env::current_exe().expect("the path of our executable");
            let dir = ours.parent().expect("its folder");
            // A test is target/debug/deps/api-…, and the benchmark target/release/sluice-bench.
            if dir.ends_with("deps") { dir.parent().expect("a target folder").to_owned() } else { dir.to_owned() }
        },
        PathBuf::from,
    )
}

/// Returns the path of an executable.
pub fn find(binary: &str) -> PathBuf {
    let path = folder().join(binary);
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build -p sluice-publisher -p sluice-aggregator`, \
         or name its folder in SLUICE_BIN_DIR",
        path.display()
    );
    path
}
