//! Measures rates, queries and memory as the tables grow.
//!
//! ```text
//! at each size:  Sluice on the large tables │ the same on empty tables (in rounds) · queries at rest ·
//!                memory of each process
//! between sizes: new events through Sluice, then nothing until partitions are vacuumed and have their filters
//! ```
//!
//! The same processes run through all sizes. Each stored event is as likely as any other to be repeated by a
//! duplicate. The rate on empty tables is measured in every round as well, so that the ratio of the two rates
//! does not depend on how fast the machine is at that time. No checkpoint is forced between these
//! measurements: after a checkpoint PostgreSQL writes each page of the index to its log in full once more.
//! In production that happens every 15 minutes, and here it would happen every few seconds.

mod queries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::load::closed;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::GrowthPlan;
use crate::progress::Progress;
use crate::report::figures::{Figures, Group, RATE};
use crate::report::goals::TO_EMPTY;
use crate::report::plot::ON_EMPTY_TABLES;
use crate::report::results::{Column, Section};
use crate::scenarios::{Context, Delivery, Expected, Store};
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;
use crate::watch::cpu::{Reading, Watched};
use crate::watch::memory;

/// The schema of Sluice's large tables.
const LARGE: &str = "growth";
/// The percentage of duplicates in what is measured.
const DUPLICATE_PERCENT: u8 = 30;
/// The events that are rendered at a time while the tables grow, so that memory stays bounded.
const CHUNK_EVENTS: usize = 200_000;

/// Sluice and PostgreSQL are at rest if they use less than [`REST_CORES`] for so long. The maintenance of partitions runs
/// every few seconds.
const REST: Duration = Duration::from_secs(15);
const REST_CORES: f64 = 0.1;
/// The longest time that they may take for that.
const REST_WITHIN: Duration = Duration::from_secs(900);

/// Sluice with the tables that grow, and the numbers that they must have.
struct Growing<'a> {
    context: &'a Context,
    sluice: Sluice,
    store: Store,
    delivery: Delivery,
    expected: Expected,
}

/// Returns the number of steps of the progress bar.
pub fn steps(plan: &GrowthPlan) -> usize {
    plan.sizes.iter().map(|(_, rounds)| rounds + 1).sum()
}

/// Measures at all sizes.
pub async fn run(context: &Context, plan: &GrowthPlan, progress: &Progress) -> anyhow::Result<Section> {
    context.servers.empty_redis().await?;
    let sluice = Sluice::start(&context.servers, LARGE, 1).await?;
    let mut growing = Growing::new(context, sluice).await?;
    let columns = all_sizes(&mut growing, plan, progress).await;
    let columns = growing.sluice.finish(columns).await?;
    context.servers.drop_schema(LARGE).await?;
    context.servers.checkpoint().await?;
    Ok(Section {
        title: "Growth, by the number of rows stored",
        description: "30% duplicates, of any stored event with the same probability. The same load on empty tables follows in the \
               same round. Latency of queries at rest, through the publisher.",
        key: "growth",
        columns,
    })
}

async fn all_sizes(growing: &mut Growing<'_>, plan: &GrowthPlan, progress: &Progress) -> anyhow::Result<Vec<Column>> {
    let mut columns = Vec::new();
    for (size, rounds) in &plan.sizes {
        let millions = size / 1_000_000;
        progress.begin(format!("growing to {millions} million rows"));
        let growth = growing.grow(*size).await?;
        let rest = growing.come_to_rest().await?;
        progress.end(&format!("{} rows, at rest after {rest:.0} s", growing.expected.unique));
        let mut column = Column::new(&format!("{millions} million"), &format!("rows_{millions}m"));
        for round in 0..*rounds {
            progress.begin(format!("{millions} million rows, {}/{rounds}", round + 1));
            let mut figures = growing.measure(&format!("growth{millions}m{round}")).await?;
            if round == 0 {
                queries::measure(&mut figures, &growing.sluice.address).await?;
                growing.memory(&mut figures)?;
                if let Some(rate) = growth {
                    figures.add(Group::Rate, "new events, while growing to here, k events/s", rate);
                    figures.add(Group::Course, "seconds until at rest before it", rest);
                }
            }
            progress
                .end(&figures.get(Group::Rate, RATE).map_or_else(String::new, |rate| format!("{rate:.0} k events/s")));
            column.rounds.push((round, figures));
        }
        growing.delivery.check(&mut growing.store, growing.expected).await?;
        columns.push(column);
    }
    Ok(columns)
}

impl<'a> Growing<'a> {
    async fn new(context: &'a Context, sluice: Sluice) -> anyhow::Result<Self> {
        let store = Store::Postgres(context.servers.postgres().await?);
        let delivery = Delivery::of_schema(LARGE);
        Ok(Self { context, sluice, store, delivery, expected: Expected::default() })
    }

    fn servers(&self) -> &'a Servers {
        &self.context.servers
    }

    /// Sends new events until `rows` rows are stored. Returns how many were stored, in thousands a second; `None` if there
    /// were as many before.
    async fn grow(&mut self, rows: u64) -> anyhow::Result<Option<f64>> {
        let (began, before) = (Instant::now(), self.expected.unique);
        let mut next = self.next_chunk(rows).await?;
        while let Some(workload) = next {
            self.expected = self.expected.and(&workload);
            let (sent, rendered) = tokio::join!(
                closed::send(&self.sluice.address, &workload, self.context.connections),
                self.next_chunk(rows)
            );
            sent?;
            next = rendered?;
        }
        self.delivery.wait(&mut self.store, self.expected.received).await?;
        let new = self.expected.unique - before;
        Ok((new > 0).then(|| new as f64 / 1000.0 / began.elapsed().as_secs_f64()))
    }

    /// Waits until Sluice and PostgreSQL do nothing: then all closed partitions are vacuumed, and have filters. Returns how
    /// many seconds they took for it.
    async fn come_to_rest(&self) -> anyhow::Result<f64> {
        let mut watched = self.sluice.processes();
        watched.push(Watched::postgres(self.servers()));
        let used = || watched.iter().map(Watched::cpu_micros).sum::<anyhow::Result<f64>>();
        let began = Instant::now();
        loop {
            let (so_far, before) = (began.elapsed(), used()?);
            tokio::time::sleep(REST).await;
            if used()? - before < REST_CORES * REST.as_micros() as f64 {
                return Ok(so_far.as_secs_f64());
            }
            ensure!(began.elapsed() < REST_WITHIN, "Sluice and PostgreSQL do not come to rest");
        }
    }

    /// Renders the next new events. Returns `None` if `rows` rows are stored already.
    async fn next_chunk(&self, rows: u64) -> anyhow::Result<Option<Arc<Workload>>> {
        let after = self.expected.unique as u64;
        let events = usize::try_from(rows.saturating_sub(after))?.min(CHUNK_EVENTS);
        if events == 0 {
            return Ok(None);
        }
        let spec = WorkloadSpec { after, ..WorkloadSpec::new(events, 0) };
        Ok(Some(tokio::task::spawn_blocking(move || Workload::render(spec).into()).await?))
    }

    /// Measures one round: on the large tables, and on empty ones.
    async fn measure(&mut self, name: &str) -> anyhow::Result<Figures> {
        let spec = WorkloadSpec::new(self.context.events * 2 / 3, DUPLICATE_PERCENT);
        let mut figures = Figures::default();
        let on_large = self.on_large_tables(spec, &mut figures).await?;
        let on_empty = self.on_empty_tables(name, &Arc::new(Workload::render(spec))).await?;
        figures.add(Group::Rate, RATE, on_large);
        figures.add(Group::Rate, ON_EMPTY_TABLES, on_empty);
        figures.add(Group::Ratio, TO_EMPTY, on_large / on_empty);
        Ok(figures)
    }

    async fn on_large_tables(&mut self, spec: WorkloadSpec, figures: &mut Figures) -> anyhow::Result<f64> {
        let workload = Arc::new(Workload::render(WorkloadSpec { after: self.expected.unique as u64, ..spec }));
        self.expected = self.expected.and(&workload);
        let mut watched = self.sluice.processes();
        watched.extend([Watched::redis(self.servers()), Watched::postgres(self.servers()), Watched::ourselves()]);
        let (address, connections) = (&self.sluice.address, self.context.connections);
        let before = Reading::of(&watched)?;
        let course = self.delivery.deliver(&mut self.store, address, &workload, connections, self.expected).await?;
        Reading::of(&watched)?.since(&before).report(figures, &watched, workload.events);
        // The rows are counted only once at each size, since that takes seconds.
        let counted = self.delivery.now(&mut self.store).await?;
        ensure!(counted == self.expected, "not exact: {counted:?} instead of {:?}", self.expected);
        Ok(workload.events as f64 / 1000.0 / course.seconds)
    }

    async fn on_empty_tables(&self, name: &str, workload: &Arc<Workload>) -> anyhow::Result<f64> {
        let sluice = Sluice::start(self.servers(), name, 1).await?;
        let mut store = Store::Postgres(self.servers().postgres().await?);
        let (delivery, expected) = (Delivery::of_schema(name), Expected::default().and(workload));
        let course = delivery.deliver(&mut store, &sluice.address, workload, self.context.connections, expected).await;
        let course = sluice.finish(course).await?;
        delivery.check(&mut store, expected).await?;
        self.servers().drop_schema(name).await?;
        Ok(workload.events as f64 / 1000.0 / course.seconds)
    }

    /// Adds the resident memory of each process at rest, and the most that was resident so far.
    fn memory(&self, figures: &mut Figures) -> anyhow::Result<()> {
        let mut watched = self.sluice.processes();
        watched.push(Watched::redis(self.servers()));
        for process in &watched {
            figures.add(Group::AtRest, process.name, memory::resident_mib(process)?);
            figures.add(Group::Resident, process.name, memory::peak_mib(process)?);
        }
        let postgres = Watched::postgres(self.servers());
        if let Some(mib) = memory::proportional_mib(&postgres)? {
            figures.add(Group::AtRest, "PostgreSQL (sum of PSS)", mib);
        }
        Ok(())
    }
}
