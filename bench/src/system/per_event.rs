//! The services in Python that store each event for itself (`bench/per_event`).

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sluice_tests::dirs;
use sluice_tests::process::{Process, tail};

use crate::load::http::Connection;
use crate::watch::cpu::Watched;

/// How long it may take to start.
const START: Duration = Duration::from_secs(30);

/// Makes the Python environment, once; answers its interpreter.
///
/// # Errors
/// When it cannot be had: no Python, or no package index.
pub fn environment(target: &Path) -> anyhow::Result<PathBuf> {
    let made = Command::new(folder().join("environment")).arg(target).stderr(Stdio::inherit()).output();
    let made = made.context("bench/per_event/environment cannot be started")?;
    ensure!(made.status.success(), "the services' Python environment cannot be had here");
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
}

impl Service {
    /// Starts one of the modules of `bench/per_event`, and waits until it answers.
    pub async fn start(python: &Path, module: &str, settings: &[(&str, String)]) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string();
        let app = format!("{module}:app");
        let source = folder().display().to_string();
        let args = ["-m", "uvicorn", &app, "--app-dir", &source, "--port", &port, "--no-access-log"];
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut env: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        // The sources' folder stays as it is.
        env.push(("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()));
        let log = dirs::fresh(module).join("service.log");
        let process = Process::start(python, &args, &env, None, &log);
        let mut service = Self { address: format!("127.0.0.1:{port}"), process };
        service.ready().await.with_context(|| service.last_words())?;
        Ok(service)
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.exited() {
                bail!("it ended with {status}");
            }
            if let Ok(mut connection) = Connection::open(&self.address).await {
                let answer = connection.get("/health").await?;
                ensure!(answer.status == 200, "/health answered {}", answer.status);
                return Ok(());
            }
            ensure!(started.elapsed() < START, "it does not answer after {START:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process.
    pub fn watched(&self) -> Watched {
        Watched::of("service", [self.process.id()])
    }

    /// The end of its log, for a failure.
    pub fn last_words(&self) -> String {
        tail(self.process.log(), 20)
    }

    /// Stops it by SIGTERM.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stopped = tokio::task::spawn_blocking(move || self.process.terminate(Duration::from_secs(10)));
        stopped.await?.context("the service did not end")?;
        Ok(())
    }
}
