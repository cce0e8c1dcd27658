//! What the programs require of Redis and PostgreSQL.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the programs require of the settings of Redis and PostgreSQL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DurabilitySpec {
    /// If true, pods are not ready while a setting of Redis or PostgreSQL is less than durability needs, or unknown.
    pub require: bool,
    /// Settings that may be unknown although durability is required, because a managed server does not tell them. It
    /// has no effect without `require`.
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_unknown: Vec<DurabilitySetting>,
}

/// A setting of Redis or PostgreSQL on which durability depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "docs/operations.md explains each of them")]
pub enum DurabilitySetting {
    #[serde(rename = "redis.appendonly")]
    RedisAppendonly,
    #[serde(rename = "redis.appendfsync")]
    RedisAppendfsync,
    #[serde(rename = "redis.no-appendfsync-on-rewrite")]
    RedisNoAppendfsyncOnRewrite,
    #[serde(rename = "redis.maxmemory")]
    RedisMaxmemory,
    #[serde(rename = "redis.maxmemory-policy")]
    RedisMaxmemoryPolicy,
    #[serde(rename = "postgres.synchronous_commit")]
    PostgresSynchronousCommit,
    #[serde(rename = "postgres.fsync")]
    PostgresFsync,
    #[serde(rename = "postgres.full_page_writes")]
    PostgresFullPageWrites,
}

impl DurabilitySetting {
    /// Every setting, in the order in which the programs are given them.
    pub const ALL: [Self; 8] = [
        Self::RedisAppendonly,
        Self::RedisAppendfsync,
        Self::RedisNoAppendfsyncOnRewrite,
        Self::RedisMaxmemory,
        Self::RedisMaxmemoryPolicy,
        Self::PostgresSynchronousCommit,
        Self::PostgresFsync,
        Self::PostgresFullPageWrites,
    ];

    /// The setting as the programs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RedisAppendonly => "redis.appendonly",
            Self::RedisAppendfsync => "redis.appendfsync",
            Self::RedisNoAppendfsyncOnRewrite => "redis.no-appendfsync-on-rewrite",
            Self::RedisMaxmemory => "redis.maxmemory",
            Self::RedisMaxmemoryPolicy => "redis.maxmemory-policy",
            Self::PostgresSynchronousCommit => "postgres.synchronous_commit",
            Self::PostgresFsync => "postgres.fsync",
            Self::PostgresFullPageWrites => "postgres.full_page_writes",
        }
    }

    /// Whether it is a setting of Redis, the only server of the publishers.
    pub fn is_of_redis(self) -> bool {
        match self {
            Self::RedisAppendonly
            | Self::RedisAppendfsync
            | Self::RedisNoAppendfsyncOnRewrite
            | Self::RedisMaxmemory
            | Self::RedisMaxmemoryPolicy => true,
            Self::PostgresSynchronousCommit | Self::PostgresFsync | Self::PostgresFullPageWrites => false,
        }
    }
}
