//! `backup`: stores dumps of PostgreSQL in a folder or an S3 bucket, lists them, and writes them out again.
//!
//! The dump itself is made and restored by the programs of PostgreSQL, pg_dump and pg_restore, which run beside this one.
//! Between them is a pipe, and a file that says how the other program has ended: the end of a pipe does not say whether
//! all of the dump came.

mod fetch;
mod list;
mod manifest;
mod peer;
mod place;
mod prune;
mod settings;
mod sink;
mod source;
mod store;

use peer::told;

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
