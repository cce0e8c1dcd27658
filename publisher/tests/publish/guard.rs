//! Every request to `serve` passes the request guard, also publishing, which is served without the router.

use std::sync::Arc;

use axum::http::request::Parts;
use clap::Parser;
use futures::future::BoxFuture;
use sluice_publisher::serve;
use sluice_publisher::settings::{Cli, Command};
use sluice_service::code::Code;
use sluice_service::guard::{Decision, RequestGuard};
use sluice_service::problem::Problem;
use sluice_service::server;
use sluice_tests::Client;
use tokio_util::sync::CancellationToken;

use crate::fixture::event;

struct RefuseAll;

impl RequestGuard for RefuseAll {
    fn check<'r>(&'r self, _: &'r mut Parts) -> BoxFuture<'r, Decision> {
        Box::pin(async { Decision::refuse(Problem::new(Code::BadRequest, "refused by the guard")) })
    }
}

#[tokio::test]
async fn a_refusal_by_the_guard_reaches_every_request_of_serve() {
    // Nothing is appended, so no Redis server is needed.
    let arguments =
        ["sluice-publisher", "serve", "--redis-url", "redis://127.0.0.1:1", "--query-url", "http://127.0.0.1:1"];
    let Command::Serve(settings) = Cli::parse_from(arguments).command else { panic!("another command") };
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let _stop = shutdown.clone().drop_guard();
    tokio::spawn(serve::serve(listener, *settings, shutdown, Some(Arc::new(RefuseAll))));

    let publish = client.publish_raw(event("1").to_string()).await;
    for answer in [publish, client.get("/publish").await, client.get("/stats").await, client.get("/readyz").await] {
        let problem = answer.assert_problem(400, "bad_request");
        assert_eq!(problem["detail"], "refused by the guard");
        assert!(answer.headers.contains_key("x-request-id"));
    }
}
