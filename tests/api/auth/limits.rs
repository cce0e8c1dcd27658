//! Limits of what a client may send in a second.

use sluice_tests::Backend;

use super::{TokenFile, setup};
use crate::common::{event, events};

on_both_backends!(a_client_that_sends_too_much_is_told_when_to_come_back_and_others_are_served);

async fn a_client_that_sends_too_much_is_told_when_to_come_back_and_others_are_served(backend: Backend) {
    let file = TokenFile::new();
    let limited = file.add("--name limited --scope publish").await;
    let also_limited = file.add("--name limited --scope publish").await;
    let busy = file.add("--name busy --scope publish").await;
    let free = file.add("--name free --scope publish --scope read").await;
    // The last two items have numbers of their own. So few that no machine is too slow for them.
    let of_each: Vec<_> = file.content().split("- name: ").map(str::to_owned).collect();
    let own = ["", "", "  requests_per_second: 3\n  events_per_second: 1000000\n", "  events_per_second: 1000000\n"];
    let items = of_each[1..].iter().zip(own).map(|(item, own)| format!("- name: {item}{own}"));
    file.replace(&items.collect::<String>());
    let mut system = setup(backend, &file).env("SLUICE_EVENTS_PER_SECOND", "1").start().await;
    let nobody = system.client.clone();
    system.client = nobody.with_token(&free);

    // More events than a second allows pass at once, and the debt is paid off in the next 100 seconds.
    let client = nobody.with_token(&limited);
    client.publish(&events("t", 0..100)).await;
    for token in [&limited, &also_limited] {
        let refused = nobody.with_token(token).publish_raw(event("t", "refused").to_string()).await;
        let problem = refused.assert_problem(429, "rate_limited");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1 events a second")), "{problem}");
        let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=100).contains(&wait), "{wait} s");
    }
    // Large bodies are parsed on another thread.
    let large: Vec<_> =
        (0..400).map(|n| serde_json::json!({"event_id": n.to_string(), "payload": "x".repeat(1_000)})).collect();
    client.publish_raw(serde_json::json!(large).to_string()).await.assert_problem(429, "rate_limited");
    // Others are served.
    system.client.publish(&events("u", 0..100)).await;
    system.client.publish(&events("u", 100..200)).await;
    // Many more requests at once than three a second allow.
    let client = nobody.with_token(&busy);
    let bodies = (0..60).map(|number| {
        let client = client.clone();
        tokio::spawn(async move { client.publish_raw(event("b", &number.to_string()).to_string()).await })
    });
    let (mut accepted, mut refused) = (0, 0);
    for answer in bodies.collect::<Vec<_>>() {
        let answer = answer.await.expect("the task does not panic");
        match answer.status {
            202 => accepted += 1,
            _ => {
                let problem = answer.assert_problem(429, "rate_limited");
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("3 requests")), "{problem}");
                assert!(answer.headers.contains_key("retry-after"));
                refused += 1;
            }
        }
    }
    assert!(accepted >= 3 && refused > 0, "{accepted} accepted, {refused} refused");
    system.wait_until_stored(300 + accepted).await;
}
