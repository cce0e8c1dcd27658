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

/// A block with what it needs.
enum Kind {
    Copy(Bar),
    EndToEnd(Arc<Workload>),
}

/// Runs everything; answers the figures, and what was run and where.
pub async fn run(plan: &Plan) -> anyhow::Result<(Vec<Column>, Value)> {
    let progress = Progress::of((plan.rounds * plan.blocks.len() + 1) as u64)?;
    // The rows of the bar are those of the first block.
    let first = Arc::new(Workload::render(plan.events, 0));
    let servers = Servers::start().await?;
    let described = machine::describe(&servers, plan, &first).await?;

    progress.begin("first block, not counted");
    let figures = end_to_end::run(&servers, &first, plan.connections, "first").await?;
    let mut bar = Some(Bar::of(&servers, "first").await?);
    servers.drop_schema("first").await?;
    progress.end(&outcome(&figures));

    let (mut columns, mut kinds) = (Vec::new(), Vec::new());
    for block in &plan.blocks {
        match block.duplicate_percent() {
            None => {
                columns.push(Column::new("COPY", COPY));
                kinds.extend(bar.take().map(Kind::Copy));
            }
            Some(percent) => {
                columns.push(Column::new(&format!("Sluice, {percent}% duplicates"), &format!("dup{percent}")));
                let workload = if percent == 0 { first.clone() } else { Workload::render(plan.events, percent).into() };
                kinds.push(Kind::EndToEnd(workload));
            }
        }
    }

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

/// Divides each rate of a round by COPY's.
fn compare(columns: &mut [Column], round: usize) {
    let rate = |column: &Column| column.rounds.get(round).and_then(|figures| figures.get(Group::Rate, RATE));
    let Some(copy) = columns.iter().find(|column| column.key == COPY).and_then(rate) else { return };
    for column in columns.iter_mut().filter(|column| column.key != COPY) {
        if let Some(rate) = rate(column) {
            column.rounds[round].add(Group::Ratio, TO_COPY, rate / copy);
        }
    }
}

/// The key of COPY's column.
const COPY: &str = "copy";

/// The name of the figure that is compared: events received and stored or dropped, per second.
pub const RATE: &str = "k events/s";

fn outcome(figures: &Figures) -> String {
    figures.get(Group::Rate, RATE).map_or_else(String::new, |rate| format!("{rate:.0} k events/s"))
}
