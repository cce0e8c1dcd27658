//! The resource, as it is: read without types, because it may be of another version, or not valid.

use anyhow::bail;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;

/// A resource.
#[derive(Debug)]
pub struct Resource {
    object: DynamicObject,
}

/// A condition of the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The reason, in a word.
    pub reason: String,
    /// The reason, in words.
    pub message: String,
    /// Since when the status is this one.
    pub last_transition_time: Option<Timestamp>,
}

impl Default for Condition {
    fn default() -> Self {
        let (kind, reason, message) = (String::new(), String::new(), String::new());
        Self { kind, status: "Unknown".to_owned(), reason, message, last_transition_time: None }
    }
}

impl Condition {
    /// Whether it is as it should be: nothing progresses, and everything else is true. What the topology promises was
    /// chosen, and is nothing to mend.
    pub fn is_fine(&self) -> bool {
        match self.kind.as_str() {
            "Progressing" => self.status == "False" && self.reason != "Stalled",
            "Durable" => true,
            _ => self.status == "True",
        }
    }
}

impl Resource {
    /// Reads a resource of the namespace.
    ///
    /// # Errors
    /// If it does not exist or cannot be read.
    pub async fn read(context: &Context, name: &str) -> anyhow::Result<Self> {
        let api = context.resources()?;
        match context.answer("cannot read it", api.get_opt(name)).await? {
            Some(object) => Ok(Self { object }),
            None => bail!(
                "there is none of this name, or the definition of EventAggregator is not installed \
                 (kubectl sluice status -A lists all)"
            ),
        }
    }

    /// Returns the resource of an object.
    pub fn of(object: DynamicObject) -> Self {
        Self { object }
    }

    /// Returns its name.
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// Returns its namespace.
    pub fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// Returns when it was created.
    pub fn created(&self) -> Option<Timestamp> {
        self.object.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Whether it is being deleted.
    pub fn is_being_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// Returns the member at a path such as `/status/replicas`, unless it is null.
    pub fn at(&self, path: &str) -> Option<&Value> {
        self.object.data.pointer(path).filter(|value| !value.is_null())
    }

    /// Returns the text at a path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Returns the number at a path.
    pub fn number(&self, path: &str) -> Option<i64> {
        self.at(path)?.as_i64()
    }

    /// Returns whether the flag at a path is set.
    pub fn flag(&self, path: &str) -> bool {
        self.at(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns its conditions.
    pub fn conditions(&self) -> Vec<Condition> {
        let all = self.at("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
        all.into_iter().filter_map(|condition| serde_json::from_value(condition).ok()).collect()
    }

    /// Returns the condition of this type. One that is missing is unknown.
    pub fn condition(&self, kind: &str) -> Condition {
        let found = self.conditions().into_iter().find(|condition| condition.kind == kind);
        found.unwrap_or_else(|| Condition { kind: kind.to_owned(), ..Condition::default() })
    }

    /// Whether the operator has not yet seen the last change of the spec.
    pub fn is_unseen(&self) -> bool {
        let generation = self.object.metadata.generation;
        generation.is_some() && self.number("/status/observedGeneration") != generation
    }
}
