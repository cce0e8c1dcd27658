//! JSON Schemas of topics: what a definition is, whether a payload matches it, and the set of all that are in force.
//!
//! Pure: no input or output. A schema comes from an administrator and a payload from anybody, so both are bounded:
//! - A schema has a size, and is unfolded only so far ([`InvalidSchema`] says where it is too large).
//! - It refers to nothing outside of itself, so nothing is ever fetched.
//! - Patterns are matched in linear time, with an engine that has no look-around and no back-references.
//! - Matching a payload has a budget of steps ([`Validator::check`]).

mod bounds;
mod definition;
mod invalid;
mod metered;
mod set;
mod text;
mod validator;

pub use definition::{Definition, MAX_SCHEMA_BYTES, Policy};
pub use invalid::InvalidSchema;
pub use set::{InForce, MAX_SCHEMAS, MAX_TOTAL_BYTES, Schemas, TopicSchema};
pub use validator::{Validator, Violation};

/// The number of versions of a topic's schema that are kept.
pub const MAX_VERSIONS: u32 = 100;

/// Returns the name under which publishers count the events that do not match a version of a schema.
pub fn tally_name(topic: &str, version: u32) -> String {
    format!("{version} {topic}")
}
