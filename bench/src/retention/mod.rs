//! Measures the rate under retention, once it removes as much as arrives, against the rate without.
//!
//! ```text
//! rate ▶ retention      without retention: filled with three million rows
//!                       under retention:   filled until its first window is full and events were removed
//! each minute:          ├─ 10 s without retention ─┤├─ 45 s under retention ──── maintenance ────┤
//! ```
//!
//! Two systems run on the same servers, each with a schema and a stream of its own, and the load alternates between
//! them, since only rates that are measured close to each other can be compared. The time for which events are retained
//! passes while the other system has the load, therefore the one without retention has it for ten seconds of each
//! minute only. The aggregator looks for old events once a minute. The blocks are timed so that it does so at the
//! beginning of a block under retention: what retention costs is paid within the blocks that show it. The compared
//! system has about as many rows in partitions as large, so that the rates differ by retention alone, and not by the
//! size of the tables, which [`crate::growth`] is about.

mod side;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::load::endless::Template;
use crate::plan::RetentionPlan;
use crate::progress::Progress;
use crate::report::figures::{Figures, Group, RATE, Spread};
use crate::report::goals::{SIZE_TO_FIRST, TO_UNLIMITED};
use crate::report::results::{Column, Section};
use crate::scenarios::Context;
use side::{Sample, Side};

/// The rows that retention should keep, between two removals.
const KEPT_ROWS: f64 = 5e6;
/// The rows that the system without retention has before the first block. As many as it should have come in the blocks.
const FILLED_ROWS: u64 = 3_000_000;
/// The time from one maintenance of an aggregator to the next, and so from one pair of blocks to the next.
const MINUTE: Duration = Duration::from_secs(60);
/// When the blocks begin and end, counted from a maintenance. It begins later with each minute, by the time that it
/// takes, so its block begins shortly before it. Between two blocks a backlog is stored.
const UNLIMITED: (Duration, Duration) = (Duration::from_secs(45), Duration::from_secs(55));
const RETAINED: (Duration, Duration) = (Duration::from_secs(58), Duration::from_secs(60 + 43));
/// How long the rate is measured that the retention follows from.
const FIRST: Duration = Duration::from_secs(10);
/// The events that are rendered, and the percentage of duplicates among them.
const TEMPLATE: (usize, u8) = (200_000, 30);
/// The partitions that the retention is divided into.
const PARTITIONS: u64 = 8;

/// Returns the number of steps of the progress bar.
pub fn steps(plan: &RetentionPlan) -> usize {
    // How many pairs of blocks there are depends on the retention, which is not known yet. Usually it is a minute.
    3 + 2 * rounds(plan, MINUTE)
}

/// Returns the number of pairs of blocks after the tables are filled.
fn rounds(plan: &RetentionPlan, retention: Duration) -> usize {
    (plan.duration.saturating_sub(filled_after(retention)).as_secs() / MINUTE.as_secs()) as usize
}

/// Returns when the first window was full, and the first events were removed: two maintenances after the marks of the
/// first minute have become too old.
fn filled_after(retention: Duration) -> Duration {
    retention + RETAINED.1
}

/// Returns the retention with which about [`KEPT_ROWS`] rows are kept. Marks are made, and rows are removed, once a
/// minute: after a removal the rows of the retention are there, rounded up to minutes, and before the next one those of
/// a minute more. In a part of each minute no rows arrive.
fn retention(rows_per_second: f64) -> Duration {
    let rows_per_minute = rows_per_second * (RETAINED.1 - RETAINED.0).as_secs_f64();
    let minutes = KEPT_ROWS / rows_per_minute - 0.5;
    MINUTE * (minutes.round().max(1.0) as u32)
}

/// Measures in pairs of blocks for the time of the plan.
///
/// # Errors
/// If the time is too short for a pair of blocks, or if what is stored and removed is not exactly what was sent.
pub async fn run(context: &Context, plan: &RetentionPlan, progress: &Progress) -> anyhow::Result<Section> {
    context.servers.empty_redis().await?;
    let render = || Arc::new(Template::render(TEMPLATE.0, TEMPLATE.1));
    let template = tokio::task::spawn_blocking(render).await?;

    progress.begin("the rate that the retention follows from");
    let mut first = Side::start(context, &template, "retention_first", &[]).await?;
    let until = Instant::now() + FIRST;
    let rate = first.load(|_| Instant::now() >= until).await.map(|loaded| loaded.rows_per_second);
    let rate = first.finish(rate).await?;
    let retention = retention(rate);
    let rounds = rounds(plan, retention);
    progress.end(&format!("{:.1} k rows/s: a retention of {} s", rate / 1000.0, retention.as_secs()));
    ensure!(rounds > 0, "no block is left after the {} s that the tables need", filled_after(retention).as_secs());

    progress.begin("filling the tables without retention");
    let partition_rows = (rate * retention.as_secs_f64()) as u64 / PARTITIONS;
    let options = ["--partition-rows", &partition_rows.to_string()];
    let mut unlimited = Side::start(context, &template, "unlimited", &options).await?;
    if let Err(error) = unlimited.load(|sample| sample.rows >= FILLED_ROWS).await {
        return unlimited.finish(Err(error)).await;
    }
    progress.end(&format!("in partitions of {partition_rows} rows"));

    let options = ["--retention", &format!("{}s", retention.as_secs())];
    let mut retained = Side::start(context, &template, "retained", &options).await?;
    let mut pair = Pair { began: Instant::now(), retained: &mut retained, unlimited: &mut unlimited };
    let columns = pair.blocks(retention, rounds, progress).await;
    let columns = retained.finish(columns).await?;
    let columns = unlimited.finish(Ok(columns)).await?;
    context.servers.checkpoint().await?;
    Ok(Section {
        title: "Under retention",
        description: "At full rate, 30% duplicates of recent events, in blocks that alternate with those of a system without \
               retention that has about as many rows. CPU time of the other system is in \"cores taken by other work\".",
        key: "retention",
        columns,
    })
}

/// The two systems between which the load alternates.
struct Pair<'a, 'c> {
    /// When the aggregator with the retention started, which its maintenance counts from.
    began: Instant,
    retained: &'a mut Side<'c>,
    unlimited: &'a mut Side<'c>,
}

impl Pair<'_, '_> {
    async fn blocks(&mut self, retention: Duration, rounds: usize, progress: &Progress) -> anyhow::Result<Vec<Column>> {
        progress.begin("filling the tables under retention");
        let filled = self.began + filled_after(retention);
        let full = self.retained.load(|_| Instant::now() >= filled).await?;
        let first_window = full.samples.iter().take_while(|sample| sample.removed == 0).last().copied();
        let first_window = first_window.context("no sample of the first window")?;
        let last = full.samples.last().copied().unwrap_or_default();
        ensure!(last.removed > 0, "retention has removed nothing {:?} after its start", filled_after(retention));
        progress.end(&format!("{} rows, of which {} were removed", last.rows + last.removed, last.removed));

        let mut columns = [Column::new("retention", "retention"), Column::new("no retention", "unlimited")];
        let mut largest = Sample::default();
        for round in 0..rounds {
            let maintained = filled - (RETAINED.1 - MINUTE) + MINUTE * round as u32;
            let (unlimited, _) = self.block(false, maintained, progress).await?;
            let (mut retained, samples) = self.block(true, maintained, progress).await?;
            retained.add(Group::Ratio, TO_UNLIMITED, rate(&retained) / rate(&unlimited));
            largest = samples.into_iter().fold(largest, |a, b| if b.bytes > a.bytes { b } else { a });
            if round + 1 == rounds {
                retained.add(Group::Ratio, SIZE_TO_FIRST, largest.bytes as f64 / first_window.bytes as f64);
                retained.add(Group::Course, "retention, s", retention.as_secs_f64());
                retained.add(Group::Course, "MiB at the end of the first window", first_window.mib());
                retained.add(Group::Course, "MiB at most afterwards", largest.mib());
            }
            columns[0].rounds.push((round, retained));
            columns[1].rounds.push((round, unlimited));
        }
        Ok(columns.into())
    }

    /// Runs one block, which follows a maintenance at a certain time.
    async fn block(
        &mut self,
        retained: bool,
        maintained: Instant,
        progress: &Progress,
    ) -> anyhow::Result<(Figures, Vec<Sample>)> {
        let (name, side, (from, until)) = if retained {
            ("under retention", &mut *self.retained, RETAINED)
        } else {
            ("without retention", &mut *self.unlimited, UNLIMITED)
        };
        progress.begin(name);
        tokio::time::sleep_until((maintained + from).into()).await;
        let until = maintained + until;
        let loaded = side.load(|_| Instant::now() >= until).await?;
        let mut figures = loaded.figures;
        let rows = loaded.samples.iter().map(|sample| sample.rows as f64 / 1000.0).collect();
        if let Some(rows) = Spread::of(rows) {
            figures.add(Group::Course, "thousands of rows, fewest", rows.min);
            figures.add(Group::Course, "thousands of rows, most", rows.max);
        }
        let removed = loaded.samples.last().map_or(0, |last| last.removed);
        figures.add(Group::Course, "thousands of rows removed so far", removed as f64 / 1000.0);
        progress.end(&format!("{:.1} k events/s", rate(&figures)));
        Ok((figures, loaded.samples))
    }
}

fn rate(figures: &Figures) -> f64 {
    figures.get(Group::Rate, RATE).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_retention_is_whole_minutes_of_which_at_least_one() {
        let seconds = |rows_per_second: f64| retention(rows_per_second).as_secs();
        assert_eq!([200e3, 70e3, 50e3, 30e3, 20e3].map(seconds), [60, 60, 120, 180, 300]);
    }

    #[test]
    fn ten_minutes_have_at_least_five_pairs_of_blocks() {
        let plan = RetentionPlan { duration: Duration::from_secs(600) };
        assert_eq!([30e3, 70e3].map(|rate| rounds(&plan, retention(rate))), [5, 7]);
    }
}
