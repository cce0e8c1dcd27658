//! Rows of meters, which both databases return alike.

use sluice_event::Timestamp;
use sluice_meter::Definition;

use super::status::StoredMeter;
use crate::StoreError;

/// The columns of a row.
pub(crate) const COLUMNS: &str = "id, name, definition, created_at, complete_from, first_seq, cut_seq, backfilled_to, windows, \
                                  skipped, example";

/// A row of the table.
pub(crate) type MeterRow = (i64, String, String, i64, Option<i64>, i64, i64, Option<i64>, i64, i64, Option<String>);

/// Reads rows.
pub(crate) fn meters_of(rows: Vec<MeterRow>) -> Result<Vec<StoredMeter>, StoreError> {
    rows.into_iter().map(of_row).collect()
}

fn of_row(row: MeterRow) -> Result<StoredMeter, StoreError> {
    let (id, name, definition, created_at, complete_from, first_seq, cut_seq, backfilled_to, windows, skipped, example) =
        row;
    let unusable =
        |why: String| StoreError::Failed(format!("the definition of the meter {name} cannot be used: {why}"));
    let definition = Definition::parse(definition.as_bytes()).map_err(|error| unusable(error.to_string()))?;
    let created_at = Timestamp::from_micros(created_at).ok_or_else(|| unusable("its time".to_owned()))?;
    Ok(StoredMeter {
        id,
        name,
        definition,
        created_at,
        complete_from: complete_from.and_then(Timestamp::from_micros),
        first_seq,
        cut_seq,
        backfilled_to,
        windows: windows.cast_unsigned(),
        skipped: skipped.cast_unsigned(),
        example,
    })
}
