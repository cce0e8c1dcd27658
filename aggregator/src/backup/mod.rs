//! `backup`: stores dumps of PostgreSQL in a folder or an S3 bucket, lists them, and writes them out again.
//!
//! The dump itself is made and restored by the programs of PostgreSQL, pg_dump and pg_restore, which run beside this one.
//! Between them is a pipe, and a file that says how the other program has ended: the end of a pipe does not say whether
//! all of the dump came.

mod fetch;
mod list;
mod manifest;
mod place;
mod prune;
mod settings;
mod sink;
mod source;
mod store;

use std::path::Path;

use anyhow::Context;

pub use manifest::{Manifest, is_name};
pub use settings::{
    BackupCommand, FetchSettings, Format, ListSettings, PeerArgs, PlaceArgs, PruneSettings, StoreSettings,
};

/// Runs a subcommand.
///
/// # Errors
/// If it cannot do what it is asked for.
pub async fn backup(command: &BackupCommand) -> anyhow::Result<()> {
    match command {
        BackupCommand::Store(settings) => told(settings.peer.ready.as_deref(), store::store(settings).await),
        BackupCommand::List(settings) => list::list(settings).await,
        BackupCommand::Fetch(settings) => told(settings.peer.ready.as_deref(), fetch::fetch(settings).await),
        BackupCommand::Prune(settings) => prune::prune(&place::Place::open(&settings.place.url)?, settings.keep).await,
    }
}

/// Tells the other program of a failure. It may still wait for this one to be ready.
fn told(ready: Option<&Path>, result: anyhow::Result<()>) -> anyhow::Result<()> {
    if result.is_err() {
        write_file(ready, READY[1])?;
    }
    result
}

/// Writes a manifest into the file that is asked for, in one line.
fn report(file: Option<&Path>, manifest: &Manifest) -> anyhow::Result<()> {
    write_file(file, &format!("{}\n", serde_json::to_string(manifest)?))
}

/// What the file of `--ready` says when the dump can flow, and when it never will.
const READY: [&str; 2] = ["ready\n", "failed\n"];

/// Writes a file that another program waits for, if it is asked for.
fn write_file(file: Option<&Path>, text: &str) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
