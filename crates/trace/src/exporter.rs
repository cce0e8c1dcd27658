//! Sends spans to the collector, in batches and on a thread of their own. Nobody waits for it: spans that come faster than
//! they are sent are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use http::Uri;
use metrics::Counter;
use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{self, BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};
use sluice_service::log_limit::LogLimit;
use sluice_service::trace::{Recorder, Sampling, Span, Systems, Tracing, install};
use tonic::transport::Endpoint;

use crate::args::{Protocol, TraceArgs};
use crate::connector::Connector;
use crate::convert::span_data;
use crate::metrics::TRACE_SPANS;
use crate::resource;
use crate::runtime_client::RuntimeClient;

/// The maximum number of spans that wait, of about a kilobyte each.
const MAX_SPANS: usize = 2_048;
/// The time limit of sending a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a program waits until its last spans are sent.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Lines about batches that could not be sent.
static FAILED: LogLimit = LogLimit::per_second(1);

impl TraceArgs {
    /// Runs a program and traces meanwhile, if there is a collector, which need not answer yet. At its end the spans that wait
    /// are sent, for a few seconds at most.
    ///
    /// # Errors
    /// Those of the program, or when a setting of OpenTelemetry cannot be used.
    pub async fn while_running<T>(
        &self,
        service: &'static str,
        systems: Systems,
        program: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let Some(endpoint) = self.endpoint() else { return program.await };
        let processor = self.start(endpoint, service, systems)?;
        let result = program.await;
        let ending = tokio::task::spawn_blocking(move || processor.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        if !matches!(ending.await, Ok(Ok(()))) {
            tracing::warn!("the last spans could not be sent in time");
        }
        result
    }

    fn start(
        &self,
        endpoint: &Uri,
        service: &'static str,
        systems: Systems,
    ) -> anyhow::Result<Arc<BatchSpanProcessor>> {
        let exporter = self.exporter(endpoint).context("cannot send spans to --otlp-endpoint")?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Counted { exporter, waiting: waiting.clone() };
        let batches = BatchConfigBuilder::default().with_max_queue_size(MAX_SPANS).build();
        let mut processor = BatchSpanProcessor::builder(counted).with_batch_config(batches).build();
        processor.set_resource(&resource::of(service, std::env::var("HOSTNAME").ok()));
        let processor = Arc::new(processor);
        let scope = InstrumentationScope::builder("sluice").with_version(env!("CARGO_PKG_VERSION")).build();
        let recorder = Box::new(Queue { processor: processor.clone(), scope, waiting });
        let sampling = Sampling::new(self.trace_ratio, self.trace_limit);
        let installed = install(Tracing { recorder, sampling, systems });
        tracing::info!(%endpoint, protocol = ?self.otlp_protocol, ratio = self.trace_ratio, installed, "tracing");
        Ok(processor)
    }

    fn exporter(&self, endpoint: &Uri) -> anyhow::Result<SpanExporter> {
        let tls = Arc::new(self.tls());
        let exporter = match self.otlp_protocol {
            Protocol::Grpc => {
                let collector = Endpoint::from(endpoint.clone()).timeout(EXPORT_TIMEOUT);
                let channel = collector.connect_with_connector_lazy(Connector::new(tls, b"h2"));
                SpanExporter::builder().with_tonic().with_channel(channel).with_timeout(EXPORT_TIMEOUT).build()
            }
            Protocol::Http => {
                let base = endpoint.to_string();
                SpanExporter::builder()
                    .with_http()
                    .with_http_client(RuntimeClient::new(tls, EXPORT_TIMEOUT))
                    .with_endpoint(format!("{}/v1/traces", base.trim_end_matches('/')))
                    .with_timeout(EXPORT_TIMEOUT)
                    .build()
            }
        };
        Ok(exporter?)
    }
}

/// The spans that wait until they are sent.
struct Queue {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    /// The number of spans that were recorded and are not sent yet.
    waiting: Arc<AtomicUsize>,
}

impl Recorder for Queue {
    fn record(&self, span: Span) {
        // The processor has the same limit, and does not say how many spans it drops.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_SPANS {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return spans("dropped").increment(1);
        }
        self.processor.on_end(span_data(span, self.scope.clone()));
    }
}

/// An exporter that counts what it sends.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    waiting: Arc<AtomicUsize>,
}

impl trace::SpanExporter for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(number, Ordering::Relaxed);
        match &sent {
            Ok(()) => spans("exported").increment(number as u64),
            Err(error) => {
                spans("failed").increment(number as u64);
                if let Some(left_out) = FAILED.allow() {
                    tracing::warn!(%error, spans = number, left_out, "spans could not be sent to the collector");
                }
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Returns the counter of spans with this result. It must not be kept: one that is made before the program installs its metrics
/// counts nothing.
fn spans(result: &'static str) -> Counter {
    metrics::counter!(TRACE_SPANS.name, "result" => result)
}
