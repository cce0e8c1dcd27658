//! Runs the command that accounts for every event.

use serde_json::Value;

use crate::store::StoreAddress;
use crate::{System, process, program};

/// What the command wrote, and the code with which it ended.
#[derive(Debug)]
pub struct Audit {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its report as JSON.
    pub report: Value,
}

/// Runs the audit of a system, which may be running or not.
pub async fn run(system: &System) -> Audit {
    run_with(system, &[]).await
}

/// Runs the audit of a system with more options.
pub async fn run_with(system: &System, options: &[&str]) -> Audit {
    let mut args: Vec<_> = ["audit", "--format", "json"].iter().chain(options).map(|arg| (*arg).to_owned()).collect();
    args.extend(addresses(system));
    let output = tokio::task::spawn_blocking(move || {
        process::command(&program::find("sluice-aggregator"), None).args(args).output().expect("the program runs")
    });
    let output = output.await.expect("the program was waited for");
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Audit { code: output.status.code(), report }
}

/// Returns the options that say what is audited.
pub fn addresses(system: &System) -> Vec<String> {
    match &system.store {
        StoreAddress::Postgres { url, schema } => {
            let (redis, prefix) = system.stream.as_ref().expect("a stream");
            let options =
                [("redis-url", redis), ("stream-prefix", prefix), ("database-url", url), ("database-schema", schema)];
            options.into_iter().flat_map(|(option, value)| [format!("--{option}"), value.clone()]).collect()
        }
        StoreAddress::Sqlite(path) => {
            vec!["--data".to_owned(), path.parent().expect("a folder").display().to_string()]
        }
    }
}

/// Runs the audit, which must find that everything agrees. Returns its report.
pub async fn exact(system: &System) -> Value {
    let Audit { code, report } = run(system).await;
    assert_eq!((code, &report["verdict"]), (Some(0), &"exact".into()), "{report:#}");
    report
}
