//! Why a definition cannot be used.

use crate::text::shown;

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", place(field, pointer))]
pub struct InvalidSchema {
    /// The member of the definition that is wrong; empty if it is all of it.
    pub field: String,
    /// The place in the schema, as a JSON pointer; `None` if another member is wrong.
    pub pointer: Option<String>,
    /// Why.
    pub reason: String,
}

fn place(field: &str, pointer: &Option<String>) -> String {
    match pointer.as_deref() {
        Some("") | None if field.is_empty() => String::new(),
        Some("") | None => format!("{field}: "),
        Some(pointer) => format!("{field} at {pointer}: "),
    }
}

impl InvalidSchema {
    /// Returns an error at a place in the schema.
    pub(crate) fn at(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        let (pointer, reason) = (shown(pointer.into()), shown(reason.into()));
        Self { field: "schema".into(), pointer: Some(pointer), reason }
    }

    /// Returns an error of a member of the definition that is not the schema.
    pub(crate) fn of(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), pointer: None, reason: reason.into() }
    }
}
