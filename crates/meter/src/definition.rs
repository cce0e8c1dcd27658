//! What a meter counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sluice_auth::TopicPattern;
use sluice_event::pointer::Pointer;

/// The largest number of fields that figures are grouped by.
pub const MAX_GROUP_BY: usize = 4;
/// The largest number of patterns of topics.
const MAX_TOPICS: usize = 32;
/// The name that no meter may have: `/meters/query` answers questions about several meters.
const RESERVED: &str = "query";
/// The longest name in bytes.
const MAX_NAME: usize = 64;
/// The longest retention in days: a century.
const MAX_RETENTION_DAYS: u32 = 36_500;

/// What a meter counts. As JSON: `{"aggregation":"sum","value":"/amount","topics":["orders"],"group_by":["source"]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Patterns of the topics whose events count; all topics by default.
    #[serde(default = "all_topics")]
    pub topics: Vec<String>,
    /// How the values of events are made to one figure.
    pub aggregation: Aggregation,
    /// The place of the value in the payload; none for `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What figures are grouped by, at most four.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group_by: Vec<GroupBy>,
    /// The time that decides the window of an event.
    #[serde(default)]
    pub time: TimeField,
    /// Windows that ended so many days ago are removed; without it none are.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_number")]
    pub retention_days: Option<u32>,
}

/// Reads a whole number, or null. `30.0` is one too: JSON has one kind of numbers. One that is too large or negative becomes
/// one that the range excludes.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let wrong = || serde::de::Error::custom("must be a whole number or null");
    match Option::<f64>::deserialize(deserializer).map_err(|_| wrong())? {
        Some(number) if number.fract() != 0.0 => Err(wrong()),
        number => Ok(number.map(|number| number as u32)),
    }
}

fn all_topics() -> Vec<String> {
    vec!["*".to_owned()]
}

/// How the values of events are made to one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// The number of events.
    Count,
    /// The exact sum.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The exact sum divided by the number of values.
    Avg,
    /// The number of different values.
    Unique,
    /// The value with the latest time, and of two with the same time the greater one.
    Latest,
}

impl Aggregation {
    /// All of them with their names.
    pub const ALL: [(&'static str, Self); 7] = [
        ("count", Self::Count),
        ("sum", Self::Sum),
        ("min", Self::Min),
        ("max", Self::Max),
        ("avg", Self::Avg),
        ("unique", Self::Unique),
        ("latest", Self::Latest),
    ];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, aggregation)| *aggregation == self).map_or("", |(name, _)| name)
    }
}

/// A field that figures are grouped by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupBy {
    /// The topic of the event.
    Topic,
    /// The source of the event.
    Source,
    /// A value in the payload.
    Payload(Pointer),
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "topic" => Ok(Self::Topic),
            "source" => Ok(Self::Source),
            "" => Err("must be `topic`, `source` or a JSON pointer into the payload".to_owned()),
            pointer => pointer.parse().map(Self::Payload).map_err(|error| {
                format!("`{pointer}` must be `topic`, `source` or a JSON pointer into the payload, which {error}")
            }),
        }
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic => f.write_str("topic"),
            Self::Source => f.write_str("source"),
            Self::Payload(pointer) => pointer.fmt(f),
        }
    }
}

impl Serialize for GroupBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The time that decides the window of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeField {
    /// The event's own time.
    #[default]
    Timestamp,
    /// When the publisher accepted it.
    ReceivedAt,
}

/// Why a definition cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidDefinition {
    /// The field that is wrong; empty if it is no definition at all.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

fn invalid(field: &str, reason: impl Into<String>) -> InvalidDefinition {
    InvalidDefinition { field: field.to_owned(), reason: reason.into() }
}

/// Checks the name of a meter.
///
/// # Errors
/// [`InvalidDefinition`] of the field `name`.
pub fn check_name(name: &str) -> Result<(), InvalidDefinition> {
    let begins_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_plain = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'));
    if name == RESERVED {
        return Err(invalid("name", format!("must not be `{RESERVED}`, which is a path of the API")));
    }
    if begins_well && is_plain && name.len() <= MAX_NAME {
        return Ok(());
    }
    let reason = "must have at most 64 characters of a-z, 0-9, `_`, `-` and `.`, and begin with a letter or a digit";
    Err(invalid("name", reason))
}

impl Definition {
    /// Reads and checks a definition in JSON.
    ///
    /// # Errors
    /// [`InvalidDefinition`], with the field if it is known.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidDefinition> {
        if !json.trim_ascii_start().starts_with(b"{") {
            return Err(invalid("", "must be a JSON object"));
        }
        let mut json = serde_json::Deserializer::from_slice(json);
        let definition: Self = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let field = error.path().to_string();
            invalid(if field == "." { "" } else { &field }, error.inner().to_string())
        })?;
        json.end().map_err(|error| invalid("", error.to_string()))?;
        definition.check()?;
        Ok(definition)
    }

    /// Checks what its type does not.
    ///
    /// # Errors
    /// [`InvalidDefinition`].
    pub fn check(&self) -> Result<(), InvalidDefinition> {
        if self.topics.is_empty() || self.topics.len() > MAX_TOPICS {
            return Err(invalid("topics", format!("must have 1 to {MAX_TOPICS} patterns")));
        }
        for pattern in &self.topics {
            TopicPattern::from_str(pattern).map_err(|error| invalid("topics", format!("`{pattern}`: {error}")))?;
        }
        match (&self.value, self.aggregation) {
            (Some(_), Aggregation::Count) => return Err(invalid("value", "must not be given for `count`")),
            (None, aggregation) if aggregation != Aggregation::Count => {
                return Err(invalid("value", format!("is needed for `{}`", aggregation.name())));
            }
            _ => {}
        }
        self.pointer()?;
        if self.group_by.len() > MAX_GROUP_BY {
            return Err(invalid("group_by", format!("must have at most {MAX_GROUP_BY} fields")));
        }
        let repeated = |(at, field)| self.group_by.iter().take(at).any(|other| other == field);
        if self.group_by.iter().enumerate().any(repeated) {
            return Err(invalid("group_by", "must not have a field twice"));
        }
        if self.retention_days.is_some_and(|days| days == 0 || days > MAX_RETENTION_DAYS) {
            return Err(invalid("retention_days", format!("must be between 1 and {MAX_RETENTION_DAYS}")));
        }
        Ok(())
    }

    /// Returns the place of the value.
    ///
    /// # Errors
    /// [`InvalidDefinition`] of the field `value`.
    pub fn pointer(&self) -> Result<Option<Pointer>, InvalidDefinition> {
        let parse = |value: &String| value.parse().map_err(|error| invalid("value", format!("{error}")));
        self.value.as_ref().map(parse).transpose()
    }

    /// Returns the definition as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns whether figures of both are the same: only how long they are kept may differ.
    pub fn counts_like(&self, other: &Self) -> bool {
        Self { retention_days: None, ..self.clone() } == Self { retention_days: None, ..other.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_read_with_its_defaults_and_written_as_it_was() {
        let json =
            r#"{"topics":["a.*"],"aggregation":"sum","value":"/n","group_by":["topic","/x~1y"],"time":"received_at"}"#;
        let definition = Definition::parse(json.as_bytes()).unwrap();
        assert_eq!(definition.group_by[1].to_string(), "/x~1y");
        assert_eq!(definition.to_json(), json);
        let count = Definition::parse(br#"{"aggregation":"count"}"#).unwrap();
        assert_eq!((count.topics, count.time), (vec!["*".to_owned()], TimeField::Timestamp));
        for (days, expected) in [("30", Some(30)), ("30.0", Some(30)), ("null", None)] {
            let json = format!(r#"{{"aggregation":"count","retention_days":{days}}}"#);
            assert_eq!(Definition::parse(json.as_bytes()).unwrap().retention_days, expected, "{days}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_definition_is_said_with_its_field() {
        for (json, field, says) in [
            ("[]", "", "must be a JSON object"),
            ("{}", "", "missing field `aggregation`"),
            (r#"{"aggregation":"count"} x"#, "", "trailing characters"),
            (r#"{"aggregation":"mean"}"#, "aggregation", "unknown variant `mean`"),
            (r#"{"aggregation":"count","colour":1}"#, "colour", "unknown field `colour`"),
            (r#"{"aggregation":"count","value":"/a"}"#, "value", "must not be given"),
            (r#"{"aggregation":"sum"}"#, "value", "is needed for `sum`"),
            (r#"{"aggregation":"sum","value":"a"}"#, "value", "begin with /"),
            (r#"{"aggregation":"count","topics":[]}"#, "topics", "1 to 32"),
            (r#"{"aggregation":"count","topics":[""]}"#, "topics", "``"),
            (r#"{"aggregation":"count","group_by":["/b","a"]}"#, "group_by[1]", "`a` must be `topic`"),
            (r#"{"aggregation":"count","group_by":["/a","/b","/c","/d","/e"]}"#, "group_by", "at most 4"),
            (r#"{"aggregation":"count","group_by":["/a","/a"]}"#, "group_by", "twice"),
            (r#"{"aggregation":"count","retention_days":0}"#, "retention_days", "between 1"),
            (r#"{"aggregation":"count","retention_days":-1}"#, "retention_days", "between 1"),
            (r#"{"aggregation":"count","retention_days":4294967297}"#, "retention_days", "between 1"),
            (r#"{"aggregation":"count","retention_days":1.5}"#, "retention_days", "must be a whole number"),
            (r#"{"aggregation":"count","retention_days":"1"}"#, "retention_days", "must be a whole number"),
        ] {
            let error = Definition::parse(json.as_bytes()).unwrap_err();
            assert!(error.field == field && error.reason.contains(says), "{json}: {error:?}");
        }
        for name in ["", "A", "-a", "a b", "query", &"a".repeat(65)] {
            assert_eq!(check_name(name).unwrap_err().field, "name", "{name}");
        }
        assert!(check_name("0.requests_by-host").is_ok());
    }
}
