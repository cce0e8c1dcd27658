//! What is wrong with single events of a request.

use serde::Serialize;
use utoipa::ToSchema;

use crate::code::Code;

/// What is wrong with one event, or with all of the body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct EventError {
    /// The index of the event in the request, from 0; absent when the error concerns all of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    index: Option<usize>,
    /// The field with the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    field: Option<&'static str>,
    /// The place in the payload, as a JSON pointer, if it does not match a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/amount", nullable = false)]
    pointer: Option<String>,
    /// The code that the problem would have if this were the only error.
    #[schema(value_type = Code)]
    code: &'static str,
    /// What is wrong, as text for a person.
    detail: String,
}

impl EventError {
    /// Returns an error at this place.
    pub fn new(code: Code, index: Option<usize>, field: Option<&'static str>, detail: String) -> Self {
        Self { index, field, pointer: None, code: code.as_str(), detail }
    }

    /// Sets the place in the payload, as a JSON pointer.
    #[must_use]
    pub fn at_pointer(mut self, pointer: String) -> Self {
        self.pointer = Some(pointer);
        self
    }

    /// Returns the index of the event in the request.
    pub fn index(&self) -> Option<usize> {
        self.index
    }
}

/// The errors of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventErrors {
    /// The first of them. Whoever makes the list bounds it.
    pub first: Vec<EventError>,
    /// How many were found.
    pub count: usize,
}
