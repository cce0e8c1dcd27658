//! What is logged about requests that are served without the router. This test has its own program: whether a log
//! line is enabled is cached for the whole process, and a thread of another test, which has no subscriber, would
//! disable it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; clippy spares only the test functions themselves")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use sluice_event::RequestId;
use sluice_service::code::Code;
use sluice_service::guard::Identity;
use sluice_service::options::ServeOptions;
use sluice_service::problem::Problem;
use sluice_service::server;
use sluice_service::shortcut::Shortcut;
use tokio_util::sync::CancellationToken;

const ID: &str = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa";

struct Shop;

impl Shortcut for Shop {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/orders";

    async fn answer(&self, _: RequestId, _: Option<&dyn Identity>, request: Request<Incoming>) -> Response {
        tracing::debug!("an order");
        match request.uri().query() {
            Some(_) => Problem::new(Code::InvalidEvent, "has a query").into_response(),
            None => StatusCode::ACCEPTED.into_response(),
        }
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Returns the lines that are logged at a level for two requests: one that is refused and one that is accepted.
    async fn at(level: tracing::Level) -> Vec<serde_json::Value> {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_max_level(level).with_writer(move || writer.clone());
        let logging = tracing::subscriber::set_default(subscriber.finish());
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/orders", listener.local_addr().unwrap());
        let options = ServeOptions::new(Duration::from_secs(1));
        let stop = CancellationToken::new();
        tokio::spawn(server::run_with_shortcut(listener, Router::new(), Shop, stop, options));
        for url in [format!("{url}?a=b"), url] {
            sluice_service::client_tls::plain_client()
                .unwrap()
                .build()
                .unwrap()
                .post(url)
                .header("X-Request-Id", ID)
                .send()
                .await
                .unwrap();
        }
        drop(logging);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test]
async fn every_line_about_a_request_names_it() {
    for (level, expected) in [
        (tracing::Level::INFO, &["request refused"][..]),
        (tracing::Level::DEBUG, &["an order", "request refused", "an order", "request answered"]),
    ] {
        let lines = Lines::at(level).await;
        let of_requests: Vec<_> = lines.iter().filter(|line| line["span"]["name"] == "request").collect();
        let messages: Vec<_> = of_requests.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect();
        assert_eq!(messages, expected, "{lines:?}");
        for line in of_requests {
            let span = &line["span"];
            assert_eq!((&span["id"], &span["method"], &span["path"]), (&ID.into(), &"POST".into(), &"/orders".into()));
        }
    }
}
