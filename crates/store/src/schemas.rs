//! Schemas of topics in a store, with their versions.
//!
//! A row is a version, and versions of a topic are never used again. The newest one is in force unless it was removed. Changes are
//! made one after another, under a lock, and none concerns the transactions that store events: schemas are checked by publishers,
//! which get them through the log.

use async_trait::async_trait;
use sluice_event::Timestamp;
use sluice_schema::{Definition, InForce, MAX_SCHEMAS, MAX_TOTAL_BYTES, Policy};

use crate::StoreError;

/// The number of topics without a schema whose former versions are kept.
pub(crate) const MAX_REMOVED: i64 = 100;

/// A version of the schema of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchema {
    /// The topic.
    pub topic: String,
    /// Its number among those of the topic, from 1.
    pub version: u32,
    /// What becomes of events that do not match.
    pub policy: Policy,
    /// The schema, as JSON.
    pub schema: String,
    /// When it was put, by the store's clock.
    pub created_at: Timestamp,
    /// When it was removed, without another one in its place.
    pub removed_at: Option<Timestamp>,
}

impl StoredSchema {
    /// Returns it as publishers are told.
    pub fn in_force(&self) -> InForce<'_> {
        InForce { topic: &self.topic, version: self.version, policy: self.policy, schema: &self.schema }
    }
}

/// What putting a schema has done. The number is that of the version in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutSchema {
    /// The topic had none.
    Added(u32),
    /// It is another version now.
    Changed(u32),
    /// It was like this already.
    Unchanged(u32),
    /// As many topics have a schema as may have one.
    TooMany,
    /// All schemas together would be too large.
    TooLarge,
}

/// A store that keeps schemas.
#[async_trait]
pub trait SchemaStore {
    /// Returns the schemas that are in force, in the order of their topics.
    async fn schemas(&self) -> Result<Vec<StoredSchema>, StoreError>;

    /// Returns a version of the schema of a topic; without a number the one that is in force.
    async fn schema(&self, topic: &str, version: Option<u32>) -> Result<Option<StoredSchema>, StoreError>;

    /// Returns the versions of a topic that are kept, newest first, without the schemas themselves.
    async fn schema_versions(&self, topic: &str) -> Result<Vec<StoredSchema>, StoreError>;

    /// Puts a schema in force, as a new version unless it is like the present one.
    async fn put_schema(&self, topic: &str, definition: &Definition) -> Result<PutSchema, StoreError>;

    /// Removes the schema of a topic. Its versions are kept. Returns whether there was one.
    async fn delete_schema(&self, topic: &str) -> Result<bool, StoreError>;
}

/// The columns of a row.
pub(crate) const COLUMNS: &str = "topic, version, policy, schema, created_at, removed_at";
/// The same without the schema.
pub(crate) const COLUMNS_WITHOUT_SCHEMA: &str = "topic, version, policy, '', created_at, removed_at";
/// The condition of rows that are in force.
pub(crate) const IN_FORCE: &str = "removed_at IS NULL AND version = (SELECT max(n.version) FROM topic_schemas AS n \
                                   WHERE n.topic = topic_schemas.topic)";

/// A row of the table.
pub(crate) type SchemaRow = (String, i64, String, String, i64, Option<i64>);

/// Reads rows.
pub(crate) fn schemas_of(rows: Vec<SchemaRow>) -> Result<Vec<StoredSchema>, StoreError> {
    rows.into_iter().map(of_row).collect()
}

fn of_row((topic, version, policy, schema, created_at, removed_at): SchemaRow) -> Result<StoredSchema, StoreError> {
    let unusable = |what: &str| StoreError::Failed(format!("the {what} of the schema of topic {topic} cannot be used"));
    let policy = policy.parse().map_err(|_| unusable("policy"))?;
    let version = u32::try_from(version).map_err(|_| unusable("version"))?;
    let created_at = Timestamp::from_micros(created_at).ok_or_else(|| unusable("time"))?;
    let removed_at = removed_at.and_then(Timestamp::from_micros);
    Ok(StoredSchema { version, policy, created_at, removed_at, schema, topic })
}

/// How many schemas of other topics are in force, and their size.
pub(crate) type Others = (i64, i64);

/// What a put does: nothing, with the outcome, or a version that is added, with the outcome after that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Nothing(PutSchema),
    Version(u32, PutSchema),
}

/// Decides what a put does, of the newest version of the topic and of the schemas of other topics.
pub(crate) fn decide(definition: &Definition, newest: Option<&StoredSchema>, (count, bytes): Others) -> Put {
    let next = newest.map_or(1, |newest| newest.version.saturating_add(1));
    let present = newest.filter(|newest| newest.removed_at.is_none());
    if let Some(present) = present.filter(|present| definition.is_like(present.policy, &present.schema)) {
        return Put::Nothing(PutSchema::Unchanged(present.version));
    }
    if count >= MAX_SCHEMAS as i64 {
        return Put::Nothing(PutSchema::TooMany);
    }
    if bytes + definition.schema().len() as i64 > MAX_TOTAL_BYTES as i64 {
        return Put::Nothing(PutSchema::TooLarge);
    }
    let done = if present.is_some() { PutSchema::Changed(next) } else { PutSchema::Added(next) };
    Put::Version(next, done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_bounded_by_number_and_by_size_and_versions_go_on_after_a_removal() {
        let definition = Definition::new(Policy::Refuse, &serde_json::json!({"type": "object"})).unwrap();
        let stored = |version, schema: &str, removed_at| StoredSchema {
            topic: "t".into(),
            version,
            policy: Policy::Refuse,
            schema: schema.into(),
            created_at: Timestamp::now(),
            removed_at,
        };
        let max = (MAX_SCHEMAS as i64 - 1, MAX_TOTAL_BYTES as i64 - definition.schema().len() as i64);
        assert_eq!(decide(&definition, None, max), Put::Version(1, PutSchema::Added(1)));
        assert_eq!(decide(&definition, None, (max.0 + 1, 0)), Put::Nothing(PutSchema::TooMany));
        assert_eq!(decide(&definition, None, (0, max.1 + 1)), Put::Nothing(PutSchema::TooLarge));
        let present = stored(4, "true", None);
        assert_eq!(decide(&definition, Some(&present), max), Put::Version(5, PutSchema::Changed(5)));
        let same = stored(4, definition.schema(), None);
        assert_eq!(decide(&definition, Some(&same), max), Put::Nothing(PutSchema::Unchanged(4)));
        let removed = stored(4, definition.schema(), Some(Timestamp::now()));
        assert_eq!(decide(&definition, Some(&removed), max), Put::Version(5, PutSchema::Added(5)));
    }
}
