//! After SIGTERM the requests in flight are completed, no new connection is accepted, and the exit code is 0.

use rustix::process::Signal;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;
use tokio::net::TcpStream;

use crate::fixture::{Fixture, PATIENCE, event};

#[tokio::test]
async fn what_is_in_hand_is_answered_before_the_end() {
    let mut fixture = Fixture::start(&[]).await;
    fixture.client.publish(&event("before")).await;
    fixture.freeze_redis().await;
    let requests: Vec<_> = (0..20).map(|n| fixture.publish(Some(&format!("key-{n}")), event(n))).collect();
    fixture.waiting(20).await;
    fixture.publisher.process().signal(Signal::TERM);
    let address = fixture.publisher.base().trim_start_matches("http://").to_owned();
    wait_until("new connections are refused", PATIENCE, || async {
        let connected = TcpStream::connect(&address).await;
        holds(connected.is_err(), || "it still accepts connections".to_owned())
    })
    .await;
    fixture.thaw_redis();
    for answer in requests {
        answer.await.unwrap().assert_status(202);
    }
    let status = fixture.publisher.terminate().expect("the publisher exits by itself");
    assert_eq!(status.code(), Some(0), "{}", fixture.publisher.log());
    assert_eq!(fixture.event_ids().await.len(), 21);
}
