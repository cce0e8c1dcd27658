//! What is done for meters every few seconds.

use std::time::{Duration, Instant};

use sluice_meter::fold::{Length, Skipped};

use super::backfill::backfill;
use super::fold::fold;
use super::status::{MeterFigures, MeterStatus, StoredMeter};
use super::tables::MeterTables;
use crate::StoreError;

/// The time after which a call begins no further step of one kind.
const MAX_DURATION: Duration = Duration::from_secs(2);
/// The windows that are removed in one transaction.
const REMOVE_CHUNK: u32 = 1_000;
const MINUTES_OF_A_DAY: i64 = 24 * 60;
/// All lengths of windows that there are.
const LENGTHS: [Length; 4] = [Length::Beyond, Length::Minute, Length::Quarter, Length::Hour];

/// Adds up what batches have written, counts events before the cuts of new meters, and removes windows that are too old or whose
/// meter was removed. Returns `None` if another replica is doing so at this time.
pub(crate) async fn maintain(tables: &mut dyn MeterTables) -> Result<Option<MeterFigures>, StoreError> {
    let mut more = repeat(Step::Fold, tables).await?;
    if repeat(Step::Backfill, tables).await? {
        more = true;
    }
    // What the backfill has just written.
    more |= repeat(Step::Fold, tables).await?;
    if !tables.begin(false).await? {
        return Ok(None);
    }
    let meters = tables.meters().await?;
    let now = tables.now().await?.as_micros().div_euclid(60_000_000);
    for meter in &meters {
        remove_old(tables, meter, now).await?;
    }
    remove_of_removed(tables).await?;
    tables.commit().await?;
    Ok(Some(MeterFigures { meters: MeterStatus::of_all(meters), more }))
}

#[derive(Clone, Copy)]
enum Step {
    Fold,
    Backfill,
}

/// Repeats a step until nothing is left or the time is over. Returns whether something may be left.
async fn repeat(step: Step, tables: &mut dyn MeterTables) -> Result<bool, StoreError> {
    let until = Instant::now() + MAX_DURATION;
    loop {
        let more = match step {
            Step::Fold => fold(tables).await?,
            Step::Backfill => backfill(tables).await?,
        };
        if !more || Instant::now() >= until {
            return Ok(more);
        }
    }
}

/// Removes some windows that are older than a meter keeps them.
async fn remove_old(tables: &mut dyn MeterTables, meter: &StoredMeter, now: i64) -> Result<(), StoreError> {
    let Some(days) = meter.definition.retention_days else { return Ok(()) };
    let before = now - i64::from(days) * MINUTES_OF_A_DAY;
    for length in [Length::Minute, Length::Quarter, Length::Hour] {
        // Only whole windows: a longer one ends later than a minute of it.
        let begins_before = (before - length.minutes() + 1).div_euclid(length.minutes()) * length.minutes();
        let removed = tables.remove_windows(meter.id, length, begins_before, REMOVE_CHUNK).await?;
        if length == Length::Minute && removed > 0 {
            tables.add_to_meter(meter.id, -removed.cast_signed(), &Skipped::default()).await?;
        }
    }
    Ok(())
}

/// Removes some windows of a meter that was removed.
async fn remove_of_removed(tables: &mut dyn MeterTables) -> Result<(), StoreError> {
    let Some(id) = tables.removed_meter().await? else { return Ok(()) };
    let mut removed = 0;
    for length in LENGTHS {
        removed += tables.remove_windows(id, length, i64::MAX, REMOVE_CHUNK).await?;
    }
    if removed == 0 {
        tables.forget_meter(id).await?;
    }
    Ok(())
}
