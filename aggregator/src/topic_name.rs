//! What a topic may be called.

use sluice_event::Limits;

/// Checks the name of a topic: events have no other.
///
/// # Errors
/// The reason.
pub(crate) fn check(topic: &str) -> Result<(), String> {
    let max = Limits::default().topic_bytes;
    if topic.trim().is_empty() {
        Err("must not be blank".to_owned())
    } else if topic.len() > max {
        Err(format!("has {} bytes, and at most {max} are allowed", topic.len()))
    } else if topic.contains('\0') {
        Err("must not contain NUL".to_owned())
    } else {
        Ok(())
    }
}
