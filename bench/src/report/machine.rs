//! Describes the machine, the versions and the settings, which a reader needs to judge the figures.

use std::fs;

use serde_json::{Value, json};

use crate::load::events::{TOPICS, Workload};
use crate::plan::Plan;
use crate::scenarios::copy::{BATCH_ROWS, CONNECTIONS};
use crate::scenarios::{CONNECTIONS_SINGLE, Context};
use crate::system::servers::{POSTGRES_SETTINGS, REDIS_SETTINGS};
use crate::system::sluice::{BATCH_EVENTS, WORKERS};

/// Returns the machine, the versions, the settings and the load, as they stand in `results.json`.
///
/// # Errors
/// If a server or the kernel does not give its version.
pub async fn describe(context: &Context, plan: &Plan, workload: &Workload) -> anyhow::Result<Value> {
    let (redis, postgres) = context.servers.versions().await?;
    let settings =
        |pairs: &[(&str, &str)]| -> Value { pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect() };
    Ok(json!({
        "machine": {
            "processor": processor(),
            "cores": std::thread::available_parallelism()?.get(),
            "memory_gib": memory_gib(),
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        },
        "versions": { "sluice": env!("CARGO_PKG_VERSION"), "redis": redis, "postgresql": postgres },
        "settings": {
            "redis": settings(&REDIS_SETTINGS),
            "postgresql": settings(&POSTGRES_SETTINGS),
            "sluice": { "workers": WORKERS, "batch_events": BATCH_EVENTS, "others": "as by default" },
            "copy": { "rows_per_batch": BATCH_ROWS, "connections": CONNECTIONS },
        },
        "load": {
            "rounds": plan.rounds,
            "events_per_scenario": workload.events,
            "bytes_per_event": workload.bytes_per_event.round() as u64,
            "connections": plan.connections,
            "connections_for_single_events": CONNECTIONS_SINGLE,
            "topics": TOPICS.len(),
        },
    }))
}

/// Formats the description for a reader, in lines.
pub fn lines(run: &Value) -> String {
    // Only an empty text is quoted: otherwise nothing would be visible.
    let text =
        |value: &Value| value.as_str().filter(|s| !s.is_empty()).map_or_else(|| value.to_string(), str::to_owned);
    let pairs = |value: &Value| {
        let object = value.as_object().into_iter().flatten();
        object.map(|(name, value)| format!("{name} {}", text(value))).collect::<Vec<_>>().join(", ")
    };
    let settings = &run["settings"];
    let said = [
        ("machine", pairs(&run["machine"])),
        ("versions", pairs(&run["versions"])),
        ("Redis", pairs(&settings["redis"])),
        ("PostgreSQL", pairs(&settings["postgresql"])),
        ("Sluice", pairs(&settings["sluice"])),
        ("COPY", pairs(&settings["copy"])),
        ("load", pairs(&run["load"])),
    ];
    said.iter().map(|(name, values)| format!("{name:<10} {values}\n")).collect()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn memory_gib() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    Some((kib as f64 / f64::from(1 << 20)).round() as u64)
}
