//! The publisher forwards the requests that it does not serve itself.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Uri};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use futures::StreamExt;
use serde_json::json;
use sluice_service::options::ServeOptions;
use sluice_service::server;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fixture::{Fixture, event};

/// Starts a server that returns each request as JSON, and returns its URL. It stops when the guard is dropped.
async fn upstream() -> (String, DropGuard) {
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let drip = || async {
        let second = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok::<_, std::io::Error>("second")
        };
        let pieces = futures::stream::once(async { Ok("first") }).chain(futures::stream::once(second));
        Body::from_stream(pieces)
    };
    let endless = || async { Body::from_stream(futures::stream::pending::<Result<&str, std::io::Error>>()) };
    let router =
        Router::new().route("/base/drip", get(drip)).route("/base/events/tail", get(endless)).fallback(any(echo));
    tokio::spawn(server::run(listener, router, stop.clone(), ServeOptions::new(Duration::from_secs(1))));
    (url, stop.drop_guard())
}

async fn echo(headers: HeaderMap, uri: Uri, request: Request) -> impl IntoResponse {
    let method = request.method().to_string();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let received = json!({
        "method": method,
        "uri": uri.to_string(),
        "body": String::from_utf8_lossy(&body),
        "accept": text("accept"),
        "secret": text("x-secret"),
        "request_id": text("x-request-id"),
    });
    let headers = [("x-next-cursor", "c"), ("keep-alive", "timeout=9"), ("content-type", "application/json")];
    (axum::http::StatusCode::IM_A_TEAPOT, headers, received.to_string())
}

#[tokio::test]
async fn method_path_query_headers_and_bodies_pass_through() {
    let (url, _stop) = upstream().await;
    let fixture = Fixture::start(&["--query-url", &url]).await;
    let id = "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa";
    let path = "/events/a%2Fb/%C3%A9%20?since=2026-01-01T00:00:00%2B02:00&limit=3";
    let request = fixture
        .client
        .request("POST", path)
        .header("accept", "application/x-ndjson")
        .header("x-request-id", id)
        .header("connection", "x-secret")
        .header("x-secret", "stays here")
        .body("a body");
    let answer = fixture.client.send(request).await;
    assert_eq!(answer.status, 418, "{}", answer.text);
    assert_eq!(
        answer.json(),
        json!({
            "method": "POST",
            "uri": format!("/base{path}"),
            "body": "a body",
            "accept": "application/x-ndjson",
            "secret": null,
            "request_id": id,
        })
    );
    assert_eq!(answer.headers["x-next-cursor"], "c");
    assert!(!answer.headers.contains_key("keep-alive"), "{:?}", answer.headers);
    assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);

    let made = fixture.client.get("/stats").await;
    assert_eq!(made.json()["request_id"], made.headers["x-request-id"].to_str().unwrap());
    for own in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(fixture.client.get(own).await.status, 200, "{own}");
    }
    fixture.client.get("/publish").await.assert_problem(405, "method_not_allowed");
}

#[tokio::test]
async fn an_answer_is_passed_on_while_it_comes() {
    let (url, _stop) = upstream().await;
    let fixture = Fixture::start(&["--query-url", &url]).await;
    let mut answer = fixture.client.request("GET", "/drip").send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first");
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
    assert!(answer.chunk().await.unwrap().is_none());
}

#[tokio::test]
async fn streams_are_bounded_in_number_and_take_no_place_of_other_requests() {
    let (url, _stop) = upstream().await;
    let fixture = Fixture::start(&["--query-url", &url]).await;
    let open = || fixture.client.request("GET", "/events/tail").send();
    let mut streams = Vec::new();
    for _ in 0..256 {
        let stream = open().await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    fixture.client.get("/events/tail").await.assert_problem(503, "query_unavailable");
    assert_eq!(fixture.client.get("/stats").await.status, 418);
    streams.pop();
    sluice_tests::wait_until("a place is free again", Duration::from_secs(20), || async {
        let stream = open().await.unwrap();
        if stream.status() == 200 { Ok(()) } else { Err(stream.status().to_string()) }
    })
    .await;
}

#[tokio::test]
async fn without_aggregators_queries_are_answered_503_and_publishing_goes_on() {
    let (url, stop) = upstream().await;
    let fixture = Fixture::start(&["--query-url", &url]).await;
    assert_eq!(fixture.client.get("/stats").await.status, 418);
    drop(stop);
    let answer = sluice_tests::wait_until("the aggregator has stopped", Duration::from_secs(20), || async {
        let answer = fixture.client.get("/stats").await;
        if answer.status == 418 { Err(answer.text) } else { Ok(answer) }
    })
    .await;
    answer.assert_problem(503, "query_unavailable");
    assert!(answer.headers.contains_key("retry-after"));
    fixture.client.publish(&event("1")).await;
}
