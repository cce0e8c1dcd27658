//! Requests that pages of other sites send from the browser of somebody who can reach the server.

use sluice_tests::{Backend, Setup};

use super::{TokenFile, setup};
use crate::common::{event, system};

on_both_backends!(
    a_page_of_another_site_changes_nothing_and_our_own_pages_may,
    pages_of_the_origins_that_are_named_may_use_the_server_and_no_others,
);

const OTHER: &str = "https://evil.example";
const APP: &str = "https://app.example";

async fn a_page_of_another_site_changes_nothing_and_our_own_pages_may(backend: Backend) {
    let system = system(backend).await;
    let client = &system.client;
    let body = event("t", "forged").to_string();
    let json = |request: reqwest::RequestBuilder| request.header("Content-Type", "application/json").body(body.clone());
    for (method, path) in [("POST", "/publish"), ("POST", "/dead-letters/replay"), ("DELETE", "/dead-letters/1")] {
        for headers in [&[("Sec-Fetch-Site", "cross-site")][..], &[("Origin", OTHER)], &[("Origin", "null")]] {
            let request = headers
                .iter()
                .fold(json(client.request(method, path)), |request, (name, value)| request.header(*name, *value));
            client.send(request).await.assert_problem(403, "cross_site_request");
        }
    }
    // What a form, or a script without permission, can send.
    for kind in [Some("application/x-www-form-urlencoded"), Some("text/plain"), Some("multipart/form-data"), None] {
        let request = client.request("POST", "/publish").body(body.clone());
        let request = kind.into_iter().fold(request, |request, kind| request.header("Content-Type", kind));
        client.send(request).await.assert_problem(415, "unsupported_media_type");
    }
    // Nobody but our own pages can read an answer.
    let answer = client.send(client.request("GET", "/stats").header("Origin", OTHER)).await.assert_status(200);
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{:?}", answer.headers);

    let own = system.base();
    for request in [
        json(client.request("POST", "/publish")).header("Origin", &own),
        json(client.request("POST", "/publish")).header("Sec-Fetch-Site", "same-origin").header("Origin", &own),
    ] {
        client.send(request).await.assert_status(202);
    }
    client.send(client.request("POST", "/dead-letters/replay").header("Origin", &own)).await.assert_status(200);
    let snapshot = system.wait_until_stored(2).await;
    assert_eq!((snapshot.received, snapshot.rows), (2, 1), "{snapshot:?}");
}

async fn pages_of_the_origins_that_are_named_may_use_the_server_and_no_others(backend: Backend) {
    let file = TokenFile::new();
    let token = file.add("--name page --scope publish --scope read").await;
    let named = |setup: Setup| setup.env("SLUICE_CORS_ORIGINS", &format!("http://localhost:3000,{APP}"));
    let mut system = named(setup(backend, &file)).start().await;
    let nobody = &system.client.clone();
    let page = nobody.with_token(&token);
    system.client = page.clone();
    let allowed = |answer: &sluice_tests::Answer| {
        answer.headers.get("access-control-allow-origin").map(|value| value.to_str().expect("ASCII").to_owned())
    };
    for path in ["/publish", "/stats"] {
        // A browser asks without a token whether it may send one.
        let asks = |origin| {
            let request = nobody.request("OPTIONS", path).header("Origin", origin);
            request.header("Access-Control-Request-Method", "POST")
        };
        let answer = nobody.send(asks(APP)).await.assert_status(204);
        assert_eq!(allowed(&answer).as_deref(), Some(APP));
        let names = answer.headers["access-control-allow-headers"].to_str().expect("ASCII").to_lowercase();
        assert!(names.contains("authorization") && names.contains("content-type"), "{names}");
        let answer = nobody.send(asks(OTHER)).await.assert_status(401);
        assert_eq!(allowed(&answer), None);
    }
    let publish = |client: &sluice_tests::Client, origin| {
        let request = client.request("POST", "/publish").header("Content-Type", "application/json");
        let request = request.header("Sec-Fetch-Site", "cross-site").header("Origin", origin);
        request.body(event("t", "1").to_string())
    };
    let answer = page.send(publish(&page, APP)).await.assert_status(202);
    assert_eq!(allowed(&answer).as_deref(), Some(APP));
    let answer = nobody.send(publish(nobody, APP)).await;
    answer.assert_problem(401, "unauthorized");
    assert_eq!(allowed(&answer).as_deref(), Some(APP), "a page can read why it is refused");
    page.send(publish(&page, OTHER)).await.assert_problem(403, "cross_site_request");
    for (path, status) in [("/stats", 200), ("/metrics", 403)] {
        let request = page.request("GET", path).header("Origin", "http://localhost:3000");
        let answer = page.send(request).await.assert_status(status);
        assert_eq!(allowed(&answer).as_deref(), Some("http://localhost:3000"));
        assert_eq!(answer.headers.get_all("access-control-allow-origin").iter().count(), 1);
        assert_eq!(answer.headers["vary"], "Origin");
    }
    system.wait_until_stored(1).await;
}
