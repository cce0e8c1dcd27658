//! Sluice itself: the release programs, as a user starts them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use sluice_tests::dirs;
use sluice_tests::process::tail;
use sluice_tests::program::Program;

use super::servers::Servers;
use crate::watch::cpu::Watched;

/// The most events that an aggregator stores in one transaction: its default.
pub const BATCH_EVENTS: usize = 2400;
/// The workers of an aggregator, each with a connection to PostgreSQL: its default.
pub const WORKERS: usize = 2;

/// Builds the programs with the release profile, so that the present sources are measured. Does nothing if
/// `SLUICE_BIN_DIR` names a folder with the programs, or if cargo did not start this process.
///
/// # Errors
/// If cargo cannot be started, or the build fails.
pub fn build() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    if std::env::var_os("SLUICE_BIN_DIR").is_some() {
        return Ok(());
    }
    let args = ["build", "--release", "--locked", "-p", "sluice-publisher", "-p", "sluice-aggregator"];
    let status = Command::new(cargo).args(args).status().context("cannot start cargo")?;
    ensure!(status.success(), "the build of the programs failed");
    Ok(())
}

/// Builds the programs of the last commit before events lay in partitions, unless they are built already. Returns the
/// folder with them.
///
/// # Errors
/// If the build fails, or the history of the repository is missing.
pub fn build_old(target: &Path) -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/old-programs");
    let mut build = Command::new(&script);
    build.arg("before-partitions").env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit());
    let built = build.output().with_context(|| format!("{} cannot be started", script.display()))?;
    ensure!(built.status.success(), "the programs of the last commit before partitions cannot be built");
    Ok(String::from_utf8(built.stdout)?.trim().into())
}

/// The running programs: a publisher with its aggregators, or the one program of `standalone`.
#[derive(Debug)]
pub struct Sluice {
    /// The name of the schema, and the prefix of the stream.
    pub name: String,
    /// Where `/publish` is: `HOST:PORT`.
    pub address: String,
    publisher: Option<Program>,
    aggregators: Vec<Program>,
    data: PathBuf,
}

impl Sluice {
    /// Starts a publisher and `aggregators` aggregators, with a new stream and a new schema, and waits until
    /// they are ready. Each aggregator has as many workers as COPY has connections.
    pub async fn start(servers: &Servers, name: &str, aggregators: usize) -> anyhow::Result<Self> {
        Self::launch(servers, name, aggregators, (&[], &[]), None).await
    }

    /// Does the same as [`Sluice::start`] with one aggregator, with the programs in a folder.
    pub async fn start_from(servers: &Servers, name: &str, folder: &Path) -> anyhow::Result<Self> {
        Self::launch(servers, name, 1, (&[], &[]), Some(folder)).await
    }

    /// Does the same as [`Sluice::start`], with further options for the publisher.
    pub async fn start_with(
        servers: &Servers,
        name: &str,
        aggregators: usize,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        Self::start_with_both(servers, name, aggregators, options, &[]).await
    }

    /// Does the same as [`Sluice::start`], with further options for the publisher and for the aggregators.
    pub async fn start_with_both(
        servers: &Servers,
        name: &str,
        aggregators: usize,
        options: &[&str],
        aggregator_options: &[&str],
    ) -> anyhow::Result<Self> {
        Self::launch(servers, name, aggregators, (options, aggregator_options), None).await
    }

    async fn launch(
        servers: &Servers,
        name: &str,
        aggregators: usize,
        (options, aggregator_options): (&[&str], &[&str]),
        folder: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let dir = dirs::fresh(name);
        let (redis, postgres) = (servers.redis.url(), servers.postgres.url());
        let (batch, workers) = (BATCH_EVENTS.to_string(), WORKERS.to_string());
        let aggregator = |number: usize| {
            let consumer = format!("aggregator-{number}");
            let mut args = vec!["run", "--workers", &workers, "--batch-events", &batch, "--consumer", &consumer];
            args.extend(["--redis-url", &redis, "--stream-prefix", name]);
            args.extend(["--database-url", &postgres, "--database-schema", name]);
            args.extend(aggregator_options);
            program(&consumer, &dir, "sluice-aggregator", &args)
        };
        let mut aggregators: Vec<Program> = (0..aggregators).map(aggregator).collect();
        let query = aggregators.first().map(Program::base);
        let mut args = vec!["serve", "--redis-url", &redis, "--stream-prefix", name];
        if !options.contains(&"--streams") {
            args.extend(["--streams", "1"]);
        }
        args.extend(query.iter().flat_map(|url| ["--query-url", url]));
        args.extend(options);
        let mut publisher = program("publisher", &dir, "sluice-publisher", &args);
        if let Some(folder) = folder {
            aggregators.iter_mut().chain([&mut publisher]).for_each(|program| program.take_from(folder));
        }
        for aggregator in &mut aggregators {
            aggregator.start().await;
        }
        publisher.start().await;
        let address = address(&publisher);
        Ok(Self { name: name.to_owned(), address, publisher: Some(publisher), aggregators, data: dir })
    }

    /// Starts `standalone` with an empty folder, and waits until it is ready.
    pub async fn start_standalone(name: &str) -> anyhow::Result<Self> {
        let dir = dirs::fresh(name);
        let data = dir.join("data");
        let args = ["standalone", "--data", &data.display().to_string()];
        let mut program = program("standalone", &dir, "sluice-aggregator", &args);
        program.start().await;
        let address = address(&program);
        Ok(Self { name: name.to_owned(), address, publisher: None, aggregators: vec![program], data })
    }

    /// Returns the folder with the data of `standalone`.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the processes: the publisher, and all aggregators together; or `standalone`.
    pub fn processes(&self) -> Vec<Watched> {
        let pids = |programs: &[Program]| programs.iter().map(|program| program.process().id()).collect();
        match &self.publisher {
            Some(publisher) if self.aggregators.is_empty() => {
                vec![Watched::of("publisher", [publisher.process().id()])]
            }
            Some(publisher) => vec![
                Watched::of("publisher", [publisher.process().id()]),
                Watched::of::<Vec<u32>>("aggregator", pids(&self.aggregators)),
            ],
            None => vec![Watched::of::<Vec<u32>>("standalone", pids(&self.aggregators))],
        }
    }

    /// Returns the addresses of all programs, as `HOST:PORT`.
    pub fn addresses(&self) -> Vec<String> {
        self.publisher.iter().chain(&self.aggregators).map(address).collect()
    }

    /// Stops all programs with SIGTERM, and returns the value of `measured`.
    ///
    /// # Errors
    /// If `measured` is an error: then the end of each program's log is added to it. If a program fails.
    pub async fn finish<T>(self, measured: anyhow::Result<T>) -> anyhow::Result<T> {
        let done = measured.with_context(|| self.log_tail())?;
        self.stop().await?;
        Ok(done)
    }

    fn log_tail(&self) -> String {
        let of = |program: &Program| format!("{}:\n{}", program.name(), tail(program.process().log(), 10));
        self.publisher.iter().chain(&self.aggregators).map(of).collect::<Vec<_>>().join("\n")
    }

    async fn stop(self) -> anyhow::Result<()> {
        let stop = move || {
            for mut program in self.publisher.into_iter().chain(self.aggregators) {
                let log = program.log();
                let status = program.terminate();
                ensure!(status.is_some_and(|s| s.success()), "{} ended with {status:?}:\n{log}", program.name());
            }
            Ok(())
        };
        tokio::task::spawn_blocking(stop).await.context("stopping the programs")?
    }
}

fn program(name: &str, dir: &Path, binary: &str, args: &[&str]) -> Program {
    Program::new(name, binary, args.iter().map(|&arg| arg.to_owned()).collect(), &[], dir)
}

fn address(program: &Program) -> String {
    program.address()
}
