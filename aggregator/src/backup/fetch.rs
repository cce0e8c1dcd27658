//! `backup fetch`: writes the dump of a backup, and compares it with its checksum.

use anyhow::{Context, ensure};
use object_store::ObjectStoreExt;
use ring::digest;

use super::manifest::Manifest;
use super::peer::{READY, report, write_file};
use super::place::Place;
use super::settings::FetchSettings;
use super::sink::Sink;

/// Bytes that are asked for with one request. A reader that is slow then delays no response.
const RANGE: u64 = 8 << 20;

/// Writes a dump, and its result into the file of the exit status.
///
/// # Errors
/// If it cannot be read or written, or is not what was stored.
pub(super) async fn fetch(settings: &FetchSettings) -> anyhow::Result<()> {
    let fetched = fetch_whole(settings).await;
    // Whoever reads the dump must not take what it has read for all of it.
    let status = if fetched.is_ok() { "0\n" } else { "1\n" };
    write_file(settings.exit_status.as_deref(), status).and(fetched)
}

async fn fetch_whole(settings: &FetchSettings) -> anyhow::Result<()> {
    let place = Place::open(&settings.place.url)?;
    let manifest = place.find(settings.name.as_deref()).await?;
    // Before the dump, so that its reader can look at it.
    report(settings.peer.report.as_deref(), &manifest)?;
    write_file(settings.peer.ready.as_deref(), READY[0])?;
    // Whoever waits for this program to be ready makes the pipe.
    let is_made_by_peer = settings.peer.ready.is_some();
    let mut sink = Sink::open(&settings.to, is_made_by_peer, settings.peer.idle_timeout).await?;
    let checked = copy(&place, &manifest, &mut sink).await;
    sink.close().await.and(checked)?;
    tracing::info!(name = manifest.name, size = manifest.size, "the backup is fetched, and matches its checksum");
    Ok(())
}

async fn copy(place: &Place, manifest: &Manifest, sink: &mut Sink) -> anyhow::Result<()> {
    let path = place.dump(&manifest.name);
    let size = place.objects.head(&path).await.context("the dump")?.size;
    ensure!(size == manifest.size, "the dump has {size} bytes, and {} were stored: it is damaged", manifest.size);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut at = 0;
    while at < size {
        let bytes = place.objects.get_range(&path, at..size.min(at + RANGE)).await.context("cannot read the dump")?;
        ensure!(!bytes.is_empty(), "the dump ends before its end");
        hash.update(&bytes);
        at += bytes.len() as u64;
        sink.write(&bytes).await?;
    }
    let sha256 = hex::encode(hash.finish());
    ensure!(sha256 == manifest.sha256, "the dump is damaged: its SHA-256 is {sha256}, and was {}", manifest.sha256);
    Ok(())
}
