//! Sends spans to an OpenTelemetry collector, over OTLP with gRPC or HTTP
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Spans are made in `sluice_service::trace` and by the programs. Here are the settings, the conversion to the types of
//! OpenTelemetry, and the connection to the collector.
//!
//! ```text
//! Span ──Queue::record──▶ BatchSpanProcessor ──Counted──▶ SpanExporter ──Connector──▶ collector
//! ```

mod args;
mod connector;
mod convert;
mod exporter;
pub mod metrics;
mod resource;
mod runtime_client;

pub use args::{Endpoint, Protocol, TraceArgs};
