//! Every request to `standalone` passes the request guard, and a refusal by the guard is the response.

use std::sync::Arc;

use axum::http::request::Parts;
use clap::Parser;
use futures::future::BoxFuture;
use sluice_aggregator::settings::{Cli, Command};
use sluice_aggregator::standalone::Standalone;
use sluice_service::code::Code;
use sluice_service::guard::{Decision, RequestGuard};
use sluice_service::problem::Problem;
use sluice_service::server;
use sluice_tests::{Client, dirs};
use tokio_util::sync::CancellationToken;

struct RefuseAll;

impl RequestGuard for RefuseAll {
    fn check<'r>(&'r self, _: &'r mut Parts) -> BoxFuture<'r, Decision> {
        Box::pin(async { Decision::refuse(Problem::new(Code::BadRequest, "refused by the guard")) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_by_the_guard_reaches_every_request_of_standalone() {
    let folder = dirs::fresh("api-guard");
    let arguments = ["sluice-aggregator", "standalone", "--data", folder.to_str().unwrap()];
    let Command::Standalone(settings) = Cli::parse_from(arguments).command else { panic!("another command") };
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let standalone = Standalone::open(*settings).await.unwrap();
    let serving = tokio::spawn(standalone.serve(listener, shutdown.clone(), Some(Arc::new(RefuseAll))));

    let publish = client.publish_raw(r#"{"id":"1","payload":1}"#.to_owned()).await;
    for answer in [publish, client.get("/publish").await, client.get("/stats").await, client.get("/readyz").await] {
        let problem = answer.assert_problem(400, "bad_request");
        assert_eq!(problem["detail"], "refused by the guard");
        assert!(answer.headers.contains_key("x-request-id"));
    }
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
