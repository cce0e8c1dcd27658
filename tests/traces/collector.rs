//! An OpenTelemetry Collector of a test, and what it has received.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::certificates::{Authority, HOST};
use sluice_tests::collector::PROGRAM;
use sluice_tests::process::{Process, tail};
use sluice_tests::wait::{holds, wait_blocking};
use sluice_tests::{Setup, dirs, ports, wait_until};

use sluice_tests::span::{Span, of_line};

/// How long a span may take from its end to the file of the Collector, on a machine that is busy.
const ARRIVES: Duration = Duration::from_secs(60);
/// How long a program keeps a span before it sends it, in milliseconds. OpenTelemetry's default is 5,000.
const SEND_AFTER_MS: &str = "100";

/// The forms of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf in requests of HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Http, Self::Grpc];

    /// Returns its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http/protobuf",
            Self::Grpc => "grpc",
        }
    }
}

/// What a Collector demands of those who send to it.
#[derive(Default)]
pub struct Demands<'a> {
    /// TLS with certificates of this CA, on both sides.
    pub tls: Option<&'a Authority>,
    /// The header `Authorization: Bearer` with this token.
    pub token: Option<&'a str>,
}

/// A running Collector. Dropping it kills it, and prints its log if the test failed.
#[derive(Debug)]
pub struct Collector {
    dir: PathBuf,
    http: u16,
    grpc: u16,
    scheme: &'static str,
    process: Option<Process>,
}

impl Collector {
    /// Starts a Collector that takes everything.
    pub fn start() -> Self {
        Self::that_demands(&Demands::default())
    }

    /// Starts a Collector with these demands.
    pub fn that_demands(demands: &Demands<'_>) -> Self {
        let dir = dirs::fresh("collector");
        let (http, grpc) = (ports::free(), ports::free());
        let config = config(&dir, http, grpc, demands);
        // JSON is YAML.
        fs::write(dir.join("config.yaml"), config.to_string()).expect("the configuration");
        let scheme = if demands.tls.is_some() { "https" } else { "http" };
        let mut collector = Self { dir, http, grpc, scheme, process: None };
        collector.start_again();
        collector
    }

    /// Starts it after [`Collector::kill`]. It keeps its ports, and what it has received.
    pub fn start_again(&mut self) {
        let log = self.dir.join("collector.log");
        let args = [format!("--config=file:{}", self.dir.join("config.yaml").display())];
        self.process = Some(Process::start(&PROGRAM, &args, &[], None, &log));
        for port in [self.http, self.grpc] {
            wait_blocking("the Collector listens", ARRIVES, || {
                let connected = TcpStream::connect(("127.0.0.1", port));
                holds(connected.is_ok(), || format!("{connected:?}\n{}", tail(&log, 5)))
            });
        }
    }

    /// Sends `kill -9`.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Stops it with open connections: it takes no more, and answers nothing.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").freeze();
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").resume();
    }

    /// Returns the URL for a protocol.
    pub fn endpoint(&self, protocol: Protocol) -> String {
        let port = if protocol == Protocol::Grpc { self.grpc } else { self.http };
        format!("{}://{HOST}:{port}", self.scheme)
    }

    /// Lets the programs of a system send to it, soon after a span has ended.
    pub fn traces(&self, setup: Setup, protocol: Protocol) -> Setup {
        let setup = setup.env("OTEL_EXPORTER_OTLP_ENDPOINT", &self.endpoint(protocol));
        let setup = setup.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.name());
        setup.env("OTEL_BSP_SCHEDULE_DELAY", SEND_AFTER_MS)
    }

    /// Returns all spans that it has received.
    pub fn spans(&self) -> Vec<Span> {
        let text = fs::read_to_string(self.dir.join("spans.json")).unwrap_or_default();
        // The last line may be incomplete.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete.lines().flat_map(of_line).collect()
    }

    /// Returns the spans of a trace that it has received.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace == id).collect()
    }

    /// Waits until a condition holds for the spans that it has received, and returns them.
    pub async fn wait(&self, what: &str, condition: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        wait_until(what, ARRIVES, || async {
            let spans = self.spans();
            if condition(&spans) {
                return Ok(spans);
            }
            let seen: Vec<_> =
                spans.iter().map(|span| format!("{} {} {}", span.service, span.name, span.trace)).collect();
            Err(format!("{} spans: {}", seen.len(), seen[seen.len().saturating_sub(20)..].join(", ")))
        })
        .await
    }

    /// Waits until a trace has so many spans with each of these names, and no others.
    pub async fn wait_for(&self, trace: &str, names: &[&str]) -> Vec<Span> {
        let mut expected = names.to_vec();
        expected.sort_unstable();
        let names_of = |spans: &[Span]| {
            let of_trace = spans.iter().filter(|span| span.trace == trace);
            let mut names: Vec<_> = of_trace.map(|span| span.name.clone()).collect();
            names.sort();
            names
        };
        let what = format!("the trace {trace} has the spans {expected:?}");
        self.wait(&what, |spans| names_of(spans) == expected)
            .await
            .into_iter()
            .filter(|span| span.trace == trace)
            .collect()
    }

    /// Stops it in order, after which its file has all that it has received, and returns that.
    pub fn end(mut self) -> Vec<Span> {
        let status = self.process.take().expect("it runs").terminate(ARRIVES);
        assert!(status.is_some_and(|status| status.success()), "the Collector ended with {status:?}");
        self.spans()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("──── the Collector\n{}", tail(&self.dir.join("collector.log"), 20));
        }
    }
}

fn config(dir: &Path, http: u16, grpc: u16, demands: &Demands<'_>) -> Value {
    let tls = demands.tls.map(|authority| {
        let identity = authority.issue(HOST);
        json!({"cert_file": identity.cert, "key_file": identity.key, "client_ca_file": authority.ca()})
    });
    let receiver = |port: u16| {
        let mut receiver = json!({"endpoint": format!("127.0.0.1:{port}")});
        if let Some(tls) = &tls {
            receiver["tls"] = tls.clone();
        }
        if demands.token.is_some() {
            receiver["auth"] = json!({"authenticator": "bearertokenauth"});
        }
        receiver
    };
    let extensions = demands.token.map(|token| json!({"bearertokenauth": {"token": token}}));
    let enabled: &[&str] = if demands.token.is_some() { &["bearertokenauth"] } else { &[] };
    let file = json!({"path": dir.join("spans.json"), "flush_interval": "100ms", "append": true});
    json!({
        "extensions": extensions,
        "receivers": {"otlp": {"protocols": {"http": receiver(http), "grpc": receiver(grpc)}}},
        "exporters": {"file": file},
        "service": {
            "extensions": enabled,
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    })
}
