//! Every setting of the program: an option, an environment variable, a default.

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, CommandFactory, Parser, Subcommand};
use hyper::Uri;
use sluice_auth::{AuthArgs, ClientTokenArgs, NewToken};
use sluice_event::{Keyer, Limits, OutOfRange};
use sluice_log::redis::DURABILITY_SETTINGS;
use sluice_service::units::{bytes_within, duration, duration_within};
use sluice_trace::TraceArgs;

use crate::cloud_events::CloudEventArgs;
use crate::https_args::{HttpsArgs, QueryTlsArgs};
use crate::listen_args::ListenArgs;
use crate::redis_args::RedisTlsArgs;
use crate::simulate::settings::SimulateSettings;

/// Receives events over HTTP and appends them to a Redis stream.
#[derive(Debug, Parser)]
#[command(name = "sluice-publisher", version)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive events over HTTP, append them to a Redis stream, and forward queries to the aggregators
    Serve(Box<ServeSettings>),
    /// Publish generated events, some of them twice, or the events of a file; measure, and verify the result
    Simulate(Box<SimulateSettings>),
    /// Make a token for the file of --tokens, and print both
    Token(NewToken),
    /// Check whether a running server is ready; exit with code 0 if it is
    Healthcheck(HealthcheckSettings),
}

/// Settings of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckSettings {
    /// The server's address
    #[arg(long, env = "SLUICE_URL", default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub token: ClientTokenArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub https: HttpsArgs,
}

/// Settings of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeSettings {
    /// The address on which to serve HTTP
    #[arg(long, env = "SLUICE_LISTEN", default_value = "[::]:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub listener: ListenArgs,
    /// The URL of the Redis server that stores the stream; rediss:// for TLS
    #[arg(long, env = "SLUICE_REDIS_URL", hide_env_values = true, value_name = "redis://HOST")]
    pub redis_url: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub redis_tls: RedisTlsArgs,
    /// The number of replicas of Redis that must have a request before it is answered 202; 0 waits for none
    #[arg(long, env = "SLUICE_REDIS_REPLICAS", default_value_t = 0, value_name = "N",
        value_parser = clap::value_parser!(u16).range(0..=16))]
    pub redis_replicas: u16,
    /// Whether Redis and aggregators on another host are connected to with TLS only
    #[arg(long, env = "SLUICE_REQUIRE_TLS", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub require_tls: bool,
    /// The URL of the aggregators, to which all other requests are forwarded; without it they are answered 404
    #[arg(long, env = "SLUICE_QUERY_URL", value_name = "http[s]://HOST", value_parser = query_url)]
    pub query_url: Option<Uri>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub query_tls: QueryTlsArgs,
    /// The prefix of all keys in Redis, so that several installations can share a server
    #[arg(long, env = "SLUICE_STREAM_PREFIX", default_value = "sluice", value_name = "PREFIX")]
    pub stream_prefix: String,
    /// The number of streams over which entries are distributed
    #[arg(long, env = "SLUICE_STREAMS", default_value_t = 1, value_name = "P",
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub streams: u16,
    /// The time to live of an Idempotency-Key after its last use: at least 10s, and not less than the append timeout
    #[arg(long, env = "SLUICE_IDEMPOTENCY_TTL", default_value = "24h", value_parser = duration_within("10s", "99999d"),
        value_name = "TIME")]
    pub idempotency_ttl: Duration,
    /// The share of Redis' memory (0 to 1) for the records of Idempotency-Keys; beyond it the oldest are removed
    #[arg(long, env = "SLUICE_IDEMPOTENCY_MEMORY", default_value_t = 0.2, value_name = "SHARE", value_parser = share)]
    pub idempotency_memory: f64,
    /// Whether the server is ready only while Redis is set as durability needs
    #[arg(long, env = "SLUICE_REQUIRE_DURABLE", default_value = "false", num_args = 0..=1,
        default_missing_value = "true", action = clap::ArgAction::Set, value_name = "true|false")]
    pub require_durable: bool,
    /// Settings of Redis that may be unknown although durability is required, because the server does not tell them
    #[arg(long, env = "SLUICE_ACCEPT_UNKNOWN_DURABILITY", value_name = "SETTINGS", value_delimiter = ',',
        value_parser = PossibleValuesParser::new(DURABILITY_SETTINGS))]
    pub accept_unknown_durability: Vec<String>,
    /// The dedup fields of the aggregators: CloudEvents need `source` among them, see --cloudevents-without-source
    #[arg(long, env = "SLUICE_DEDUP_FIELDS", default_value = "topic,event_id", value_name = "FIELDS")]
    pub dedup_fields: Keyer,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub auth: AuthArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub traces: TraceArgs,
    /// How long requests in flight may take to finish at shutdown
    #[arg(long, env = "SLUICE_SHUTDOWN_TIMEOUT", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub shutdown_timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub ingest: IngestArgs,
}

/// The limits on one request, and on the requests that wait.
#[derive(Debug, Clone, Args)]
pub struct IngestArgs {
    /// The maximum size of a request body
    #[arg(long, env = "SLUICE_MAX_BODY_BYTES", default_value = "8MiB", value_parser = bytes_within("1B", "512MiB"),
        value_name = "SIZE")]
    pub max_body_bytes: u64,
    /// The maximum number of events in a request
    #[arg(long, env = "SLUICE_MAX_EVENTS", default_value_t = 10_000, value_name = "EVENTS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_events: u32,
    /// The maximum size of a payload as JSON text
    #[arg(long, env = "SLUICE_MAX_PAYLOAD_BYTES", default_value = "256KiB", value_parser = bytes_within("1B", "512MiB"),
        value_name = "SIZE")]
    pub max_payload_bytes: u64,
    /// The maximum number of nested arrays and objects in a payload
    #[arg(long, env = "SLUICE_MAX_PAYLOAD_DEPTH", default_value_t = 64, value_name = "LEVELS",
        value_parser = clap::value_parser!(u32).range(0..=100))]
    pub max_payload_depth: u32,
    /// The number of events accepted and not stored yet above which requests are answered 429
    #[arg(long, env = "SLUICE_MAX_BACKLOG", default_value_t = 1_000_000, value_name = "EVENTS",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub max_backlog: u64,
    /// The share of the log's memory in use (0 to 1) above which requests are answered 429
    #[arg(long, env = "SLUICE_MAX_MEMORY", default_value_t = 0.8, value_name = "SHARE", value_parser = share)]
    pub max_memory: f64,
    /// The number of requests waiting for the log above which requests are answered 429
    #[arg(long, env = "SLUICE_MAX_WAITING", default_value_t = 1024, value_name = "REQUESTS",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_waiting: u32,
    /// The total size of the bodies being received or waiting above which requests are answered 429; never
    /// less than one body
    #[arg(long, env = "SLUICE_MAX_WAITING_BYTES", default_value = "64MiB", value_parser = bytes_within("1B", "1024GiB"),
        value_name = "SIZE")]
    pub max_waiting_bytes: u64,
    /// How long after its arrival the timestamp of an event may be, such as 10m. Without this option any is accepted
    #[arg(long, env = "SLUICE_MAX_FUTURE", value_parser = duration_within("0s", "99999d"), value_name = "TIME")]
    pub max_future: Option<Duration>,
    /// How long before its arrival the timestamp of an event may be, such as 30d. Without this option any is accepted
    #[arg(long, env = "SLUICE_MAX_AGE", value_parser = duration_within("1s", "99999d"), value_name = "TIME")]
    pub max_age: Option<Duration>,
    /// What becomes of an event whose timestamp is beyond --max-future or --max-age: `refuse` answers its request 422, and
    /// `arrival` accepts it with the time of its arrival
    #[arg(long, env = "SLUICE_TIMESTAMP_OUT_OF_RANGE", default_value = "refuse", value_name = "refuse|arrival")]
    pub timestamp_out_of_range: OutOfRange,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment would become the help's heading")]
    pub cloud_events: CloudEventArgs,
    /// The maximum number of concurrent appends to one stream; requests that arrive meanwhile are packed together
    #[arg(long, env = "SLUICE_MAX_APPENDS", default_value_t = 2, value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=256))]
    pub max_appends: u16,
    /// How long an append is repeated before its requests are answered 503
    #[arg(long, env = "SLUICE_APPEND_TIMEOUT", default_value = "10s", value_parser = duration_within("100ms", "1h"),
        value_name = "TIME")]
    pub append_timeout: Duration,
    /// The longest that a request with wait=stored, or a preference to wait, waits until it is stored. Then it is answered 202
    #[arg(long, env = "SLUICE_WAIT_TIMEOUT", default_value = "10s", value_parser = duration_within("100ms", "1h"),
        value_name = "TIME")]
    pub wait_timeout: Duration,
    /// How long a body may take to arrive
    #[arg(long, env = "SLUICE_BODY_TIMEOUT", default_value = "10s", value_parser = duration_within("100ms", "1h"),
        value_name = "TIME")]
    pub body_timeout: Duration,
}

impl Cli {
    /// Checks the options that must agree with each other, which no parser of a single option can.
    ///
    /// # Errors
    /// An error that clap reports, with the names of the options.
    pub fn check(&self) -> Result<(), clap::Error> {
        match &self.command {
            Command::Serve(settings) => {
                checked(settings.redis_tls.check(&settings.redis_url, settings.require_tls))?;
                checked(settings.traces.check(settings.require_tls))?;
                checked(settings.auth.check())?;
                checked(settings.listener.check())?;
                checked(settings.query_tls.check(settings.query_url.as_ref(), settings.require_tls))?;
                settings.ingest.check_idempotency_ttl(settings.idempotency_ttl)
            }
            Command::Simulate(settings) => checked(settings.https.check(&settings.url)),
            Command::Healthcheck(settings) => checked(settings.https.check(&settings.url)),
            Command::Token(_) => Ok(()),
        }
    }
}

fn checked(checked: Result<(), String>) -> Result<(), clap::Error> {
    checked.map_err(|reason| Cli::command().error(clap::error::ErrorKind::ValueValidation, reason))
}

impl IngestArgs {
    /// Checks that a key is remembered for as long as its request may be appended again.
    ///
    /// # Errors
    /// An error that clap reports, with the names of the options.
    pub fn check_idempotency_ttl(&self, ttl: Duration) -> Result<(), clap::Error> {
        if ttl >= self.append_timeout {
            return Ok(());
        }
        let message = format!(
            "--idempotency-ttl ({ttl:?}) must not be less than --append-timeout ({:?}): a key would be forgotten \
             while its request is still repeated",
            self.append_timeout
        );
        Err(Cli::command().error(clap::error::ErrorKind::ValueValidation, message))
    }

    /// The bounds of one request.
    pub fn limits(&self) -> Limits {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Limits {
            body_bytes: size(self.max_body_bytes),
            events: self.max_events as usize,
            payload_bytes: size(self.max_payload_bytes),
            payload_depth: self.max_payload_depth as usize,
            max_future: self.max_future,
            max_age: self.max_age,
            out_of_range: self.timestamp_out_of_range,
            ..Limits::default()
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("use a number above 0 and up to 1".into()),
    }
}

fn query_url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
        return Err("use http://HOST:PORT or https://HOST:PORT".into());
    }
    if uri.query().is_some() {
        return Err("must not have a query".into());
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused_by_the_name_of_the_option() {
        for (option, value) in [
            ("--redis-replicas", "17"),
            ("--max-body-bytes", "0"),
            ("--max-body-bytes", "513MiB"),
            ("--max-payload-bytes", "0"),
            ("--max-waiting-bytes", "0"),
            ("--max-backlog", "0"),
            ("--append-timeout", "0"),
            ("--append-timeout", "61m"),
            ("--body-timeout", "0"),
            ("--idempotency-ttl", "9s"),
        ] {
            let args = ["sluice-publisher", "serve", "--redis-url", "redis://r", option, value];
            let error = Cli::try_parse_from(args).expect_err(option).to_string();
            assert!(error.contains(option), "{option} {value}: {error}");
        }
        let serve = ["sluice-publisher", "serve", "--redis-url", "redis://r", "--append-timeout", "11s"];
        let parsed = |ttl| Cli::try_parse_from([&serve[..], &["--idempotency-ttl", ttl]].concat());
        assert!(parsed("11s").and_then(|cli| cli.check()).is_ok());
        let error = parsed("10s").and_then(|cli| cli.check()).expect_err("too short").to_string();
        assert!(error.contains("--idempotency-ttl") && error.contains("--append-timeout"), "{error}");
    }

    #[test]
    fn tls_that_cannot_work_is_refused_by_the_name_of_the_option() {
        let checked = |url, more: &[&str]| {
            let args = [&["sluice-publisher", "serve", "--redis-url", url][..], more].concat();
            Cli::try_parse_from(args).and_then(|cli| cli.check()).map_err(|error| error.to_string())
        };
        for (url, more, expected) in [
            ("redis://r", &["--require-tls"][..], "--require-tls"),
            ("redis://r", &["--redis-ca", "/no/such/file"], "--redis-ca: --redis-url must begin with rediss://"),
            ("rediss://r", &["--redis-ca", "/no/such/file"], "--redis-ca: /no/such/file cannot be read"),
            ("rediss://r", &["--redis-cert", "/no/such/file"], "--redis-cert needs --redis-key"),
        ] {
            let error = checked(url, more).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(checked("rediss://r", &["--require-tls"]), Ok(()));
    }

    #[test]
    fn the_options_are_consistent_and_each_is_an_environment_variable() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        // What a token is for is said where it is made: a variable that is still set must not decide it.
        for command in cli.get_subcommands().filter(|c| !matches!(c.get_name(), "help" | "token")) {
            for option in command.get_arguments().filter(|o| !matches!(o.get_id().as_str(), "help" | "version")) {
                let expected = format!("SLUICE_{}", option.get_id().as_str().to_uppercase());
                let variable = option.get_env().and_then(|name| name.to_str());
                // Those of traces have the names that OpenTelemetry gives them.
                if variable.is_none_or(|name| !name.starts_with("OTEL_")) {
                    assert_eq!(variable, Some(expected.as_str()), "{} --{}", command.get_name(), option.get_id());
                }
            }
        }
    }

    #[test]
    fn urls_and_shares_that_cannot_work_are_refused() {
        assert!(query_url("http://aggregator:8081").is_ok());
        assert!(query_url("https://aggregator").is_ok());
        for text in ["", "aggregator", "ftp://aggregator", "http://", "https://", "http://a/?b=c"] {
            assert!(query_url(text).is_err(), "{text:?}");
        }
        assert_eq!(share("0.8"), Ok(0.8));
        for text in ["0", "-1", "1.1", "NaN", "inf", "x"] {
            assert!(share(text).is_err(), "{text:?}");
        }
    }
}
