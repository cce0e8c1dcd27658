//! A route that is served without the router behaves like the routes of the router.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; clippy spares only the test functions themselves")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use sluice_event::RequestId;
use sluice_service::code::Code;
use sluice_service::guard::Identity;
use sluice_service::metrics;
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

    async fn answer(&self, id: RequestId, _: Option<&dyn Identity>, request: Request<Incoming>) -> Response {
        match request.headers().get("want").map(HeaderValue::as_bytes) {
            Some(b"nothing") => Problem::new(Code::InvalidEvent, "empty").into_response(),
            Some(b"panic") => [()].get(std::hint::black_box(1)).unwrap().into_response(),
            Some(b"silence") => StatusCode::NOT_FOUND.into_response(),
            _ => (StatusCode::ACCEPTED, id.to_string()).into_response(),
        }
    }
}

async fn start() -> SocketAddr {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/orders", get(|| async { "from the router" }));
    let options = ServeOptions::new(Duration::from_secs(1));
    tokio::spawn(server::run_with_shortcut(listener, router, Shop, CancellationToken::new(), options));
    address
}

async fn ask(address: SocketAddr, method: Method, path: &str, want: &'static str) -> (u16, String) {
    let request = sluice_service::client_tls::plain_client()
        .unwrap()
        .build()
        .unwrap()
        .request(method, format!("http://{address}{path}"));
    let answer = request.header("X-Request-Id", ID).header("want", want).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], ID);
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn it_takes_its_own_requests_alone_and_they_are_answered_as_all_are() {
    let address = start().await;
    let own = Method::POST;
    assert_eq!(ask(address, own.clone(), "/orders", "all").await, (202, ID.to_owned()));
    assert_eq!(ask(address, own.clone(), "/orders?a=b", "all").await, (202, ID.to_owned()));
    assert_eq!(ask(address, Method::GET, "/orders", "all").await, (200, "from the router".to_owned()));
    for (method, path, want, status, code) in [
        (own.clone(), "/orders", "nothing", 422, "invalid_event"),
        (own.clone(), "/orders", "panic", 500, "internal"),
        (own.clone(), "/orders", "silence", 404, "not_found"),
        (own.clone(), "/orders/", "all", 404, "not_found"),
        (Method::PUT, "/orders", "all", 405, "method_not_allowed"),
    ] {
        let (answered, text) = ask(address, method, path, want).await;
        assert_eq!(answered, status, "{path} {want}: {text}");
        assert!(text.contains(&format!("\"code\":\"{code}\"")), "{path} {want}: {text}");
    }
}

#[tokio::test]
async fn its_requests_are_counted_under_its_path_and_by_status() {
    let exported = metrics::install();
    // Each of the two servers has its own handles of the same counters.
    for address in [start().await, start().await] {
        for want in ["all", "silence", "all"] {
            ask(address, Method::POST, "/orders", want).await;
        }
    }
    let text = exported.render();
    // The counters may include requests of another test.
    let count = |series: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).trim().parse().unwrap()
    };
    for (status, at_least) in [("202", 4), ("404", 2)] {
        let series = format!("sluice_http_requests_total{{method=\"POST\",path=\"/orders\",status=\"{status}\"}}");
        assert!(count(&series) >= at_least, "{text}");
    }
    assert!(count("sluice_http_request_seconds_count{path=\"/orders\"}") >= 6, "{text}");
}
