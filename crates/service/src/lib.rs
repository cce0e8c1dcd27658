//! The parts that all servers of this workspace share: serving with deadlines and a graceful shutdown, the hook
//! that every request passes, problem details and their codes, probes, metrics, logging, and parsers of settings.
//! Of the event crate it uses only the types of a request's id and of its trace.
//!
//! A program uses it like this:
//!
//! ```no_run
//! # async fn program() -> anyhow::Result<()> {
//! use sluice_service::options::ServeOptions;
//! use sluice_service::{metrics, probes, server, shutdown, telemetry};
//!
//! telemetry::init();
//! let shutdown = shutdown::on_signal();
//! let router = axum::Router::new()
//!     .route("/hello", axum::routing::get(|| async { "hello" }))
//!     .merge(probes::router(metrics::install(), || Box::pin(async { Ok(Vec::new()) })));
//! let listener = server::bind("127.0.0.1:0").await?;
//! server::run(listener, router, shutdown, ServeOptions::new(std::time::Duration::from_secs(20))).await
//! # }
//! ```

mod allow;
pub mod backoff;
pub mod browsers;
mod client_stream;
pub mod client_tls;
mod closing;
pub mod code;
mod connection;
pub mod deadlines;
pub mod durability;
pub mod encryption;
pub mod event_errors;
pub mod exit;
pub mod guard;
mod handshake;
pub mod healthcheck;
mod listen;
pub mod log_limit;
mod log_writer;
pub mod metrics;
pub mod monitoring;
pub mod no_delay;
mod open_connections;
mod open_files;
pub mod openapi;
pub mod options;
pub mod probes;
pub mod problem;
mod process_memory;
pub mod request_log;
pub mod server;
pub mod server_tls;
pub mod shortcut;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;
mod transport;
pub mod units;
