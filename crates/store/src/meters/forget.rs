//! Removes the value of an event that is erased from what meters show: the latest value of a group is the value of one event.

use sluice_meter::batch::{Record, records};
use sluice_meter::fold::{Length, WindowKey};
use sluice_meter::window::Window;
use sluice_meter::{Aggregation, Damaged, Figure};

use super::backfill::count;
use super::fold::{add_up, damaged};
use super::tables::MeterTables;
use crate::{StoreError, StoredEvent};

/// The chunks of batches that are added up before: many more than there are after a few seconds.
const MAX_CHUNKS: u32 = 1_000;
const LENGTHS: [Length; 4] = [Length::Beyond, Length::Minute, Length::Quarter, Length::Hour];

/// Removes the value of an event from the windows of all meters of which it is the latest, in one transaction. What batches have
/// written is added up first, so that the windows have all that there is of the event.
pub(crate) async fn forget(tables: &mut dyn MeterTables, event: &StoredEvent) -> Result<(), StoreError> {
    tables.begin(true).await?;
    let meters = tables.meters().await?;
    let is_latest = |aggregation| aggregation == Aggregation::Latest;
    if !meters.iter().any(|meter| is_latest(meter.definition.aggregation)) {
        return tables.rollback().await;
    }
    for _ in 0..MAX_CHUNKS {
        if !add_up(tables).await? {
            break;
        }
    }
    for meter in meters.iter().filter(|meter| is_latest(meter.definition.aggregation)) {
        for row in count(meter, std::slice::from_ref(event))? {
            let mut figures = Vec::new();
            let read = records(&row, |record| {
                if let Record::Figure { minute, group, figure, .. } = record {
                    figures.push((minute, group.to_vec(), figure));
                }
                Ok::<_, Damaged>(())
            });
            read.map_err(damaged)?;
            for (minute, group, figure) in figures {
                forget_figure(tables, meter.id, minute, &group, &figure).await?;
            }
        }
    }
    tables.commit().await
}

/// Removes a value from the windows that have it.
async fn forget_figure(
    tables: &mut dyn MeterTables,
    meter: i64,
    minute: i64,
    group: &[u8],
    figure: &Figure,
) -> Result<(), StoreError> {
    let start = |length: Length| match length.minutes() {
        0 => 0,
        minutes => minute.div_euclid(minutes) * minutes,
    };
    let keys = LENGTHS.map(|length| WindowKey { meter, length, start: start(length) });
    let mut changed = Vec::new();
    for (key, content) in tables.contents(&keys).await? {
        let mut window = Window::default();
        window.add_encoded(&content).map_err(damaged)?;
        if window.forget_latest(group, figure) {
            changed.push((key, window.encode()));
        }
    }
    if changed.is_empty() { Ok(()) } else { tables.put_windows(changed).await }
}
