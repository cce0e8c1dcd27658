//! The hook that every request passes, before the shortcut and the router.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use sluice_event::RequestId;
use sluice_service::code::Code;
use sluice_service::guard::{Decision, Identity, RequestGuard};
use sluice_service::options::ServeOptions;
use sluice_service::problem::Problem;
use sluice_service::shortcut::Shortcut;
use sluice_service::{metrics, server};
use tokio_util::sync::CancellationToken;

const ID: &str = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa";

struct Subject(String);

impl Identity for Subject {
    fn name(&self) -> &str {
        &self.0
    }
}

/// Takes the subject from a header, as authentication with a token would.
struct Tokens {
    at_once: bool,
}

fn decide(request: &Parts) -> Decision {
    match request.headers.get("token").and_then(|token| token.to_str().ok()) {
        Some("panic") => panic!("on purpose"),
        Some(subject) => Decision::serve().about(Arc::new(Subject(subject.to_owned()))),
        None => Decision::refuse(Problem::new(Code::BadRequest, "no token")),
    }
}

impl RequestGuard for Tokens {
    fn check<'r>(&'r self, request: &'r mut Parts) -> BoxFuture<'r, Decision> {
        assert!(!self.at_once, "it had decided already");
        Box::pin(async move {
            tokio::task::yield_now().await;
            decide(request)
        })
    }

    fn check_now(&self, request: &mut Parts) -> Option<Decision> {
        self.at_once.then(|| decide(request))
    }
}

struct Shop;

impl Shortcut for Shop {
    const METHOD: Method = Method::POST;
    const PATH: &'static str = "/guarded";

    async fn answer(&self, _: RequestId, sender: Option<&dyn Identity>, _: Request<Incoming>) -> Response {
        (StatusCode::ACCEPTED, sender.unwrap().name().to_owned()).into_response()
    }
}

async fn start(at_once: bool) -> SocketAddr {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let read = |Extension(sender): Extension<Arc<dyn Identity>>| async move { sender.name().to_owned() };
    let router = Router::new().route("/guarded", get(read));
    let options = ServeOptions::new(Duration::from_secs(1)).guarded_by(Some(Arc::new(Tokens { at_once })));
    tokio::spawn(server::run_with_shortcut(listener, router, Shop, CancellationToken::new(), options));
    address
}

async fn ask(address: SocketAddr, method: Method, path: &str, token: Option<&str>) -> (u16, String) {
    let mut request = sluice_service::client_tls::plain_client()
        .unwrap()
        .build()
        .unwrap()
        .request(method, format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.header("token", token);
    }
    let answer = request.header("X-Request-Id", ID).send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], ID);
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_refusal_and_a_subject_reach_the_shortcut_and_the_router() {
    let exported = metrics::install();
    for at_once in [false, true] {
        let address = start(at_once).await;
        assert_eq!(ask(address, Method::POST, "/guarded", Some("ann")).await, (202, "ann".to_owned()));
        assert_eq!(ask(address, Method::GET, "/guarded", Some("ann")).await, (200, "ann".to_owned()));
        assert_eq!(ask(address, Method::GET, "/nowhere", Some("ann")).await.0, 404);
        for (method, path) in [
            (Method::POST, "/guarded"),
            (Method::GET, "/guarded"),
            (Method::PUT, "/guarded"),
            (Method::GET, "/nowhere"),
        ] {
            let (status, text) = ask(address, method.clone(), path, None).await;
            assert!(status == 400 && text.contains("no token"), "{method} {path}: {status} {text}");
            let (status, text) = ask(address, method.clone(), path, Some("panic")).await;
            assert!(status == 500 && text.contains("\"code\":\"internal\""), "{method} {path}: {status} {text}");
        }
    }
    let text = exported.render();
    for (method, path) in [("POST", "/guarded"), ("GET", "/guarded"), ("GET", "other")] {
        let series = format!("sluice_http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"400\"}} 2");
        assert!(text.lines().any(|line| line == series), "no {series} in {text}");
    }
}
