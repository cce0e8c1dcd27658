//! The blocks: each starts what it measures on empty tables, sends a workload, waits until it is
//! counted, checks that it was stored exactly, and answers figures.

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

use anyhow::Context;

pub use exact::{Delivery, Expected};
pub use store::Store;

use crate::load::events::{Recipe, Workload};
use crate::plan::Measure;
use crate::report::figures::Figures;
use crate::system::servers::Servers;

/// The name of the figure that is compared: events received and stored or dropped, per second.
pub const RATE: &str = "k events/s";

/// Connections for requests of one event: as many as are packed together while an append is on its
/// way to the disk.
pub const CONNECTIONS_SINGLE: usize = 256;

/// What the blocks share.
#[derive(Debug)]
pub struct Lab {
    /// The servers of the whole run.
    pub servers: Servers,
    /// Events in a block with requests of 100.
    pub events: usize,
    /// Connections that publish.
    pub connections: usize,
    /// The rows to COPY, if that is measured.
    pub bar: Option<copy::Bar>,
    /// The interpreter of the services, if they are measured.
    pub python: Option<PathBuf>,
    rendered: HashMap<Recipe, Arc<Workload>>,
}

impl Lab {
    /// An empty one.
    pub fn new(servers: Servers, events: usize, connections: usize) -> Self {
        Self { servers, events, connections, bar: None, python: None, rendered: HashMap::new() }
    }

    /// A workload, rendered when it is first asked for.
    pub fn workload(&mut self, recipe: Recipe) -> Arc<Workload> {
        self.rendered.entry(recipe).or_insert_with(|| Workload::render(recipe).into()).clone()
    }

    /// Frees what was kept for blocks that come again.
    pub fn forget(&mut self) {
        self.rendered.clear();
        self.bar = None;
    }

    /// What a measure sends; COPY and the simulator send nothing of ours.
    fn recipe(&self, measure: Measure) -> Recipe {
        let events = self.events;
        let of = |events: usize, per_request: usize| Recipe { per_request, ..Recipe::new(events, 0) };
        match measure {
            Measure::Dup90 | Measure::Dup90x2 | Measure::Dup90x4 => Recipe::new(events, 90),
            Measure::Dup30 | Measure::Dup30x2 | Measure::Dup30x4 => Recipe::new(events, 30),
            Measure::Standalone => Recipe::new(events, 30),
            // A few seconds' worth for those who store some thousands a second.
            Measure::PerEventRedisPostgres => Recipe::new((events / 100).clamp(1500, 4000), 30),
            Measure::PerEventSqlite => Recipe::new((events / 50).clamp(3000, 8000), 30),
            Measure::Single | Measure::Ingest1 => of(events / 3, 1),
            Measure::Ingest10 => of(events, 10),
            Measure::Ingest1000 => of(events, 1000),
            _ => Recipe::new(events, 0),
        }
    }

    /// Runs a block, under a name that no other has.
    pub async fn run(&mut self, measure: Measure, name: &str) -> anyhow::Result<Figures> {
        let recipe = self.recipe(measure);
        let workload = self.workload(recipe);
        let (servers, connections) = (&self.servers, self.connections);
        match measure {
            Measure::Copy => self.bar.as_ref().context("no rows to copy")?.run(servers).await,
            Measure::Simulate => simulate::run(servers, name).await,
            Measure::Standalone => standalone::run(&workload, connections, name).await,
            Measure::PerEventRedisPostgres | Measure::PerEventSqlite => {
                let python = self.python.as_deref().context("no Python environment")?;
                if measure == Measure::PerEventSqlite {
                    per_event::sqlite(python, &workload, connections).await
                } else {
                    per_event::redis_postgres(servers, python, &workload, connections, name).await
                }
            }
            Measure::Ingest1 => ingest::run(servers, &workload, CONNECTIONS_SINGLE, name).await,
            Measure::Ingest10 | Measure::Ingest100 | Measure::Ingest1000 => {
                ingest::run(servers, &workload, connections, name).await
            }
            Measure::Single => end_to_end::run(servers, &workload, CONNECTIONS_SINGLE, 1, name).await,
            Measure::Dup0x2 | Measure::Dup30x2 | Measure::Dup90x2 => {
                end_to_end::run(servers, &workload, connections, 2, name).await
            }
            Measure::Dup0x4 | Measure::Dup30x4 | Measure::Dup90x4 => {
                end_to_end::run(servers, &workload, connections, 4, name).await
            }
            _ => end_to_end::run(servers, &workload, connections, 1, name).await,
        }
    }
}
