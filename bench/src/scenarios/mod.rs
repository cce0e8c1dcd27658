//! The scenarios. Each starts a system on empty tables, sends a workload, waits until it is counted, checks
//! that it was stored exactly, and returns figures.

mod batched;
pub mod copy;
pub mod end_to_end;
mod exact;
mod ingest;
mod per_event;
pub mod simulate;
mod standalone;
mod store;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use sluice_tests::dirs;

pub use exact::{Delivery, Expected};
pub use store::Store;

use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::Scenario;
use crate::report::figures::Figures;
use crate::system::credentials::Credential;
use crate::system::servers::Servers;

/// The connections for requests of one event. Each client waits for its response, and the publisher packs
/// the requests that arrive while an append is written to the disk into the next entry: with fewer
/// connections there would be few to pack.
pub const CONNECTIONS_SINGLE: usize = 256;

/// What the scenarios share.
#[derive(Debug)]
pub struct Context {
    /// The servers of the whole run.
    pub servers: Servers,
    /// Events that a scenario sends in requests of 100.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
    /// The rows to COPY, and the table like Sluice's. `None` before the first scenario has stored them.
    pub copy: Option<copy::Baseline>,
    /// The same with the table that stays as it is.
    pub copy_fixed: Option<copy::Baseline>,
    /// The Python interpreter for the services, if they are measured.
    pub python: Option<PathBuf>,
    /// The folder with the programs of the last commit before events lay in partitions, if they are measured.
    pub old: Option<PathBuf>,
    rendered: HashMap<WorkloadSpec, Arc<Workload>>,
}

impl Context {
    /// Creates a context without workloads and rows.
    pub fn new(servers: Servers, events: usize, connections: usize) -> Self {
        Self {
            servers,
            events,
            connections,
            copy: None,
            copy_fixed: None,
            python: None,
            old: None,
            rendered: HashMap::new(),
        }
    }

    /// Returns a workload. It is rendered once, and reused in later rounds.
    pub fn workload(&mut self, spec: WorkloadSpec) -> Arc<Workload> {
        self.rendered.entry(spec).or_insert_with(|| Workload::render(spec).into()).clone()
    }

    /// Frees the workloads and the rows to COPY, which only the rounds need.
    pub fn release_workloads(&mut self) {
        self.rendered.clear();
        (self.copy, self.copy_fixed) = (None, None);
    }

    /// Returns what a scenario sends. COPY and the simulator do not use it.
    fn spec(&self, scenario: Scenario) -> WorkloadSpec {
        let events = self.events;
        let of = |events: usize, per_request: usize| WorkloadSpec { per_request, ..WorkloadSpec::new(events, 0) };
        match scenario {
            Scenario::Dup90 | Scenario::Dup90x2 | Scenario::Dup90x4 => WorkloadSpec::new(events, 90),
            Scenario::Dup30 | Scenario::Dup30x2 | Scenario::Dup30x4 => WorkloadSpec::new(events, 30),
            Scenario::Standalone => WorkloadSpec::new(events, 30),
            // The services store one or two thousand events a second: so many take them a few seconds.
            Scenario::PerEventRedisPostgres => WorkloadSpec::new((events / 100).clamp(1500, 4000), 30),
            Scenario::PerEventSqlite => WorkloadSpec::new((events / 50).clamp(3000, 8000), 30),
            // It is measured twice, and stores tens of thousands a second.
            Scenario::BatchedPeer => WorkloadSpec::new(events / 3, 30),
            Scenario::Single
            | Scenario::Ingest1
            | Scenario::Bare
            | Scenario::Ingest1Token
            | Scenario::Ingest1Jwt
            | Scenario::Ingest1UnreadJwt => of(events / 3, 1),
            Scenario::Ingest10 => of(events, 10),
            Scenario::Ingest1000 => of(events, 1000),
            _ => WorkloadSpec::new(events, 0),
        }
    }

    /// Runs a scenario. No other may have the same `name`: it is that of the schema and the streams.
    pub async fn run(&mut self, scenario: Scenario, name: &str) -> anyhow::Result<Figures> {
        let spec = self.spec(scenario);
        let workload = self.workload(spec);
        let (servers, connections) = (&self.servers, self.connections);
        match scenario {
            Scenario::Copy => self.copy.as_ref().context("no rows to copy")?.run(servers).await,
            Scenario::CopyFixed => self.copy_fixed.as_ref().context("no rows to copy")?.run(servers).await,
            Scenario::Simulate => simulate::run(servers, name).await,
            Scenario::Standalone => standalone::run(&workload, connections, name).await,
            Scenario::PerEventRedisPostgres | Scenario::PerEventSqlite => {
                let python = self.python.as_deref().context("no Python environment")?;
                if scenario == Scenario::PerEventSqlite {
                    per_event::sqlite(python, &workload, connections).await
                } else {
                    per_event::redis_postgres(servers, python, &workload, connections, name).await
                }
            }
            Scenario::BatchedPeer => {
                let python = self.python.as_deref().context("no Python environment")?;
                batched::run(servers, python, &workload, connections, name).await
            }
            Scenario::Ingest1 => ingest::run(servers, &workload, CONNECTIONS_SINGLE, None, name).await,
            Scenario::Bare => ingest::bare(&workload, CONNECTIONS_SINGLE).await,
            Scenario::Ingest1Token => {
                let credential = Credential::token(&dirs::fresh("token"))?;
                ingest::run(servers, &workload, CONNECTIONS_SINGLE, Some(&credential), name).await
            }
            Scenario::Ingest1Jwt | Scenario::Ingest1UnreadJwt => {
                let mut credential = Credential::jwt(&dirs::fresh("jwt"))?;
                if scenario == Scenario::Ingest1UnreadJwt {
                    credential.options.clear();
                }
                ingest::run(servers, &workload, CONNECTIONS_SINGLE, Some(&credential), name).await
            }
            Scenario::Ingest10 | Scenario::Ingest100 | Scenario::Ingest1000 => {
                ingest::run(servers, &workload, connections, None, name).await
            }
            Scenario::Single => end_to_end::run(servers, &workload, CONNECTIONS_SINGLE, 1, name).await,
            Scenario::Dup0Old => {
                let folder = self.old.as_deref().context("no programs of an older commit")?;
                end_to_end::run_from(servers, &workload, connections, folder, name).await
            }
            Scenario::Dup0x2 | Scenario::Dup30x2 | Scenario::Dup90x2 => {
                end_to_end::run(servers, &workload, connections, 2, name).await
            }
            Scenario::Dup0x4 | Scenario::Dup30x4 | Scenario::Dup90x4 => {
                end_to_end::run(servers, &workload, connections, 4, name).await
            }
            _ => end_to_end::run(servers, &workload, connections, 1, name).await,
        }
    }
}
