//! Adds, changes and removes meters.

use sluice_meter::{Definition, MAX_METERS};

use super::status::{MeterStatus, PutMeter};
use super::tables::MeterTables;
use crate::StoreError;

/// Adds a meter or changes it, at an exact cut.
pub(crate) async fn put(
    tables: &mut dyn MeterTables,
    name: &str,
    definition: &Definition,
) -> Result<PutMeter, StoreError> {
    tables.begin(true).await?;
    let meters = tables.meters().await?;
    let count = meters.len();
    let present = MeterStatus::of_all(meters).into_iter().find(|meter| meter.shown.name == name);
    let newest = present.as_ref().map(|present| present.next.as_ref().unwrap_or(&present.shown));
    if let Some(newest) = newest.filter(|newest| newest.definition.counts_like(definition)) {
        if newest.definition != *definition {
            tables.update_definition(newest.id, &definition.to_json()).await?;
        }
        tables.commit().await?;
        return Ok(PutMeter::Unchanged);
    }
    let superseded = present.as_ref().and_then(|present| present.next.as_ref());
    if count - usize::from(superseded.is_some()) >= MAX_METERS {
        tables.rollback().await?;
        return Ok(PutMeter::TooMany);
    }
    if let Some(superseded) = superseded {
        tables.remove_meter(superseded.id).await?;
    }
    let cut = tables.cut().await?;
    tables.insert_meter(name, &definition.to_json(), cut).await?;
    tables.change_version().await?;
    tables.commit().await?;
    Ok(if present.is_some() { PutMeter::Changed } else { PutMeter::Added })
}

/// Removes a meter. Returns whether there was one.
pub(crate) async fn delete(tables: &mut dyn MeterTables, name: &str) -> Result<bool, StoreError> {
    tables.begin(true).await?;
    let meters: Vec<_> = tables.meters().await?.into_iter().filter(|meter| meter.name == name).collect();
    if meters.is_empty() {
        tables.rollback().await?;
        return Ok(false);
    }
    for meter in &meters {
        tables.remove_meter(meter.id).await?;
    }
    // Transactions that count it all the same do no harm: what they have is left out.
    tables.change_version().await?;
    tables.commit().await?;
    Ok(true)
}
