//! Runs the services in Python (`bench/per_event`).

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sluice_tests::dirs;
use sluice_tests::process::{Process, tail};

use crate::load::http::Connection;
use crate::watch::cpu::Watched;

/// What uvicorn logs when a process answers requests.
const STARTED: &str = "Application startup complete.";
/// How long a service may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the Python environment if it does not exist. Returns the path of its interpreter.
///
/// # Errors
/// If it cannot be created: there is no Python, or the package index cannot be reached.
pub fn environment(target: &Path) -> anyhow::Result<PathBuf> {
    let made = Command::new(folder().join("environment")).arg(target).stderr(Stdio::inherit()).output();
    let made = made.context("bench/per_event/environment cannot be started")?;
    ensure!(made.status.success(), "the Python environment of the services cannot be created");
    Ok(String::from_utf8(made.stdout)?.trim().into())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("per_event")
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    /// Where `/publish` is: `HOST:PORT`.
    pub address: String,
    process: Process,
    /// The processes that answer requests.
    processes: usize,
}

impl Service {
    /// Starts one of the modules of `bench/per_event` with a number of processes, and waits until all of them answer
    /// requests.
    ///
    /// # Errors
    /// If it ends, or does not answer within 30 seconds; with the end of its log.
    pub async fn start(
        python: &Path,
        module: &str,
        processes: usize,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let app = format!("{module}:app");
        let source = folder().display().to_string();
        let workers = processes.to_string();
        let mut args = vec!["-m", "uvicorn", &app, "--app-dir", &source, "--port", &port, "--no-access-log"];
        if processes > 1 {
            args.extend(["--workers", &workers]);
        }
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut env: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        // Without it Python would write compiled files into the folder of the sources.
        env.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        let log = dirs::fresh(module).join("service.log");
        let process = Process::start(python, &args, &env, None, &log);
        let mut service = Self { address: format!("127.0.0.1:{port}"), process, processes };
        service.ready().await.with_context(|| service.log_tail())?;
        Ok(service)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.exited() {
                bail!("the service ended with {status}");
            }
            let started_processes = fs::read_to_string(self.process.log())?.matches(STARTED).count();
            if started_processes == self.processes
                && let Ok(mut connection) = Connection::open(&self.address).await
            {
                let response = connection.get("/health").await?;
                ensure!(response.status == 200, "/health answered {}", response.status);
                return Ok(());
            }
            ensure!(started.elapsed() < START_TIMEOUT, "the service does not answer after {START_TIMEOUT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns its processes.
    pub fn watched(&self) -> Watched {
        Watched { with_children: self.processes > 1, ..Watched::of("service", [self.process.id()]) }
    }

    /// Returns the end of its log, for an error message.
    pub fn log_tail(&self) -> String {
        tail(self.process.log(), 20)
    }

    /// Stops the service with SIGTERM.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stopped = tokio::task::spawn_blocking(move || self.process.terminate(Duration::from_secs(10)));
        stopped.await?.context("the service did not end")?;
        Ok(())
    }
}
