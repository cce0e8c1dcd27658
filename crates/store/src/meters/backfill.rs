//! Counts the events before the cut of a new meter, from their rows.

use std::sync::Arc;

use sluice_meter::{Counted, Recorder, Set};

use super::status::StoredMeter;
use super::tables::MeterTables;
use crate::{StoreError, StoredEvent};

/// The events that are counted in one transaction, and the size of their payloads.
const MAX_ROWS: u32 = 2_000;
const MAX_BYTES: u64 = 8 << 20;

/// Counts a chunk for the oldest meter that is not complete, in one transaction. Returns whether there may be more to count.
pub(super) async fn backfill(tables: &mut dyn MeterTables) -> Result<bool, StoreError> {
    if !tables.begin(false).await? {
        return Ok(false);
    }
    let meters = tables.meters().await?;
    let open = meters.iter().filter_map(|meter| Some((meter, meter.backfilled_to?))).min_by_key(|(meter, _)| meter.id);
    let Some((meter, after)) = open else {
        tables.rollback().await?;
        return Ok(false);
    };
    let events = tables.events(after, meter.cut_seq, MAX_ROWS, MAX_BYTES).await?;
    match events.last() {
        Some(last) => {
            for row in count(meter, &events)? {
                tables.insert_batch(row).await?;
            }
            tables.set_backfilled(meter.id, Some(last.seq)).await?;
        }
        None => {
            tables.set_backfilled(meter.id, None).await?;
            for former in meters.iter().filter(|former| former.name == meter.name && former.id < meter.id) {
                tables.remove_meter(former.id).await?;
            }
            tables.change_version().await?;
        }
    }
    tables.commit().await?;
    Ok(true)
}

/// Returns the rows of what a meter counts of events.
pub(super) fn count(meter: &StoredMeter, events: &[StoredEvent]) -> Result<Vec<Vec<u8>>, StoreError> {
    let set = Set::new(&[meter.meter()]).map_err(|error| StoreError::Failed(error.to_string()))?;
    let mut recorder = Recorder::new(Arc::new(set));
    recorder.add_all(events.iter().map(|event| Counted {
        topic: &event.topic,
        event_id: &event.event_id,
        source: event.source.as_deref(),
        // What is left of a damaged row is not what was sent.
        payload: if event.damaged { "" } else { &event.payload },
        timestamp: event.timestamp,
        received_at: event.received_at,
    }));
    Ok(recorder.encode())
}
