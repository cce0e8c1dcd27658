//! `backup store`: uploads a dump in parts, and makes it visible only when it is whole.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart};
use ring::digest;
use sluice_store::postgres::{BackupFacts, PostgresSettings, backup_facts};

use super::manifest::{FORMAT, Manifest, name_at};
use super::peer::{READY, report, write_file};
use super::place::Place;
use super::prune::prune;
use super::settings::StoreSettings;
use super::source::Source;

/// How a dump of pg_dump in the custom format begins.
const MAGIC: &[u8] = b"PGDMP";
/// Parts that are uploaded at the same time, while another one is being filled.
const UPLOADS: usize = 2;
/// The most parts that S3 takes.
const MAX_PARTS: u64 = 10_000;
/// Size of the buffer between the pipe and a part.
const READ: usize = 256 << 10;

/// Stores a dump, and removes older backups if that is asked for.
///
/// # Errors
/// If it cannot be read or stored, or has not ended well. Then no backup is added.
pub(super) async fn store(settings: &StoreSettings) -> anyhow::Result<()> {
    let place = Place::open(&settings.place.url)?;
    place.check().await?;
    let peer = &settings.peer;
    let began = Timestamp::now();
    let facts = backup_facts(&database(settings)).await.context("the database to be backed up")?;
    let mut source = Source::open(&settings.from, settings.exit_status.as_deref(), peer.idle_timeout).await?;
    write_file(peer.ready.as_deref(), READY[0])?;
    let name = name_at(began);
    let (size, sha256) = upload(&place, &name, &mut source, settings.part_size).await?;
    let manifest = manifest(settings, facts, name, began, (size, sha256));
    let text = serde_json::to_vec_pretty(&manifest)?;
    place.objects.put(&place.manifest(&manifest.name), PutPayload::from(text)).await.context("the manifest")?;
    tracing::info!(name = manifest.name, size, events = manifest.events, "the backup is stored");
    report(peer.report.as_deref(), &manifest)?;
    if let Some(keep) = settings.keep {
        // The backup is there: that older ones could not be removed is reported, and the next one tries again.
        if let Err(error) = prune(&place, keep).await {
            tracing::error!("cannot remove older backups: {error:#}");
        }
    }
    Ok(())
}

fn database(settings: &StoreSettings) -> PostgresSettings {
    let args = &settings.postgres;
    PostgresSettings {
        url: args.database_url.clone(),
        password_file: args.database_password_file.clone(),
        require_tls: args.require_tls,
        schema: args.database_schema.clone(),
        ..PostgresSettings::default()
    }
}

fn manifest(
    settings: &StoreSettings,
    facts: BackupFacts,
    name: String,
    began: Timestamp,
    (size, sha256): (u64, String),
) -> Manifest {
    Manifest {
        format: FORMAT,
        name,
        began,
        ended: Timestamp::now(),
        size,
        sha256,
        schema: settings.postgres.database_schema.clone(),
        postgres: facts.major,
        sluice: env!("CARGO_PKG_VERSION").to_owned(),
        events: facts.events,
        database_bytes: facts.bytes,
    }
}

/// Uploads the dump in parts; returns its size and its checksum. What was uploaded of a dump that has not ended well is
/// removed.
async fn upload(place: &Place, name: &str, source: &mut Source, part_size: u64) -> anyhow::Result<(u64, String)> {
    let path = place.dump(name);
    let upload = place.objects.put_multipart(&path).await.context("cannot begin the upload")?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, usize::try_from(part_size)?);
    let (size, sha256) = match copy(source, &mut parts, part_size).await {
        Ok(copied) => copied,
        Err(error) => {
            if let Err(left) = parts.abort().await {
                tracing::warn!(error = %left, "cannot remove the parts of the upload that was given up");
            }
            return Err(error);
        }
    };
    parts.finish().await.context("cannot complete the upload")?;
    let there = place.objects.head(&path).await.context("the dump that was stored")?.size;
    ensure!(there == size, "the dump that was stored has {there} bytes, and {size} were sent");
    Ok((size, sha256))
}

async fn copy(source: &mut Source, parts: &mut WriteMultipart, part_size: u64) -> anyhow::Result<(u64, String)> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; READ];
    let (mut size, mut head) = (0, Vec::<u8>::new());
    loop {
        let read = source.read(&mut buffer).await?;
        let bytes = &buffer[..read];
        if head.len() < MAGIC.len() {
            head.extend(bytes.iter().take(MAGIC.len() - head.len()));
            let so_far = &MAGIC[..head.len()];
            ensure!(head == so_far && (read > 0), "this is no dump of pg_dump in its custom format (--format=custom)");
        }
        if read == 0 {
            return Ok((size, hex::encode(hash.finish())));
        }
        hash.update(bytes);
        size += read as u64;
        ensure!(size.div_ceil(part_size) <= MAX_PARTS, "the dump needs more than {MAX_PARTS} parts: raise --part-size");
        parts.write(bytes);
        parts.wait_for_capacity(UPLOADS).await.context("cannot upload a part of the dump")?;
    }
}
