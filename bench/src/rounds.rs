//! The order of the run.

use std::sync::Arc;

use anyhow::Context;
use serde_json::Value;

use crate::bar::Bar;
use crate::events::Workload;
use crate::figures::{Figures, Group};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::report::{Column, TO_COPY};
use crate::servers::Servers;
use crate::{end_to_end, machine};

/// Shares of duplicates, in percent, that are sent to Sluice.
const DUPLICATES: [u8; 2] = [0, 30];

/// What is measured in one column of the table.
enum Kind {
    Copy(Bar),
    EndToEnd(Arc<Workload>),
}

/// Runs everything; answers the figures, and what was run and where.
pub async fn run(plan: &Plan) -> anyhow::Result<(Vec<Column>, Value)> {
    let progress = Progress::of((plan.rounds * (DUPLICATES.len() + 1) + 1) as u64)?;
    let workloads: Vec<_> = DUPLICATES.map(|percent| Arc::new(Workload::render(plan.events, percent))).into();
    let servers = Servers::start().await?;
    let described = machine::describe(&servers, plan, &workloads[0]).await?;

    progress.begin("first block, not counted");
    let figures = end_to_end::run(&servers, &workloads[0], plan.connections, "first").await?;
    let bar = Bar::of(&servers, "first").await?;
    servers.drop_schema("first").await?;
    progress.end(&outcome(&figures));

    let mut columns = vec![Column::new("COPY", "copy")];
    columns.extend(
        DUPLICATES.map(|percent| Column::new(&format!("Sluice, {percent}% duplicates"), &format!("dup{percent}"))),
    );
    let mut kinds = vec![Kind::Copy(bar)];
    kinds.extend(workloads.into_iter().map(Kind::EndToEnd));

    for round in 0..plan.rounds {
        for turn in 0..kinds.len() {
            let which = (round + turn) % kinds.len();
            progress.begin(format!("round {}/{}, {}", round + 1, plan.rounds, columns[which].title));
            let name = format!("round{round}_{}", columns[which].key);
            let block = block(&servers, &kinds[which], plan, &name).await;
            let figures = block.with_context(|| format!("{} in round {}", columns[which].title, round + 1))?;
            progress.end(&outcome(&figures));
            columns[which].rounds.push(figures);
        }
        compare(&mut columns, round);
    }
    progress.finish();
    Ok((columns, described))
}

async fn block(servers: &Servers, kind: &Kind, plan: &Plan, name: &str) -> anyhow::Result<Figures> {
    match kind {
        Kind::Copy(bar) => bar.run(servers).await,
        Kind::EndToEnd(workload) => {
            let figures = end_to_end::run(servers, workload, plan.connections, name).await?;
            servers.drop_schema(name).await?;
            Ok(figures)
        }
    }
}

/// Divides each rate of a round by COPY's, the first column's.
fn compare(columns: &mut [Column], round: usize) {
    let rate = |column: &Column| column.rounds.get(round).and_then(|figures| figures.get(Group::Rate, RATE));
    let copy = rate(&columns[0]);
    for column in &mut columns[1..] {
        if let (Some(rate), Some(copy)) = (rate(column), copy) {
            column.rounds[round].add(Group::Ratio, TO_COPY, rate / copy);
        }
    }
}

/// The name of the figure that is compared: events received and stored or dropped, per second.
pub const RATE: &str = "k events/s";

fn outcome(figures: &Figures) -> String {
    figures.get(Group::Rate, RATE).map_or_else(String::new, |rate| format!("{rate:.0} k events/s"))
}
