//! Schemas of topics: what [`crate::schemas`] is made of.

use async_trait::async_trait;
use sluice_schema::{Definition, MAX_VERSIONS};
use sqlx::AssertSqlSafe;

use super::PostgresStore;
use super::connections::Lease;
use super::locks::lock_id;
use crate::StoreError;
use crate::schemas::{
    COLUMNS, COLUMNS_WITHOUT_SCHEMA, IN_FORCE, MAX_REMOVED, Put, PutSchema, SchemaRow, SchemaStore, StoredSchema,
    decide, schemas_of,
};

#[async_trait]
impl SchemaStore for PostgresStore {
    async fn schemas(&self) -> Result<Vec<StoredSchema>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let select = AssertSqlSafe(format!("SELECT {COLUMNS} FROM topic_schemas WHERE {IN_FORCE}"));
        let rows = lease.fetch_all(sqlx::query_as::<_, SchemaRow>(select)).await.and_then(schemas_of);
        let mut schemas = self.finish(lease, rows)?;
        // Not in the order of a collation, which may change.
        schemas.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(schemas)
    }

    async fn schema(&self, topic: &str, version: Option<u32>) -> Result<Option<StoredSchema>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let text = format!(
            "SELECT {COLUMNS} FROM topic_schemas WHERE topic = $1 AND CASE WHEN $2::int8 IS NULL THEN {IN_FORCE} \
             ELSE version = $2 END"
        );
        let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic).bind(version.map(i64::from));
        let rows = lease.fetch_all(select).await.and_then(schemas_of);
        Ok(self.finish(lease, rows)?.pop())
    }

    async fn schema_versions(&self, topic: &str) -> Result<Vec<StoredSchema>, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let text = format!("SELECT {COLUMNS_WITHOUT_SCHEMA} FROM topic_schemas WHERE topic = $1 ORDER BY version DESC");
        let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic);
        let rows = lease.fetch_all(select).await.and_then(schemas_of);
        self.finish(lease, rows)
    }

    async fn put_schema(&self, topic: &str, definition: &Definition) -> Result<PutSchema, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let put = put(&mut lease, &self.settings.schema, topic, definition).await;
        self.finish(lease, put)
    }

    async fn delete_schema(&self, topic: &str) -> Result<bool, StoreError> {
        let mut lease = self.lease(&self.queries).await?;
        let deleted = delete(&mut lease, &self.settings.schema, topic).await;
        self.finish(lease, deleted)
    }
}

/// Begins a transaction that is the only one of its kind.
async fn begin(lease: &mut Lease, schema: &str) -> Result<(), StoreError> {
    lease.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    lease.execute(sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock_id(schema, "schemas"))).await
}

async fn newest(lease: &mut Lease, topic: &str) -> Result<Option<StoredSchema>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM topic_schemas WHERE topic = $1 ORDER BY version DESC LIMIT 1");
    let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic);
    Ok(schemas_of(lease.fetch_all(select).await?)?.pop())
}

async fn put(lease: &mut Lease, schema: &str, topic: &str, definition: &Definition) -> Result<PutSchema, StoreError> {
    begin(lease, schema).await?;
    let newest = newest(lease, topic).await?;
    let text = format!(
        "SELECT count(*), coalesce(sum(octet_length(schema)), 0)::int8 FROM topic_schemas WHERE topic <> $1 AND {IN_FORCE}"
    );
    let others = lease.fetch_one(sqlx::query_as(AssertSqlSafe(text)).bind(topic)).await?;
    let done = match decide(definition, newest.as_ref(), others) {
        Put::Nothing(done) => done,
        Put::Version(version, done) => {
            let insert = sqlx::query(
                "INSERT INTO topic_schemas (topic, version, policy, schema, created_at) \
                 VALUES ($1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::int8)",
            );
            let insert = insert.bind(topic).bind(i64::from(version)).bind(definition.policy.name());
            lease.execute(insert.bind(definition.schema())).await?;
            let forget = sqlx::query("DELETE FROM topic_schemas WHERE topic = $1 AND version <= $2");
            lease.execute(forget.bind(topic).bind(i64::from(version) - i64::from(MAX_VERSIONS))).await?;
            done
        }
    };
    lease.run("COMMIT").await?;
    Ok(done)
}

async fn delete(lease: &mut Lease, schema: &str, topic: &str) -> Result<bool, StoreError> {
    begin(lease, schema).await?;
    let present = newest(lease, topic).await?.filter(|newest| newest.removed_at.is_none());
    if let Some(present) = &present {
        let update = sqlx::query(
            "UPDATE topic_schemas SET removed_at = (extract(epoch FROM clock_timestamp()) * 1000000)::int8 \
             WHERE topic = $1 AND version = $2",
        );
        lease.execute(update.bind(topic).bind(i64::from(present.version))).await?;
        let forget = sqlx::query(
            "DELETE FROM topic_schemas WHERE topic IN ( \
                 SELECT topic FROM topic_schemas GROUP BY topic \
                 HAVING (array_agg(removed_at ORDER BY version DESC))[1] IS NOT NULL \
                 ORDER BY max(removed_at) DESC OFFSET $1)",
        );
        lease.execute(forget.bind(MAX_REMOVED)).await?;
    }
    lease.run("COMMIT").await?;
    Ok(present.is_some())
}
