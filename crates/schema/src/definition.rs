//! What somebody puts for a topic: a schema, and what becomes of events that do not match it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::invalid::InvalidSchema;
use crate::validator::Validator;

/// The largest schema, as compact JSON.
pub const MAX_SCHEMA_BYTES: usize = 64 << 10;

/// What becomes of an event whose payload does not match the schema of its topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// It is refused.
    #[default]
    Refuse,
    /// It is let in, and counted.
    Count,
}

impl Policy {
    /// Returns the name, as in a definition.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Count => "count",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "count" => Ok(Self::Count),
            _ => Err("must be `refuse` or `count`".to_owned()),
        }
    }
}

/// The schema of a topic with its policy. The schema can be used: it was compiled once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What becomes of events that do not match.
    pub policy: Policy,
    /// The schema, as compact JSON.
    schema: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    policy: Policy,
    schema: Value,
}

impl Definition {
    /// Reads a definition: an object with `schema`, and with `policy` unless it is `refuse`.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidSchema> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let document: Document = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            InvalidSchema::of(field, error.into_inner().to_string())
        })?;
        json.end().map_err(|error| InvalidSchema::of("", error.to_string()))?;
        Self::new(document.policy, &document.schema)
    }

    /// Makes a definition of its parts.
    ///
    /// # Errors
    /// What is wrong with the schema, and where.
    pub fn new(policy: Policy, schema: &Value) -> Result<Self, InvalidSchema> {
        let text = schema.to_string();
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(InvalidSchema::at("", format!("must have at most {MAX_SCHEMA_BYTES} bytes as compact JSON")));
        }
        Validator::compile(schema)?;
        Ok(Self { policy, schema: text })
    }

    /// Returns the schema as compact JSON.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Compiles the schema.
    ///
    /// # Errors
    /// None that there was not when the definition was made.
    pub fn validator(&self) -> Result<Validator, InvalidSchema> {
        let schema: Value =
            serde_json::from_str(&self.schema).map_err(|error| InvalidSchema::at("", error.to_string()))?;
        Validator::compile(&schema)
    }

    /// Returns whether a stored schema with its policy is the same: members may be in another order.
    pub fn is_like(&self, policy: Policy, schema: &str) -> bool {
        let value = |text| serde_json::from_str::<Value>(text).ok();
        self.policy == policy && (self.schema == schema || value(&self.schema) == value(schema))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_a_schema_and_a_policy() {
        let definition = Definition::parse(br#"{"schema":{"type":"object"}}"#).unwrap();
        assert_eq!((definition.policy, definition.schema()), (Policy::Refuse, r#"{"type":"object"}"#));
        let definition = Definition::parse(br#"{"policy":"count","schema":true}"#).unwrap();
        assert_eq!((definition.policy, definition.schema()), (Policy::Count, "true"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let large = format!(r#"{{"schema":{{"title":"{}"}}}}"#, "x".repeat(MAX_SCHEMA_BYTES));
        for (json, says) in [
            ("", "EOF while parsing"),
            ("{} {}", "missing field `schema`"),
            (r#"{"schema":true} 1"#, "trailing characters"),
            (r#"{"schema":true,"colour":"red"}"#, "colour: unknown field `colour`"),
            (r#"{"schema":true,"policy":"warn"}"#, "policy: unknown variant `warn`"),
            (r#"{"schema":1}"#, "schema: 1 is not of types"),
            (r#"{"schema":{"properties":{"a":{"minLength":-1}}}}"#, "schema at /properties/a/minLength: -1 is less"),
            (r#"{"schema":{"type":"strin"}}"#, r#"schema at /type: "strin" is not one of"#),
            (&large, "schema: must have at most 65536 bytes"),
        ] {
            let error = Definition::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(says), "{}: {error}", &json[..json.len().min(80)]);
        }
    }

    #[test]
    fn the_order_of_members_makes_no_difference() {
        let definition = Definition::parse(br#"{"schema":{"type":"object","title":"a"}}"#).unwrap();
        assert!(definition.is_like(Policy::Refuse, r#"{"title":"a","type":"object"}"#));
        assert!(!definition.is_like(Policy::Count, definition.schema()));
        assert!(!definition.is_like(Policy::Refuse, r#"{"type":"object"}"#));
    }
}
