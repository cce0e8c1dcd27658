//! `audit`: proves or disproves that every event which was appended to the log is accounted for. It only reads, unless it
//! is to note its result, and works on a system that runs as well as on one at rest.
//!
//! The log is read before and after the snapshot of the store. What was acknowledged before must be in the snapshot,
//! and nothing can be in it that is not appended after, so on a running system the difference between the two is the
//! tolerance. At rest it is zero.

mod report;
mod settings;

use std::path::Path;

use anyhow::Context;
use sluice_event::Timestamp;
use sluice_log::{redis, sqlite as sqlite_log};
use sluice_store::postgres::{self, PostgresSettings};
use sluice_store::sqlite;

pub use report::Verdict;
use report::{Readings, Report};
pub use settings::{AuditSettings, Format};

/// Reads everything, writes the report to standard output, and returns the verdict.
///
/// # Errors
/// When the log or the store cannot be read.
pub async fn audit(settings: &AuditSettings) -> anyhow::Result<Verdict> {
    let reading = async {
        match &settings.data {
            Some(folder) => of_folder(folder, settings.check_rows).await,
            None => of_servers(settings).await,
        }
    };
    let readings = tokio::time::timeout(settings.timeout, reading).await;
    let readings = readings.with_context(|| format!("it took longer than --timeout, {:?}", settings.timeout))??;
    let report = Report::new(&readings);
    let text = match settings.format {
        Format::Table => report.table(),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(&report)?),
    };
    // A reader that has gone away, such as `head`, is no error.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    if settings.record {
        note(settings, &report).await.context("cannot note the result")?;
    }
    Ok(report.verdict())
}

/// Notes the result in the store.
async fn note(settings: &AuditSettings, report: &Report) -> anyhow::Result<()> {
    let noted = serde_json::to_string(&report.noted(Timestamp::now()))?;
    match (&settings.data, &settings.database_url) {
        (Some(folder), _) => sqlite::note_audit(&folder.join("store.db"), &noted).await?,
        (None, Some(url)) => postgres::note_audit(&database(settings, url), settings.timeout, &noted).await?,
        (None, None) => anyhow::bail!("--database-url, or --data, must be given"),
    }
    Ok(())
}

fn database(settings: &AuditSettings, url: &str) -> PostgresSettings {
    PostgresSettings {
        url: url.to_owned(),
        password_file: settings.database_password_file.clone(),
        require_tls: settings.require_tls,
        schema: settings.database_schema.clone(),
        ..PostgresSettings::default()
    }
}

async fn of_folder(folder: &Path, check_rows: bool) -> anyhow::Result<Readings> {
    let before = sqlite_log::counters(folder).await?;
    let mut snapshot = sqlite::Snapshot::open(&folder.join("store.db")).await?;
    let after = sqlite_log::counters(folder).await?;
    let rows = if check_rows { Some(snapshot.check_rows().await?) } else { None };
    Ok(Readings { before, store: snapshot.count().await?, after, rows })
}

async fn of_servers(settings: &AuditSettings) -> anyhow::Result<Readings> {
    let (Some(redis_url), Some(database_url)) = (&settings.redis_url, &settings.database_url) else {
        anyhow::bail!("--redis-url and --database-url, or --data, must be given");
    };
    let (tls, sentinel) = (settings.redis_tls.files(), settings.redis_tls.sentinel());
    let counters = || redis::counters((redis_url, &tls, &sentinel), &settings.stream_prefix, 1);
    let database = database(settings, database_url);
    let before = counters().await?;
    let mut snapshot = postgres::Snapshot::open(&database, settings.timeout).await?;
    // At once, because rows are counted for as long as it takes, and what moves until then is tolerated.
    let after = counters().await?;
    let rows = if settings.check_rows { Some(snapshot.check_rows().await?) } else { None };
    Ok(Readings { before, store: snapshot.count().await?, after, rows })
}
