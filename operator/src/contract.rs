//! All that the operator knows of the programs it runs: their commands, settings, ports, paths and
//! numbers. A test compares it with the programs themselves.

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

/// Answers while the process lives, without asking others.
pub const LIVE_PATH: &str = "/healthz";
/// Answers 200 when the program can do its work; else says what is missing.
pub const READY_PATH: &str = "/readyz";
/// Metrics in Prometheus' text format.
pub const METRICS_PATH: &str = "/metrics";
/// The aggregator's totals as JSON.
pub const STATS_PATH: &str = "/stats";
/// The publisher's gauge of events accepted and not stored yet; absent or NaN while unknown.
pub const BACKLOG_METRIC: &str = "sluice_publish_backlog_events";

/// Environment variables of the settings, by program.
pub mod env {
    /// Both: where to answer HTTP.
    pub const LISTEN: &str = "SLUICE_LISTEN";
    /// Both: the Redis.
    pub const REDIS_URL: &str = "SLUICE_REDIS_URL";
    /// Both: prefix of the keys in Redis.
    pub const STREAM_PREFIX: &str = "SLUICE_STREAM_PREFIX";
    /// Both: number of streams.
    pub const STREAMS: &str = "SLUICE_STREAMS";
    /// Both: for how long an Idempotency-Key is honoured.
    pub const IDEMPOTENCY_TTL: &str = "SLUICE_IDEMPOTENCY_TTL";
    /// Both: for how long to finish what is in hand.
    pub const SHUTDOWN_TIMEOUT: &str = "SLUICE_SHUTDOWN_TIMEOUT";

    /// Publisher: where queries go.
    pub const QUERY_URL: &str = "SLUICE_QUERY_URL";
    /// Publisher: size of a body.
    pub const MAX_BODY_BYTES: &str = "SLUICE_MAX_BODY_BYTES";
    /// Publisher: events in a request.
    pub const MAX_EVENTS: &str = "SLUICE_MAX_EVENTS";
    /// Publisher: size of a payload.
    pub const MAX_PAYLOAD_BYTES: &str = "SLUICE_MAX_PAYLOAD_BYTES";
    /// Publisher: depth of a payload.
    pub const MAX_PAYLOAD_DEPTH: &str = "SLUICE_MAX_PAYLOAD_DEPTH";
    /// Publisher: events not stored yet.
    pub const MAX_BACKLOG: &str = "SLUICE_MAX_BACKLOG";

    /// Aggregator: the database.
    pub const DATABASE_URL: &str = "SLUICE_DATABASE_URL";
    /// Aggregator: the schema in it.
    pub const DATABASE_SCHEMA: &str = "SLUICE_DATABASE_SCHEMA";
    /// Aggregator: its name in the consumer group.
    pub const CONSUMER: &str = "SLUICE_CONSUMER";
    /// Aggregator: the fields that tell events apart.
    pub const DEDUP_FIELDS: &str = "SLUICE_DEDUP_FIELDS";
    /// Aggregator: transactions at the same time.
    pub const WORKERS: &str = "SLUICE_WORKERS";
    /// Aggregator: when others take over an entry.
    pub const CLAIM_AFTER: &str = "SLUICE_CLAIM_AFTER";
    /// Aggregator: when a silent replica is removed from the group.
    pub const CONSUMER_TTL: &str = "SLUICE_CONSUMER_TTL";
    /// Aggregator: when events are removed.
    pub const RETENTION: &str = "SLUICE_RETENTION";
}
