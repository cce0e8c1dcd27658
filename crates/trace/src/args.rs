//! The settings of traces. Their variables have the names that OpenTelemetry gives them
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>), because the operators of Kubernetes set these.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use http::Uri;
use sluice_service::client_tls::{ClientFiles, ClientOptions, ClientTls};
use sluice_service::encryption::is_loopback;
use sluice_service::tls::Names;

const COLLECTOR: ClientOptions = ClientOptions {
    names: Names {
        server: "the collector",
        url: "--otlp-endpoint",
        ca: "--otlp-ca",
        certificate: "--otlp-cert and --otlp-key",
    },
    cert: "--otlp-cert",
    key: "--otlp-key",
};

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1.
    #[value(name = "http/protobuf")]
    Http,
}

/// Which requests are traced, and where their spans are sent.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// URL of an OpenTelemetry collector that gets the spans of requests by OTLP; without it nothing is traced
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "http[s]://HOST:PORT", value_parser = endpoint)]
    pub otlp_endpoint: Option<Endpoint>,
    /// Protocol by which spans are sent; with http/protobuf to the path /v1/traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_PROTOCOL", default_value = "http/protobuf", value_name = "PROTOCOL")]
    pub otlp_protocol: Protocol,
    /// File with certificates of CAs, in PEM, that are trusted instead of those of the system; for an https:// endpoint
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CERTIFICATE", value_name = "FILE")]
    pub otlp_ca: Option<PathBuf>,
    /// File with the certificate of this client, in PEM, if the collector demands one
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", value_name = "FILE")]
    pub otlp_cert: Option<PathBuf>,
    /// File with the private key of the certificate of this client, in PEM
    #[arg(long, env = "OTEL_EXPORTER_OTLP_CLIENT_KEY", value_name = "FILE")]
    pub otlp_key: Option<PathBuf>,
    /// Share of the requests without a traceparent that are traced, from 0 to 1. Of those with one the client decides
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 0.01, value_name = "SHARE", value_parser = share)]
    pub trace_ratio: f64,
    /// Largest number of traces that begin in a second, also of those that clients ask for
    #[arg(long, env = "SLUICE_TRACE_LIMIT", default_value_t = 100, value_name = "TRACES",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub trace_limit: u32,
}

/// Where spans are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(
    /// `None` if it is empty, which means that there is none, as OpenTelemetry says.
    pub Option<Uri>,
);

impl TraceArgs {
    /// Returns where spans are sent; `None` if nothing is traced.
    pub fn endpoint(&self) -> Option<&Uri> {
        self.otlp_endpoint.as_ref().and_then(|endpoint| endpoint.0.as_ref())
    }

    /// Returns the TLS of the connection to the collector.
    pub(crate) fn tls(&self) -> ClientTls {
        let Self { otlp_ca: ca, otlp_cert: cert, otlp_key: key, .. } = self.clone();
        ClientTls::new(COLLECTOR, ClientFiles { ca, cert, key })
    }

    /// Checks that the options agree, and reads the files.
    ///
    /// # Errors
    /// The name of the option that cannot work, and the reason.
    pub fn check(&self, require_tls: bool) -> Result<(), String> {
        let Some(endpoint) = self.endpoint() else { return Ok(()) };
        self.tls().check(&endpoint.to_string())?;
        let is_safe = endpoint.scheme_str() == Some("https") || endpoint.host().is_some_and(is_loopback);
        if require_tls && !is_safe {
            return Err(
                "--otlp-endpoint: must begin with https://, because --require-tls demands TLS and the host is \
                        another one"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    if text.is_empty() {
        return Ok(Endpoint(None));
    }
    let uri: Uri = text.parse().map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.authority().is_none() {
        return Err("use http://HOST:PORT or https://HOST:PORT".into());
    }
    if uri.query().is_some() {
        return Err("must not have a query".into());
    }
    // It would not be sent, and would stand in the log.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("must not have a user or a password: use OTEL_EXPORTER_OTLP_HEADERS".into());
    }
    Ok(Endpoint(Some(uri)))
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("use a number from 0 to 1".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        traces: TraceArgs,
    }

    fn parsed(args: &[&str]) -> Result<TraceArgs, String> {
        let args = [&["program"], args].concat();
        Cli::try_parse_from(args).map(|cli| cli.traces).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_the_name_of_the_option() {
        for (option, value) in [
            ("--otlp-endpoint", "collector:4317"),
            ("--otlp-endpoint", "ftp://collector"),
            ("--otlp-endpoint", "http://collector/?a=b"),
            ("--otlp-endpoint", "http://user:password@collector"),
            ("--otlp-protocol", "http/json"),
            ("--trace-ratio", "1.1"),
            ("--trace-ratio", "NaN"),
            ("--trace-ratio", "-0.1"),
            ("--trace-limit", "0"),
        ] {
            let error = parsed(&[&format!("{option}={value}")]).expect_err(value);
            assert!(error.contains(option), "{option} {value}: {error}");
        }
        for (args, expected) in [
            (
                &["--otlp-endpoint", "http://c", "--otlp-ca", "/no/such/file"][..],
                "--otlp-ca: --otlp-endpoint must begin",
            ),
            (
                &["--otlp-endpoint", "https://c", "--otlp-ca", "/no/such/file"],
                "--otlp-ca: /no/such/file cannot be read",
            ),
            (&["--otlp-endpoint", "https://c", "--otlp-cert", "/no/such/file"], "--otlp-cert needs --otlp-key"),
        ] {
            let error = parsed(args).unwrap().check(false).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_empty_endpoint_is_none_and_required_tls_refuses_another_host_without_it() {
        assert_eq!(parsed(&["--otlp-endpoint", ""]).unwrap().endpoint(), None);
        assert_eq!(parsed(&[]).unwrap().endpoint(), None);
        for (endpoint, accepted) in
            [("http://collector:4318", false), ("http://127.0.0.1:4318", true), ("https://collector", true)]
        {
            let args = parsed(&["--otlp-endpoint", endpoint]).unwrap();
            assert_eq!(args.check(true).is_ok(), accepted, "{endpoint}");
            assert_eq!(args.check(false), Ok(()));
        }
    }
}
