//! The events that the model store treats in a special way.

use sluice_store::StoreError;

/// The payload of an event that the store refuses.
pub const REFUSED: &str = r#"{"refused":true}"#;
/// The payload of an event that kills the process which tries to store it.
pub const KILLS: &str = r#"{"kills":true}"#;

/// Returns the error of a query.
pub fn not_simulated<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("queries are not simulated".into()))
}
