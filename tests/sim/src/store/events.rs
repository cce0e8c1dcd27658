//! The events that the model store treats in a special way.

/// The payload of an event that the store refuses.
pub const REFUSED: &str = r#"{"refused":true}"#;
/// The payload of an event that kills the process which tries to store it.
pub const KILLS: &str = r#"{"kills":true}"#;
