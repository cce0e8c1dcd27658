//! What meters cost: the same events without meters and with three, and how long their figures take to read, also when ten
//! million more events are stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sluice_tests::{Client, dirs};

use super::measured::Measured;
use crate::load::closed;
use crate::load::events::{Workload, WorkloadSpec};
use crate::plan::ComparePlan;
use crate::report::figures::{Figures, Group, RATE, Spread};
use crate::report::table::align;
use crate::scenarios::{Delivery, Expected, Store, end_to_end};
use crate::system::servers::Servers;
use crate::system::sluice::Sluice;

/// Three meters, each with 1,620 groups, over which the events are evenly spread.
const METERS: &str = r#"{"meters": [
    {"name": "count", "aggregation": "count", "group_by": ["source", "/items/0/quantity", "/items/1/quantity"]},
    {"name": "sum", "aggregation": "sum", "value": "/total",
        "group_by": ["source", "/items/0/quantity", "/items/1/quantity"]},
    {"name": "max", "aggregation": "max", "value": "/items/1/price",
        "group_by": ["source", "/items/0/quantity", "/items/1/quantity"]}
]}"#;
const GROUPS: usize = 1_620;
const NAMES: [&str; 2] = ["without meters", "three meters of 1,620 groups"];
/// The events that are stored between the two readings, and how many are rendered at a time, so that memory stays bounded.
const LATER: u64 = 10_000_000;
const CHUNK: usize = 200_000;
/// How often each question is asked.
const READINGS: usize = 5;
/// The longest that the meters take to be there.
const SOON: Duration = Duration::from_secs(60);

/// Measures both. Returns a table, and the differences.
///
/// # Errors
/// If something cannot be measured, or is not stored or counted exactly.
pub async fn run(plan: ComparePlan) -> anyhow::Result<String> {
    let servers = Servers::start().await?;
    let workload = Arc::new(Workload::render(WorkloadSpec::new(plan.events, 0)));
    let columns = [
        (RATE, Group::Rate),
        ("publisher, µs", Group::Cpu),
        ("Redis, µs", Group::Cpu),
        ("aggregator, µs", Group::Cpu),
        ("PostgreSQL, µs", Group::Cpu),
        ("all four, µs", Group::Cpu),
        ("a month by hour, ms", Group::Cpu),
        ("the same by group, ms", Group::Cpu),
    ];
    let mut measured = Measured::new(NAMES.to_vec(), columns, plan.rounds);
    for (round, which) in measured.order() {
        let name = format!("meters{which}_{round}");
        measured.add(round, which, measure(&servers, &workload, plan.connections, which == 1, &name).await)?;
    }
    let table = measured.table("all events new");
    Ok(format!("{table}\n{}", as_they_grow(&servers, plan.events, plan.connections).await?))
}

/// Returns a table of how long figures take to read with few events, and when ten million more are stored.
async fn as_they_grow(servers: &Servers, events: usize, connections: usize) -> anyhow::Result<String> {
    let sluice = start(servers, "meters_later", true).await?;
    let growing = async {
        let client = Client::new(&format!("http://{}", sluice.address));
        wait_until_complete(&client).await?;
        let (mut store, delivery) = (Store::Postgres(servers.postgres().await?), Delivery::of_schema(&sluice.name));
        let (mut expected, mut rows) = (Expected::default(), Vec::new());
        for until in [events as u64, events as u64 + LATER] {
            while (expected.unique as u64) < until {
                let after = expected.unique as u64;
                let chunk = usize::try_from(until - after)?.min(CHUNK);
                let spec = WorkloadSpec { after, ..WorkloadSpec::new(chunk, 0) };
                let workload: Arc<_> = tokio::task::spawn_blocking(move || Workload::render(spec)).await?.into();
                expected = expected.and(&workload);
                closed::send(&sluice.address, &workload, connections).await?;
                delivery.wait(&mut store, expected.received).await?;
            }
            let mut times = Vec::new();
            for _ in 0..READINGS {
                times.push(reading(&client, until).await?);
            }
            let cell = |at: usize| Spread::of(times.iter().map(|times| times[at]).collect());
            let shown = |at: usize| cell(at).map_or_else(String::new, |spread| spread.show(Group::Cpu));
            rows.push(vec![until.to_string(), shown(0), shown(1)]);
            eprintln!("{until} events stored");
        }
        delivery.check(&mut store, expected).await?;
        let head = ["events stored", "a month by hour, ms", "the same by group, ms"].map(str::to_owned);
        anyhow::Ok(align(&head, &rows))
    };
    let table = growing.await;
    let table = sluice.finish(table).await?;
    servers.drop_schema("meters_later").await?;
    Ok(table)
}

/// Starts the programs on an empty schema, with the three meters or without any.
async fn start(servers: &Servers, name: &str, with_meters: bool) -> anyhow::Result<Sluice> {
    servers.empty_redis().await?;
    let file = dirs::fresh("meters").join("meters.json");
    std::fs::write(&file, if with_meters { METERS } else { r#"{"meters": []}"# })?;
    Sluice::start_with_both(servers, name, 1, &[], &["--meters", &file.display().to_string()]).await
}

async fn measure(
    servers: &Servers,
    workload: &Arc<Workload>,
    connections: usize,
    with_meters: bool,
    name: &str,
) -> anyhow::Result<[f64; 8]> {
    let sluice = start(servers, name, with_meters).await?;
    let client = Client::new(&format!("http://{}", sluice.address));
    let measuring = async {
        if with_meters {
            wait_until_complete(&client).await?;
        }
        let figures = end_to_end::measure(servers, workload, connections, &sluice).await?;
        let reading = if with_meters { reading(&client, workload.unique()).await? } else { [0.0; 2] };
        anyhow::Ok((figures, reading))
    };
    let measured = measuring.await;
    let (figures, reading) = sluice.finish(measured).await?;
    servers.drop_schema(name).await?;
    columns_of(&figures, reading)
}

async fn wait_until_complete(client: &Client) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let meters = client.get("/meters").await.json();
        let complete = meters["meters"]
            .as_array()
            .is_some_and(|meters| meters.len() == 3 && meters.iter().all(|meter| meter["complete"] == true));
        if complete {
            return Ok(());
        }
        ensure!(began.elapsed() < SOON, "the meters are not there: {meters}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Returns how many milliseconds a month by hour takes, as one figure an hour and with all groups. Checks that each event was
/// counted once.
async fn reading(client: &Client, stored: u64) -> anyhow::Result<[f64; 2]> {
    let month = "from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z&window=hour";
    let groups = "group_by=source,/items/0/quantity,/items/1/quantity";
    let mut times = [0.0; 2];
    for (time, query) in times.iter_mut().zip([month.to_owned(), format!("{month}&{groups}")]) {
        let began = Instant::now();
        let answer = client.get(&format!("/meters/count?{query}")).await;
        *time = began.elapsed().as_secs_f64() * 1_000.0;
        let figures: Vec<Value> = answer.json()["windows"].as_array().context("no windows")?.clone();
        let groups = figures.iter().filter_map(|window| window["groups"].as_array());
        let (mut events, mut most) = (0, 0);
        for groups in groups {
            events += groups.iter().filter_map(|group| group["events"].as_u64()).sum::<u64>();
            most = most.max(groups.len());
        }
        ensure!(events == stored, "the meter counts {events} of {stored} events");
        ensure!(most == 1 || most == GROUPS, "{most} groups in an hour");
    }
    Ok(times)
}

fn columns_of(figures: &Figures, [total, by_group]: [f64; 2]) -> anyhow::Result<[f64; 8]> {
    let get = |group, name: &str| figures.get(group, name).with_context(|| format!("no figure {name}"));
    let of = ["publisher", "Redis", "aggregator", "PostgreSQL"].map(|process| get(Group::Cpu, process));
    let [publisher, redis, aggregator, postgres] = of;
    let (publisher, redis, aggregator, postgres) = (publisher?, redis?, aggregator?, postgres?);
    let all = publisher + redis + aggregator + postgres;
    Ok([get(Group::Rate, RATE)?, publisher, redis, aggregator, postgres, all, total, by_group])
}
