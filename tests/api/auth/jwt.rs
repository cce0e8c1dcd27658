//! JWTs: which are accepted, which are not, and what happens when the keys of the issuer change.

use std::time::{Duration, Instant};

use ring::hmac;
use serde_json::{Value, json};
use sluice_tests::certificates::{Authority, HOST};
use sluice_tests::wait::holds;
use sluice_tests::{Backend, Client, Setup, dirs, wait_until};

use super::bad_tokens::refused;
use super::issuer::{Issuer, Key, accepting, base64, claims, in_seconds, signed, write_keys};
use super::rotation::Load;
use super::{TokenFile, setup};
use crate::common::event;

on_both_backends!(
    jwts_of_each_algorithm_are_accepted_beside_tokens_of_the_file,
    no_bad_jwt_is_accepted_and_nothing_is_stored,
    a_key_in_a_file_is_rotated_while_requests_go_on,
    a_key_behind_a_url_is_rotated_while_requests_go_on,
);

const SOON: Duration = Duration::from_secs(120);

/// Publishes an event with a token, and returns the status of the answer.
async fn publish(client: &Client, token: &str, id: &str) -> u16 {
    let answer = client.with_token(token).publish_raw(event("orders.eu", id).to_string()).await;
    if answer.status == 401 {
        answer.assert_problem(401, "unauthorized");
    }
    answer.status
}

async fn jwts_of_each_algorithm_are_accepted_beside_tokens_of_the_file(backend: Backend) {
    let file = TokenFile::new();
    let reader = file.add("--name reader --scope read --scope admin").await;
    let keys = [Key::rs256("r"), Key::es256("e"), Key::eddsa("d")];
    let issuer = Issuer::start(&keys.each_ref()).await;
    let mut system = accepting(setup(backend, &file), &issuer.url).start().await;
    let nobody = system.client.clone();
    system.client = nobody.with_token(&reader);
    let mut expected = 0;
    for key in &keys {
        for (what, change) in [
            ("plain", json!({})),
            ("its audience is one of several", json!({"aud": ["other", "sluice"]})),
            ("it has expired within the leeway", json!({"exp": in_seconds(-15)})),
            ("it begins within the leeway", json!({"nbf": in_seconds(20)})),
            ("other scopes too", json!({"scope": ["openid", "publish"]})),
            ("for this topic", json!({"topics": ["users", "orders.*"]})),
        ] {
            let token = key.token(&with(claims("shop", "publish"), &change));
            let id = format!("{} {what}", key.kid);
            // Verified, and then known.
            for _ in 0..2 {
                assert_eq!(publish(&nobody, &token, &id).await, 202, "{id}");
                expected += 1;
            }
        }
        let token = key.token(&with(claims("shop", "publish"), &json!({"topics": ["users"]})));
        let other = nobody.with_token(&token).publish_raw(event("orders.eu", "other").to_string()).await;
        other.assert_problem(403, "topic_not_allowed");
        nobody.with_token(&token).get("/events").await.assert_problem(403, "missing_scope");
        nobody.with_token(&key.token(&claims("a", "read"))).get("/events").await.assert_status(200);
    }
    system.wait_until_stored(expected).await;
    // The subject of a JWT is in the log, and tokens are not.
    nobody.with_token(&keys[0].token(&claims("the-sub", "publish"))).publish_raw("{}").await.assert_status(422);
    wait_until("the log has the subject", SOON, || {
        let log = system.ingest().log();
        std::future::ready(holds(log.contains("\"subject\":\"the-sub\""), || log))
    })
    .await;
    assert!(!system.ingest().log().contains("eyJ"), "{}", system.ingest().log());
}

/// Returns claims with some of them changed, or left out where the change is null.
fn with(mut claims: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().expect("claims") {
        match value {
            Value::Null => drop(claims.as_object_mut().expect("claims").remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

async fn no_bad_jwt_is_accepted_and_nothing_is_stored(backend: Backend) {
    let keys @ [rs, es, ed] = &[Key::rs256("r"), Key::es256("e"), Key::eddsa("d")];
    let issuer = Issuer::start(&keys.each_ref()).await;
    let mut system = accepting(Setup::new(backend), &issuer.url).start().await;
    let nobody = system.client.clone();
    // The programs have verified the token that some of them begin with, and remember it.
    let first = es.token(&claims("shop", "publish read admin"));
    nobody.with_token(&first).get("/stats").await.assert_status(200);
    assert_eq!(publish(&nobody, &first, "first").await, 202);
    for (what, token) in bad_signatures(&first, rs, es, ed).into_iter().chain(bad_claims(es)) {
        refused(&nobody, what, &[format!("Bearer {token}").as_bytes()]).await;
    }
    let good = es.token(&claims("shop", "publish read"));
    let bearer = format!("Bearer {good}");
    refused(&nobody, "two headers", &[bearer.as_bytes(), bearer.as_bytes()]).await;
    refused(&nobody, "another scheme", &[format!("JWT {good}").as_bytes()]).await;
    refused(&nobody, "a token of the file without a file", &[b"Bearer sluice_0123456789"]).await;
    assert!(issuer.requests() <= 2 * 2, "{} requests to the issuer", issuer.requests());
    system.client = nobody.with_token(&good);
    system.publish_and_wait(1, &event("t", "good")).await;
    for program in system.programs() {
        let log = program.log();
        assert!(!log.contains("panicked") && !log.contains("eyJ"), "{log}");
    }
}

/// Returns tokens whose form, header or signature is wrong. `good` is one of `es` that is accepted.
fn bad_signatures(good: &str, rs: &Key, es: &Key, ed: &Key) -> Vec<(&'static str, String)> {
    let claims = claims("shop", "publish read admin");
    let parts: Vec<&str> = good.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    let with_header = |change: Value| es.token_with(&with(es.header(), &change), &claims);
    let hmac = |secret: &[u8]| {
        let header = json!({"alg": "HS256", "kid": "r"});
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        signed(&header, &claims, |message| hmac::sign(&key, message).as_ref().to_vec())
    };
    let jwk = rs.jwk();
    let stranger = Key::es256("e");
    let none = |alg: &str| signed(&json!({"alg": alg, "kid": "e"}), &claims, |_| Vec::new());
    let changed = json!({"iss": claims["iss"], "aud": "sluice", "sub": "root", "scope": "admin", "exp": claims["exp"]});
    vec![
        ("truncated by one character", good[..good.len() - 1].to_owned()),
        ("truncated in its claims", format!("{header}.{}.{signature}", &body[..body.len() / 2])),
        ("without a signature", format!("{header}.{body}.")),
        ("without claims", format!("{header}..{signature}")),
        ("nothing but dots", "..".to_owned()),
        ("padding", format!("{good}=")),
        ("a header that is no JSON", format!("{}.{body}.{signature}", base64("header"))),
        ("a header that is no base64", format!("~~~.{body}.{signature}")),
        ("five parts", format!("{good}.{signature}.{signature}")),
        ("huge", format!("{header}.{}.{signature}", "A".repeat(20_000))),
        ("the algorithm none", none("none")),
        ("the algorithm None", none("None")),
        ("the algorithm NONE", none("NONE")),
        ("no algorithm", with_header(json!({"alg": null}))),
        ("an algorithm that is a number", with_header(json!({"alg": 1}))),
        ("HS256 with the document of the public key", hmac(jwk.to_string().as_bytes())),
        ("HS256 with the modulus of the public key", hmac(jwk["n"].as_str().expect("a modulus").as_bytes())),
        ("HS256 with an empty secret", hmac(b"")),
        ("RS512", rs.token_with(&json!({"alg": "RS512", "kid": "r"}), &claims)),
        ("PS256", rs.token_with(&json!({"alg": "PS256", "kid": "r"}), &claims)),
        ("ES384", with_header(json!({"alg": "ES384"}))),
        ("RS256 for a key of ES256", with_header(json!({"alg": "RS256"}))),
        ("ES256 for a key of RS256", rs.token_with(&json!({"alg": "ES256", "kid": "r"}), &claims)),
        ("EdDSA for a key of ES256", ed.token_with(&json!({"alg": "EdDSA", "kid": "e"}), &claims)),
        ("no kid", with_header(json!({"kid": null}))),
        ("an empty kid", with_header(json!({"kid": ""}))),
        ("a kid that is a number", with_header(json!({"kid": 1}))),
        ("an unknown kid", with_header(json!({"kid": "unknown"}))),
        ("another unknown kid", with_header(json!({"kid": "../../../etc/passwd"}))),
        ("signed by a stranger with our kid", stranger.token(&claims)),
        ("the key of a stranger in the header", {
            stranger.token_with(&with(stranger.header(), &json!({"jwk": stranger.jwk()})), &claims)
        }),
        ("a URL of keys in the header", {
            stranger.token_with(&with(stranger.header(), &json!({"jku": "http://127.0.0.1:1/keys"})), &claims)
        }),
        ("an extension that must be understood", with_header(json!({"crit": ["exp"]}))),
        ("changed claims", format!("{header}.{}.{signature}", base64(changed.to_string()))),
        ("another signature of zeros", format!("{header}.{body}.{}", base64([0; 64]))),
        ("a signature of zeros", signed(&es.header(), &claims, |_| vec![0; 64])),
        (
            "a signature of another token",
            format!("{header}.{body}.{}", { es.token(&changed).rsplit('.').next().expect("a signature").to_owned() }),
        ),
        ("an empty signature of RS256", signed(&rs.header(), &claims, |_| Vec::new())),
        ("a long signature", signed(&es.header(), &claims, |_| vec![1; 4_096])),
    ]
}

/// Returns tokens that are signed well, with claims that are not accepted.
fn bad_claims(es: &Key) -> Vec<(&'static str, String)> {
    let changed = |change: Value| es.token(&with(claims("shop", "publish read admin"), &change));
    vec![
        ("expired", changed(json!({"exp": in_seconds(-60)}))),
        ("expired in 1970", changed(json!({"exp": 0}))),
        ("an end before 1970", changed(json!({"exp": -1}))),
        ("no end", changed(json!({"exp": null}))),
        ("an end that is a text", changed(json!({"exp": "tomorrow"}))),
        ("not valid yet", changed(json!({"nbf": in_seconds(600)}))),
        ("a beginning that is a text", changed(json!({"nbf": "yesterday"}))),
        ("another issuer", changed(json!({"iss": "https://other.example"}))),
        ("an issuer with a slash more", changed(json!({"iss": "https://issuer.example/"}))),
        ("no issuer", changed(json!({"iss": null}))),
        ("another audience", changed(json!({"aud": "other"}))),
        ("other audiences", changed(json!({"aud": ["other", "sluice2"]}))),
        ("no audience", changed(json!({"aud": null}))),
        ("an empty list of audiences", changed(json!({"aud": []}))),
        ("no subject", changed(json!({"sub": null}))),
        ("an empty subject", changed(json!({"sub": ""}))),
        ("a subject that is a number", changed(json!({"sub": 1}))),
        ("a subject with a line break", changed(json!({"sub": "a\nb"}))),
        ("scopes that are a number", changed(json!({"scope": 1}))),
        ("topics that are an object", changed(json!({"topics": {}}))),
        ("an empty pattern of topics", changed(json!({"topics": [""]}))),
        ("claims that are a list", es.token(&json!([1, 2]))),
    ]
}

async fn a_key_in_a_file_is_rotated_while_requests_go_on(backend: Backend) {
    let (old, new) = (Key::es256("old"), Key::eddsa("new"));
    let path = dirs::fresh("keys").join("jwks.json");
    write_keys(&path, &[&old]);
    let mut system = accepting(Setup::new(backend), &path.display().to_string()).start().await;
    let nobody = system.client.clone();
    let [first, second] = [&old, &new].map(|key| key.token(&claims("shop", "publish read")));
    let load = Load::start(nobody.with_token(&first), "old");
    load.goes_on().await;
    assert_eq!(publish(&nobody, &second, "too early").await, 401);

    write_keys(&path, &[&old, &new]);
    let mut accepted = 0;
    wait_until("the next key is in force", SOON, || async {
        let status = publish(&nobody, &second, "next").await;
        holds(status == 202, || status.to_string())
    })
    .await;
    accepted += 1;
    load.goes_on().await;
    std::fs::write(&path, "{}").expect("the file");
    let load2 = Load::start(nobody.with_token(&second), "new");
    load2.goes_on().await;
    wait_until("the wrong file is reported", SOON, || async {
        let log = system.aggregators[0].log();
        holds(log.contains("--jwt-jwks: the file has changed and is wrong"), || log)
    })
    .await;
    load.goes_on().await;
    accepted += load.end().await;

    write_keys(&path, &[&new]);
    wait_until("the old key ends, also for a token that was verified", SOON, || async {
        let answer = nobody.with_token(&first).publish_raw("[]").await;
        holds(answer.status == 401, || answer.text)
    })
    .await;
    load2.goes_on().await;
    accepted += load2.end().await;
    system.client = nobody.with_token(&second);
    system.wait_until_stored(accepted).await;
}

async fn a_key_behind_a_url_is_rotated_while_requests_go_on(backend: Backend) {
    let (old, new) = (Key::eddsa("old"), Key::rs256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let began = Instant::now();
    let mut system = accepting(Setup::new(backend), &issuer.url).start().await;
    let nobody = system.client.clone();
    let [first, second] = [&old, &new].map(|key| key.token(&claims("shop", "publish read")));
    let load = Load::start(nobody.with_token(&first), "old");
    load.goes_on().await;

    // The first token with the next key has it fetched, and waits for that.
    issuer.publish(&[&old, &new]);
    let next = Load::start(nobody.with_token(&second), "new");
    next.goes_on().await;

    // While the issuer is away, its last keys stay in force.
    issuer.is_away(true);
    load.goes_on().await;
    next.goes_on().await;
    let mut accepted = load.end().await;
    issuer.is_away(false);
    issuer.publish(&[&new]);
    let unknown = Key::es256("unknown").token(&claims("shop", "publish"));
    wait_until("the old key ends", SOON, || async {
        // Not more than once a minute, however many there are.
        assert_eq!(publish(&nobody, &unknown, "unknown").await, 401);
        let answer = nobody.with_token(&first).publish_raw("[]").await;
        holds(answer.status == 401, || answer.text)
    })
    .await;
    next.goes_on().await;
    accepted += next.end().await;
    let minutes = began.elapsed().as_secs() / 60;
    let programs = system.programs().count() as u64;
    let most = programs * (2 + minutes);
    assert!(issuer.requests() <= most, "{} requests to the issuer in {minutes} minutes", issuer.requests());
    system.client = nobody.with_token(&second);
    system.wait_until_stored(accepted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jwt_that_is_used_all_the_time_ends_when_it_expires() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    let system = accepting(Setup::new(Backend::Standalone), &issuer.url).start().await;
    // With the leeway of 30 seconds, it is accepted for ten more.
    let token = key.token(&with(claims("shop", "read"), &json!({"exp": in_seconds(-20)})));
    let client = system.client.with_token(&token);
    client.get("/stats").await.assert_status(200);
    wait_until("it has ended", SOON, || async {
        let answer = client.get("/stats").await;
        holds(answer.status == 401, || answer.status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_keys_stay_in_force_when_they_cannot_be_fetched_again() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    let system = accepting(Setup::new(Backend::Standalone), &issuer.url).start().await;
    let read = async |sub: &str| system.client.with_token(&key.token(&claims(sub, "read"))).get("/stats").await.status;
    assert_eq!(read("a").await, 200);
    issuer.is_away(true);
    // It has the keys fetched.
    let unknown = Key::es256("unknown").token(&claims("a", "read"));
    system.client.with_token(&unknown).get("/stats").await.assert_problem(401, "unauthorized");
    wait_until("the failure is reported", SOON, || {
        let log = system.aggregators[0].log();
        std::future::ready(holds(log.contains("the keys cannot be fetched: the last ones stay in force"), || log))
    })
    .await;
    // One that was verified before, and one that was not.
    assert_eq!((read("a").await, read("b").await), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_key_of_the_issuer_jwts_are_answered_503_and_accepted_once_it_is_back() {
    let key = Key::es256("k");
    let issuer = Issuer::start(&[&key]).await;
    issuer.is_away(true);
    let system = accepting(Setup::new(Backend::Standalone), &issuer.url).start().await;
    let client = system.client.with_token(&key.token(&claims("shop", "publish")));
    let answer = client.publish_raw(event("t", "early").to_string()).await;
    answer.assert_problem(503, "keys_unavailable");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    system.client.with_token("sluice_0").get("/stats").await.assert_problem(401, "unauthorized");
    issuer.is_away(false);
    wait_until("the issuer is back", SOON, || async {
        let status = client.publish_raw(event("t", "late").to_string()).await.status;
        holds(status == 202, || status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_come_over_tls_from_an_issuer_of_a_trusted_ca_and_from_no_other() {
    let (ca, other) = (Authority::new(), Authority::new());
    let key = Key::es256("k");
    let issuer = Issuer::start_with_tls(&[&key], &ca.issue(HOST)).await;
    let token = key.token(&claims("shop", "publish"));
    for (trusted, status) in [(&ca, 202), (&other, 503)] {
        let setup = accepting(Setup::new(Backend::Standalone), &issuer.url);
        let system = setup.env("SLUICE_JWT_CA", &trusted.ca().display().to_string()).start().await;
        assert_eq!(publish(&system.client, &token, "1").await, status);
        let reason = "the certificate of the issuer is not from a trusted CA: give the CA with --jwt-ca";
        wait_until("the log has the reason, if there is one", SOON, || {
            let log = system.aggregators[0].log();
            std::future::ready(holds(log.contains(reason) == (status == 503), || log))
        })
        .await;
    }
}
