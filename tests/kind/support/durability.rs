//! The settings that decide what a server still has after a power cut. No test on the cluster can cut the power: what
//! a killed process has written stays in the page cache of the node. So the settings of the running servers are read.

use redis::RedisResult;
use sqlx::{Connection, Executor, PgConnection, Row};

/// Settings of Redis: each command is synced to the disk before it is answered, and nothing is evicted.
const REDIS: [(&str, &str); 4] = [
    ("appendonly", "yes"),
    ("appendfsync", "always"),
    ("no-appendfsync-on-rewrite", "no"),
    ("maxmemory-policy", "noeviction"),
];
/// Settings of PostgreSQL: each commit is synced to the disk before it is answered, also for this role and database.
const POSTGRES: [(&str, &str); 3] = [("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")];

/// Returns the settings of Redis that are not as they must be.
pub async fn wrong_in_redis(url: &str) -> RedisResult<Vec<String>> {
    let mut connection = sluice_tests::redis::connect(url).await?;
    let mut wrong = Vec::new();
    for (name, expected) in REDIS {
        let (_, value): (String, String) =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await?;
        if value != expected {
            wrong.push(format!("Redis has {name} {value}, not {expected}"));
        }
    }
    Ok(wrong)
}

/// Returns the settings of PostgreSQL that are not as they must be, as a session of the aggregators' role has them.
pub async fn wrong_in_postgres(url: &str) -> sqlx::Result<Vec<String>> {
    let mut connection = PgConnection::connect(url).await?;
    let mut wrong = Vec::new();
    for (name, expected) in POSTGRES {
        let value: String = connection.fetch_one(sqlx::AssertSqlSafe(format!("SHOW {name}"))).await?.try_get(0)?;
        if value != expected {
            wrong.push(format!("PostgreSQL has {name} = {value}, not {expected}"));
        }
    }
    connection.close().await?;
    Ok(wrong)
}
