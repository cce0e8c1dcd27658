//! The contract between the operator and the programs it runs: their commands, settings, ports, paths and
//! metrics. A test compares it with the programs themselves.

/// Port of the publisher (`serve --listen`).
pub const PUBLISHER_PORT: i32 = 8080;
/// Port of the aggregator (`run --listen`).
pub const AGGREGATOR_PORT: i32 = 8081;
/// Port of metrics and probes of both programs, if they speak TLS (`--metrics-listen`).
pub const METRICS_PORT: i32 = 9090;
/// The name of the file with the tokens that the programs accept.
pub const TOKENS_FILE: &str = "tokens.yaml";
/// The name of the file with the meters of the aggregators.
pub const METERS_FILE: &str = "meters.json";
/// The name of the file with the schemas of topics.
pub const SCHEMAS_FILE: &str = "schemas.json";
/// Port of Redis.
pub const REDIS_PORT: i32 = 6379;
/// Port of PostgreSQL.
pub const POSTGRES_PORT: i32 = 5432;

/// The publisher's subcommand that serves.
pub const PUBLISHER_COMMAND: &str = "serve";
/// The aggregator's subcommand that runs a replica.
pub const AGGREGATOR_COMMAND: &str = "run";
/// The aggregator's subcommand for backups.
pub const BACKUP_COMMAND: &str = "backup";
/// Its subcommand that stores a backup.
pub const STORE_COMMAND: &str = "store";
/// Its subcommand that writes a backup out again.
pub const FETCH_COMMAND: &str = "fetch";

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
/// The publisher's counters of the events that it has appended, and of their bytes.
pub const EVENTS_METRIC: &str = "sluice_publish_events_total";
/// See [`EVENTS_METRIC`].
pub const ENTRY_BYTES_METRIC: &str = "sluice_publish_entry_bytes_total";
/// The publisher's gauge of the share of its memory that Redis uses.
pub const MEMORY_METRIC: &str = "sluice_publish_log_memory_ratio";
/// The aggregators' gauge of the disk space of their tables.
pub const STORE_BYTES_METRIC: &str = "sluice_store_bytes";

/// The environment variables that the operator sets for the managed servers, and for the driver of PostgreSQL.
pub const SERVER_VARIABLES: &[&str] = &[
    "PGDATA",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "POSTGRES_MAJOR",
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "REDISCLI_AUTH",
];

/// The environment variables of the settings, by program.
pub mod env {
    macro_rules! variables {
        ($($(#[$doc:meta])+ $name:ident = $value:literal;)+) => {
            $($(#[$doc])+ pub const $name: &str = $value;)+

            /// All of them.
            pub const ALL: &[&str] = &[$($name),+];
        };
    }

    variables! {
        /// Both programs: the address on which to serve HTTP.
        LISTEN = "SLUICE_LISTEN";
        /// Both programs: the URL of Redis.
        REDIS_URL = "SLUICE_REDIS_URL";
        /// Both programs: the prefix of the keys in Redis.
        STREAM_PREFIX = "SLUICE_STREAM_PREFIX";
        /// Both programs: the number of streams.
        STREAMS = "SLUICE_STREAMS";
        /// Both programs: how long an Idempotency-Key is remembered.
        IDEMPOTENCY_TTL = "SLUICE_IDEMPOTENCY_TTL";
        /// Both programs: whether they are ready only while Redis and PostgreSQL are set as durability needs.
        REQUIRE_DURABLE = "SLUICE_REQUIRE_DURABLE";
        /// Both programs: the settings of their servers that may be unknown nevertheless.
        ACCEPT_UNKNOWN_DURABILITY = "SLUICE_ACCEPT_UNKNOWN_DURABILITY";
        /// Both programs: how long to finish the work in flight at shutdown.
        SHUTDOWN_TIMEOUT = "SLUICE_SHUTDOWN_TIMEOUT";

        /// Both programs: the address on which to serve metrics and probes without TLS.
        METRICS_LISTEN = "SLUICE_METRICS_LISTEN";
        /// Both programs: the file with their certificate.
        TLS_CERT = "SLUICE_TLS_CERT";
        /// Both programs: the file with its private key.
        TLS_KEY = "SLUICE_TLS_KEY";
        /// Both programs: the file with the CAs whose certificates clients must have.
        TLS_CLIENT_CA = "SLUICE_TLS_CLIENT_CA";
        /// Both programs: whether they open no connection without TLS.
        REQUIRE_TLS = "SLUICE_REQUIRE_TLS";
        /// Both programs: the file with the CAs that are trusted for Redis.
        REDIS_CA = "SLUICE_REDIS_CA";
        /// Both programs: the file with their certificate for Redis.
        REDIS_CERT = "SLUICE_REDIS_CERT";
        /// Both programs: the file with its private key.
        REDIS_KEY = "SLUICE_REDIS_KEY";

        /// Both programs: the file with the tokens that they accept.
        TOKENS = "SLUICE_TOKENS";
        /// Both programs: the issuer of the JWTs that they accept.
        JWT_ISSUER = "SLUICE_JWT_ISSUER";
        /// Both programs: the audience of these JWTs.
        JWT_AUDIENCE = "SLUICE_JWT_AUDIENCE";
        /// Both programs: the URL of the issuer's keys.
        JWT_JWKS = "SLUICE_JWT_JWKS";
        /// Both programs: the file with the CAs that are trusted for this URL.
        JWT_CA = "SLUICE_JWT_CA";
        /// Both programs: the claim with the scopes.
        JWT_SCOPES_CLAIM = "SLUICE_JWT_SCOPES_CLAIM";
        /// Both programs: the claim with the patterns of topics.
        JWT_TOPICS_CLAIM = "SLUICE_JWT_TOPICS_CLAIM";
        /// Both programs: how many requests a client may send in a second.
        REQUESTS_PER_SECOND = "SLUICE_REQUESTS_PER_SECOND";
        /// Both programs: how many events a client may publish in a second.
        EVENTS_PER_SECOND = "SLUICE_EVENTS_PER_SECOND";
        /// Both programs: the user of the Sentinels.
        REDIS_SENTINEL_USER = "SLUICE_REDIS_SENTINEL_USER";
        /// Both programs: the password of the Sentinels.
        REDIS_SENTINEL_PASSWORD = "SLUICE_REDIS_SENTINEL_PASSWORD";

        /// Both programs: where spans are sent.
        OTLP_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
        /// Both programs: the protocol of this endpoint.
        OTLP_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL";
        /// Both programs: the headers of the requests to it, which are secret. The library for OTLP reads them.
        OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS";
        /// Both programs: the file with the CAs that are trusted for it.
        OTLP_CA = "OTEL_EXPORTER_OTLP_CERTIFICATE";
        /// Both programs: the file with their certificate for it.
        OTLP_CERT = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
        /// Both programs: the file with its private key.
        OTLP_KEY = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
        /// Both programs: the share of the requests without a `traceparent` that are traced.
        TRACE_RATIO = "OTEL_TRACES_SAMPLER_ARG";
        /// Both programs: how many traces may begin in a second.
        TRACE_LIMIT = "SLUICE_TRACE_LIMIT";
        /// Both programs: attributes of all spans. The library for OTLP reads them.
        RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES";
        /// The name of the pod, to which the attributes refer. No program reads it; the name is that of OpenTelemetry's
        /// operator.
        RESOURCE_POD_NAME = "OTEL_RESOURCE_ATTRIBUTES_POD_NAME";

        /// Publisher: how many replicas of Redis must have confirmed a request before it is answered.
        REDIS_REPLICAS = "SLUICE_REDIS_REPLICAS";
        /// Publisher: the file with the CAs that are trusted for the aggregators.
        QUERY_CA = "SLUICE_QUERY_CA";
        /// Publisher: the file with its certificate for the aggregators.
        QUERY_CERT = "SLUICE_QUERY_CERT";
        /// Publisher: the file with its private key.
        QUERY_KEY = "SLUICE_QUERY_KEY";
        /// Publisher: the URL to which it forwards queries.
        QUERY_URL = "SLUICE_QUERY_URL";
        /// Publisher: the share of Redis' memory for the records of Idempotency-Keys.
        IDEMPOTENCY_MEMORY = "SLUICE_IDEMPOTENCY_MEMORY";
        /// Publisher: maximum size of a request body, in bytes.
        MAX_BODY_BYTES = "SLUICE_MAX_BODY_BYTES";
        /// Publisher: maximum number of events in a request.
        MAX_EVENTS = "SLUICE_MAX_EVENTS";
        /// Publisher: maximum size of a payload, in bytes.
        MAX_PAYLOAD_BYTES = "SLUICE_MAX_PAYLOAD_BYTES";
        /// Publisher: maximum nesting depth of a payload.
        MAX_PAYLOAD_DEPTH = "SLUICE_MAX_PAYLOAD_DEPTH";
        /// Publisher: maximum number of events that are accepted and not stored yet.
        MAX_BACKLOG = "SLUICE_MAX_BACKLOG";

        /// Aggregator: the URL of the database.
        DATABASE_URL = "SLUICE_DATABASE_URL";
        /// Aggregator: the schema in the database.
        DATABASE_SCHEMA = "SLUICE_DATABASE_SCHEMA";
        /// Aggregator: its name in the consumer group.
        CONSUMER = "SLUICE_CONSUMER";
        /// Aggregator: the fields whose equality makes an event a duplicate.
        DEDUP_FIELDS = "SLUICE_DEDUP_FIELDS";
        /// Aggregator: the number of concurrent transactions.
        WORKERS = "SLUICE_WORKERS";
        /// Aggregator: how long an entry may be pending before another replica claims it.
        CLAIM_AFTER = "SLUICE_CLAIM_AFTER";
        /// Aggregator: after how long without activity a replica is removed from the consumer group.
        CONSUMER_TTL = "SLUICE_CONSUMER_TTL";
        /// Aggregator: the file of meters.
        METERS = "SLUICE_METERS";
        /// Aggregator: the file of schemas.
        SCHEMAS = "SLUICE_SCHEMAS";
        /// Aggregator: the age at which events are removed.
        RETENTION = "SLUICE_RETENTION";
    }
}
