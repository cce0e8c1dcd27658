//! `backup prune`: removes old backups.

use jiff::{SignedDuration, Timestamp};

use super::place::Place;

/// A dump without a manifest that is older than this was interrupted. No backup takes as long.
const UNFINISHED: SignedDuration = SignedDuration::from_hours(48);

/// Removes all backups but the newest ones, and what interrupted ones have left. A backup whose manifest cannot be read
/// is neither counted nor removed: it may be of a newer version.
///
/// # Errors
/// If the place cannot be read, or an object cannot be removed.
pub(super) async fn prune(place: &Place, keep: u32) -> anyhow::Result<()> {
    let found = place.list().await?;
    for (name, reason) in &found.unreadable {
        tracing::warn!(name, reason, "the manifest of a backup cannot be read: it is kept");
    }
    // At least one stays, whatever was asked for.
    for old in found.backups.iter().skip(keep.max(1) as usize) {
        // The manifest first: a backup without a dump must not be listed.
        place.remove(vec![place.manifest(&old.name), place.dump(&old.name)]).await?;
        tracing::info!(name = old.name, "an old backup is removed");
    }
    let limit = Timestamp::now() - UNFINISHED;
    for dump in found.unfinished.iter().filter(|dump| dump.last_modified.timestamp() < limit.as_second()) {
        // One that is known by an unreadable manifest is not among them.
        place.remove(vec![dump.location.clone()]).await?;
        tracing::info!(dump = %dump.location, "a dump without a manifest is removed: its backup was interrupted");
    }
    Ok(())
}
