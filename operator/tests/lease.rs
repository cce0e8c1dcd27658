//! Leader election among several operators.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_operator::lease::Election;
use support::fake::Api;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/tools/leases/sluice";
/// The shortest duration that a Lease can express.
const DURATION: Duration = Duration::from_secs(1);

fn election(api: &Api, identity: &str) -> Election {
    Election::new(api.client(), "tools", "sluice", identity, DURATION)
}

fn holder(api: &Api) -> String {
    api.get(LEASE).unwrap()["spec"]["holderIdentity"].as_str().unwrap_or("").to_owned()
}

#[tokio::test]
async fn the_first_wins_and_the_second_waits_as_long_as_the_lease_is_renewed() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    let (first, second) = (election(&api, "a"), election(&api, "b"));
    assert!(first.win(&stop).await);
    assert_eq!(holder(&api), "a");
    let renewing = first.renew_until(&stop);
    let waiting = timeout(DURATION * 4, second.win(&stop));
    tokio::select! {
        lost = renewing => panic!("{lost:?}"),
        won = waiting => assert!(won.is_err(), "there are two leaders"),
    }
    assert_eq!(holder(&api), "a");
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_followed_after_the_lease_ran_out() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    assert!(election(&api, "a").win(&stop).await);
    let began = Instant::now();
    assert!(election(&api, "b").win(&stop).await);
    assert!(began.elapsed() >= DURATION, "{:?}", began.elapsed());
    assert_eq!(holder(&api), "b");
    assert_eq!(api.get(LEASE).unwrap()["spec"]["leaseTransitions"], 2);
}

#[tokio::test]
async fn a_leader_that_stops_gives_the_lease_away() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    let first = election(&api, "a");
    assert!(first.win(&stop).await);
    let second = election(&api, "b");
    let began = Instant::now();
    let (_, won) = tokio::join!(first.release(), second.win(&stop));
    assert!(won);
    assert!(began.elapsed() < DURATION * 3, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_leaves() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    let first = election(&api, "a");
    assert!(first.win(&stop).await);
    api.change(LEASE, |lease| lease["spec"]["holderIdentity"] = json!("b"));
    let lost = timeout(DURATION * 3, first.renew_until(&stop)).await.expect("the loss is noticed");
    assert!(lost.unwrap_err().to_string().contains("taken"));
}

#[tokio::test]
async fn a_leader_that_cannot_renew_leaves_before_another_may_take_over() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    let first = election(&api, "a");
    assert!(first.win(&stop).await);
    api.refuse("GET leases", 500);
    let began = Instant::now();
    assert!(first.renew_until(&stop).await.is_err());
    assert!(began.elapsed() < DURATION, "{:?}", began.elapsed());
}

#[tokio::test]
async fn of_two_that_see_it_free_one_wins() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    assert!(election(&api, "gone").win(&stop).await);
    let (first, second) = (election(&api, "a"), election(&api, "b"));
    // The first operator that leads ends the race.
    let race = async |election: Election| {
        let won = election.win(&stop).await;
        if won {
            stop.cancel();
        }
        won
    };
    let (a, b) = tokio::join!(race(first), race(second));
    assert!(a ^ b, "{a} {b}");
}

#[tokio::test]
async fn waiting_for_the_lease_ends_when_told_to_stop() {
    let (api, stop) = (Api::default(), CancellationToken::new());
    assert!(election(&api, "a").win(&stop).await);
    stop.cancel();
    assert!(!election(&api, "b").win(&stop).await);
}
