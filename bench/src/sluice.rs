//! The system under test: the release programs as a user starts them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use sluice_tests::dirs;
use sluice_tests::process::tail;
use sluice_tests::program::Program;
use sluice_tests::store::{StoreAddress, StoreReader};

use crate::cpu::Watched;
use crate::servers::Servers;

/// Builds the programs as they are released, so that what is measured is what the sources say.
/// Nothing to do where `SLUICE_BIN_DIR` names a folder with them, or cargo did not start us.
pub fn build() -> anyhow::Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    if std::env::var_os("SLUICE_BIN_DIR").is_some() {
        return Ok(());
    }
    let args = ["build", "--release", "--locked", "-p", "sluice-publisher", "-p", "sluice-aggregator"];
    let status = Command::new(cargo).args(args).status().context("cannot start cargo")?;
    ensure!(status.success(), "the programs do not build");
    Ok(())
}

/// A publisher and one aggregator with two workers, on a stream and a schema of their own.
#[derive(Debug)]
pub struct Sluice {
    /// Both the schema and the prefix of the stream.
    pub name: String,
    /// Where `/publish` is: `HOST:PORT`.
    pub address: String,
    publisher: Program,
    aggregator: Program,
    store: StoreAddress,
}

impl Sluice {
    /// Starts both and waits until they are ready.
    pub async fn start(servers: &Servers, name: &str) -> anyhow::Result<Self> {
        let dir = dirs::fresh(name);
        let (redis, postgres) = (servers.redis.url(), servers.postgres.url());
        let mut aggregator = program(
            "aggregator",
            &dir,
            "sluice-aggregator",
            &[
                ["run", "--workers=2"],
                ["--redis-url", &redis],
                ["--stream-prefix", name],
                ["--database-url", &postgres],
                ["--database-schema", name],
                ["--consumer", "aggregator-0"],
            ],
        );
        let mut publisher = program(
            "publisher",
            &dir,
            "sluice-publisher",
            &[
                ["serve", "--streams=1"],
                ["--redis-url", &redis],
                ["--stream-prefix", name],
                ["--query-url", &aggregator.base()],
            ],
        );
        aggregator.start().await;
        publisher.start().await;
        let address = publisher.base().trim_start_matches("http://").to_owned();
        let store = StoreAddress::Postgres { url: postgres, schema: name.to_owned() };
        Ok(Self { name: name.to_owned(), address, publisher, aggregator, store })
    }

    /// A connection that reads what is stored.
    pub async fn reader(&self) -> anyhow::Result<StoreReader> {
        StoreReader::connect(&self.store).await.context("cannot read the store")
    }

    /// Its processes.
    pub fn processes(&self) -> [Watched; 2] {
        let watched = |name, program: &Program| Watched { name, pid: program.process().id(), with_children: false };
        [watched("publisher", &self.publisher), watched("aggregator", &self.aggregator)]
    }

    /// The end of what the programs logged, for a failure.
    pub fn last_words(&self) -> String {
        let of = |program: &Program| format!("{}:\n{}", program.name(), tail(program.process().log(), 10));
        format!("{}\n{}", of(&self.publisher), of(&self.aggregator))
    }

    /// Stops both by SIGTERM.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let stop = move || {
            for program in [&mut self.publisher, &mut self.aggregator] {
                let log = program.log();
                let status = program.terminate();
                ensure!(status.is_some_and(|s| s.success()), "{} ended with {status:?}:\n{log}", program.name());
            }
            Ok(())
        };
        tokio::task::spawn_blocking(stop).await.context("stopping the programs")?
    }
}

fn program(name: &str, dir: &Path, binary: &str, args: &[[&str; 2]]) -> Program {
    let args = args.concat().into_iter().map(str::to_owned).collect();
    Program::new(name, binary, args, &[], dir)
}
