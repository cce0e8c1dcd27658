//! Requests whose tokens are not accepted: each is refused, and nothing of it is stored.

use reqwest::header::{AUTHORIZATION, HeaderValue};
use sluice_tests::{Backend, Client};

use super::{TokenFile, start};
use crate::common::event;

on_both_backends!(no_bad_token_is_accepted_and_nothing_is_stored);

/// Publishes one event with these headers `Authorization`, which must be refused.
pub async fn refused(client: &Client, what: &str, values: &[&[u8]]) {
    let mut request = client.request("POST", "/publish").header("Content-Type", "application/json");
    for value in values {
        request = request.header(AUTHORIZATION, HeaderValue::from_bytes(value).expect("a value of a header"));
    }
    let answer = client.send(request.body(event("t", what).to_string())).await;
    assert_eq!(answer.status, 401, "{what}: {}", answer.text);
    answer.assert_problem(401, "unauthorized");
    assert!(answer.headers.contains_key("www-authenticate"), "{what}");
    for value in values.iter().filter(|value| value.len() > 20) {
        let sent = String::from_utf8_lossy(&value[value.len() - 12..]).into_owned();
        assert!(!answer.text.contains(&sent), "{what}: the answer repeats the token: {}", answer.text);
    }
}

async fn no_bad_token_is_accepted_and_nothing_is_stored(backend: Backend) {
    let file = TokenFile::new();
    let good = file.add("--name shop --scope publish --scope read").await;
    let expired = file.add("--name old --scope publish --expires 2020-01-01T00:00:00Z").await;
    let mut system = start(backend, &file).await;
    let nobody = system.client.clone();
    let bearer = format!("Bearer {good}");
    let hash = file.content().split('\'').find(|part| part.len() == 64).expect("a hash").to_owned();
    for (what, values) in [
        ("none", &[][..]),
        ("empty", &[""]),
        ("only the scheme", &["Bearer"]),
        ("no token after the scheme", &["Bearer "]),
        ("another scheme", &[&*format!("Basic {good}")]),
        ("the scheme Digest", &[&*format!("Digest {good}")]),
        ("no scheme", &[&*good]),
        ("two headers", &[&*bearer, &*bearer]),
        ("a good header and another scheme", &[&*bearer, "Basic eDp5"]),
        ("two tokens", &[&*format!("{bearer} {good}")]),
        ("two tokens and a comma", &[&*format!("{bearer},{good}")]),
        ("truncated", &[&bearer[..bearer.len() - 1]]),
        ("one character more", &[&*format!("{bearer}0")]),
        ("upper case", &[&*format!("Bearer {}", good.to_uppercase())]),
        ("the hash of the token", &[&*format!("Bearer {hash}")]),
        ("the prefix alone", &["Bearer sluice_"]),
        ("expired", &[&*format!("Bearer {expired}")]),
        ("its padding", &[&*format!("{bearer}=")]),
        ("in quotes", &[&*format!("Bearer \"{good}\"")]),
        ("a tab", &[&*format!("Bearer\t{good}")]),
        ("huge", &[&*format!("Bearer {}", "a".repeat(30_000))]),
        ("not ASCII", &[&*format!("Bearer {good}\u{e9}")]),
    ] {
        let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
        refused(&nobody, what, &values).await;
    }
    system.client = nobody.with_token(&good);
    system.publish_and_wait(0, &event("t", "good")).await;
    for program in system.programs() {
        assert!(!program.log().contains(&good), "{} logs a token", program.name());
    }
}
