//! Schemas of topics: what [`crate::schemas`] is made of.

use async_trait::async_trait;
use sluice_event::Timestamp;
use sluice_schema::{Definition, MAX_VERSIONS};
use sqlx::{AssertSqlSafe, SqliteConnection};

use super::errors::{of_statement, within};
use super::{SqliteStore, writer};
use crate::StoreError;
use crate::schemas::{
    COLUMNS, COLUMNS_WITHOUT_SCHEMA, IN_FORCE, MAX_REMOVED, Put, PutSchema, SchemaRow, SchemaStore, StoredSchema,
    decide, schemas_of,
};

#[async_trait]
impl SchemaStore for SqliteStore {
    async fn schemas(&self) -> Result<Vec<StoredSchema>, StoreError> {
        let select = AssertSqlSafe(format!("SELECT {COLUMNS} FROM topic_schemas WHERE {IN_FORCE} ORDER BY topic"));
        within(async {
            let mut reader = self.queries.lease().await?;
            let rows = sqlx::query_as::<_, SchemaRow>(select).fetch_all(&mut *reader).await.map_err(of_statement)?;
            schemas_of(rows)
        })
        .await
    }

    async fn schema(&self, topic: &str, version: Option<u32>) -> Result<Option<StoredSchema>, StoreError> {
        let text = format!(
            "SELECT {COLUMNS} FROM topic_schemas \
             WHERE topic = ?1 AND CASE WHEN ?2 IS NULL THEN {IN_FORCE} ELSE version = ?2 END"
        );
        within(async {
            let mut reader = self.queries.lease().await?;
            let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic).bind(version.map(i64::from));
            Ok(schemas_of(select.fetch_all(&mut *reader).await.map_err(of_statement)?)?.pop())
        })
        .await
    }

    async fn schema_versions(&self, topic: &str) -> Result<Vec<StoredSchema>, StoreError> {
        let text = format!("SELECT {COLUMNS_WITHOUT_SCHEMA} FROM topic_schemas WHERE topic = ? ORDER BY version DESC");
        within(async {
            let mut reader = self.queries.lease().await?;
            let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic);
            schemas_of(select.fetch_all(&mut *reader).await.map_err(of_statement)?)
        })
        .await
    }

    async fn put_schema(&self, topic: &str, definition: &Definition) -> Result<PutSchema, StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        writer.begin().await?;
        let put = put(writer.current().await?, topic, definition).await;
        writer::end(&mut writer, &put).await?;
        put
    }

    async fn delete_schema(&self, topic: &str) -> Result<bool, StoreError> {
        let mut writer = writer::lock(&self.writer).await?;
        writer.begin().await?;
        let deleted = delete(writer.current().await?, topic).await;
        writer::end(&mut writer, &deleted).await?;
        deleted
    }
}

async fn newest(connection: &mut SqliteConnection, topic: &str) -> Result<Option<StoredSchema>, StoreError> {
    let text = format!("SELECT {COLUMNS} FROM topic_schemas WHERE topic = ? ORDER BY version DESC LIMIT 1");
    let select = sqlx::query_as::<_, SchemaRow>(AssertSqlSafe(text)).bind(topic);
    Ok(schemas_of(select.fetch_all(connection).await.map_err(of_statement)?)?.pop())
}

async fn put(connection: &mut SqliteConnection, topic: &str, definition: &Definition) -> Result<PutSchema, StoreError> {
    let newest = newest(connection, topic).await?;
    let text = format!(
        "SELECT count(*), coalesce(sum(length(CAST(schema AS BLOB))), 0) FROM topic_schemas \
         WHERE topic <> ? AND {IN_FORCE}"
    );
    let others = sqlx::query_as(AssertSqlSafe(text)).bind(topic);
    let others = others.fetch_one(&mut *connection).await.map_err(of_statement)?;
    let (version, done) = match decide(definition, newest.as_ref(), others) {
        Put::Nothing(done) => return Ok(done),
        Put::Version(version, done) => (version, done),
    };
    let insert =
        sqlx::query("INSERT INTO topic_schemas (topic, version, policy, schema, created_at) VALUES (?, ?, ?, ?, ?)");
    let insert = insert.bind(topic).bind(i64::from(version)).bind(definition.policy.name()).bind(definition.schema());
    let insert = insert.bind(Timestamp::now().as_micros());
    insert.execute(&mut *connection).await.map_err(of_statement)?;
    let forget = sqlx::query("DELETE FROM topic_schemas WHERE topic = ? AND version <= ?");
    let forget = forget.bind(topic).bind(i64::from(version) - i64::from(MAX_VERSIONS));
    forget.execute(connection).await.map_err(of_statement)?;
    Ok(done)
}

async fn delete(connection: &mut SqliteConnection, topic: &str) -> Result<bool, StoreError> {
    let present = newest(connection, topic).await?.filter(|newest| newest.removed_at.is_none());
    let Some(present) = present else { return Ok(false) };
    let update = sqlx::query("UPDATE topic_schemas SET removed_at = ? WHERE topic = ? AND version = ?");
    let update = update.bind(Timestamp::now().as_micros()).bind(topic).bind(i64::from(present.version));
    update.execute(&mut *connection).await.map_err(of_statement)?;
    let forget = sqlx::query(
        "DELETE FROM topic_schemas WHERE topic IN ( \
             SELECT topic FROM topic_schemas AS t \
             WHERE version = (SELECT max(version) FROM topic_schemas AS n WHERE n.topic = t.topic) \
                   AND removed_at IS NOT NULL \
             ORDER BY removed_at DESC LIMIT -1 OFFSET ?)",
    );
    forget.bind(MAX_REMOVED).execute(connection).await.map_err(of_statement)?;
    Ok(true)
}
