//! The contract between the operator and the programs it runs: their commands, settings, ports, paths and
//! metrics. A test compares it with the programs themselves.

/// Port of the publisher (`serve --listen`).
pub const PUBLISHER_PORT: i32 = 8080;
/// Port of the aggregator (`run --listen`).
pub const AGGREGATOR_PORT: i32 = 8081;
/// Port of Redis.
pub const REDIS_PORT: i32 = 6379;
/// Port of PostgreSQL.
pub const POSTGRES_PORT: i32 = 5432;

/// The publisher's subcommand that serves.
pub const PUBLISHER_COMMAND: &str = "serve";
/// The aggregator's subcommand that runs a replica.
pub const AGGREGATOR_COMMAND: &str = "run";

/// Returns 200 while the process runs. It sends no request to any other server.
pub const LIVE_PATH: &str = "/healthz";
/// Returns 200 when the program can work, and otherwise says why it cannot.
pub const READY_PATH: &str = "/readyz";
/// Returns the metrics in the Prometheus text format.
pub const METRICS_PATH: &str = "/metrics";
/// Returns the aggregator's totals as JSON.
pub const STATS_PATH: &str = "/stats";
/// The publisher's gauge of events that are accepted and not stored yet. It is absent or NaN while the number is
/// unknown.
pub const BACKLOG_METRIC: &str = "sluice_publish_backlog_events";

/// The environment variables of the settings, by program.
pub mod env {
    /// Both programs: the address on which to serve HTTP.
    pub const LISTEN: &str = "SLUICE_LISTEN";
    /// Both programs: the URL of Redis.
    pub const REDIS_URL: &str = "SLUICE_REDIS_URL";
    /// Both programs: the prefix of the keys in Redis.
    pub const STREAM_PREFIX: &str = "SLUICE_STREAM_PREFIX";
    /// Both programs: the number of streams.
    pub const STREAMS: &str = "SLUICE_STREAMS";
    /// Both programs: how long an Idempotency-Key is remembered.
    pub const IDEMPOTENCY_TTL: &str = "SLUICE_IDEMPOTENCY_TTL";
    /// Both programs: whether they are ready only while Redis and PostgreSQL are set as durability needs.
    pub const REQUIRE_DURABLE: &str = "SLUICE_REQUIRE_DURABLE";
    /// Both programs: the settings of their servers that may be unknown nevertheless.
    pub const ACCEPT_UNKNOWN_DURABILITY: &str = "SLUICE_ACCEPT_UNKNOWN_DURABILITY";
    /// Both programs: how long to finish the work in flight at shutdown.
    pub const SHUTDOWN_TIMEOUT: &str = "SLUICE_SHUTDOWN_TIMEOUT";

    /// Publisher: the URL to which it forwards queries.
    pub const QUERY_URL: &str = "SLUICE_QUERY_URL";
    /// Publisher: the share of Redis' memory for the records of Idempotency-Keys.
    pub const IDEMPOTENCY_MEMORY: &str = "SLUICE_IDEMPOTENCY_MEMORY";
    /// Publisher: maximum size of a request body, in bytes.
    pub const MAX_BODY_BYTES: &str = "SLUICE_MAX_BODY_BYTES";
    /// Publisher: maximum number of events in a request.
    pub const MAX_EVENTS: &str = "SLUICE_MAX_EVENTS";
    /// Publisher: maximum size of a payload, in bytes.
    pub const MAX_PAYLOAD_BYTES: &str = "SLUICE_MAX_PAYLOAD_BYTES";
    /// Publisher: maximum nesting depth of a payload.
    pub const MAX_PAYLOAD_DEPTH: &str = "SLUICE_MAX_PAYLOAD_DEPTH";
    /// Publisher: maximum number of events that are accepted and not stored yet.
    pub const MAX_BACKLOG: &str = "SLUICE_MAX_BACKLOG";

    /// Aggregator: the URL of the database.
    pub const DATABASE_URL: &str = "SLUICE_DATABASE_URL";
    /// Aggregator: the schema in the database.
    pub const DATABASE_SCHEMA: &str = "SLUICE_DATABASE_SCHEMA";
    /// Aggregator: its name in the consumer group.
    pub const CONSUMER: &str = "SLUICE_CONSUMER";
    /// Aggregator: the fields whose equality makes an event a duplicate.
    pub const DEDUP_FIELDS: &str = "SLUICE_DEDUP_FIELDS";
    /// Aggregator: the number of concurrent transactions.
    pub const WORKERS: &str = "SLUICE_WORKERS";
    /// Aggregator: how long an entry may be pending before another replica claims it.
    pub const CLAIM_AFTER: &str = "SLUICE_CLAIM_AFTER";
    /// Aggregator: after how long without activity a replica is removed from the consumer group.
    pub const CONSUMER_TTL: &str = "SLUICE_CONSUMER_TTL";
    /// Aggregator: the age at which events are removed.
    pub const RETENTION: &str = "SLUICE_RETENTION";
}
