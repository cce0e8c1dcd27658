//! Every body that the quick reader accepts, the thorough reader accepts too, with the same events. The
//! quick reader accepts all usual forms.

use proptest::prelude::*;

use super::*;

const BODIES: &[&str] = &[
    r#"{"event_id":"1","payload":{}}"#,
    r#" [ { "id" : "a b" , "payload" : [ 1 , -0.5e+3 , "x" ] } , {"id":"2","payload":null,"timestamp":"2026-01-31T12:00:00Z"} ] "#,
    r#"{"events":[{"topic":"orders","event_id":"é","source":null,"payload":{"b":{"y":1,"x":[]},"a":"\n\u00e9\\\""}}]}"#,
    r#"{"note":{"by":["us"]},"events":[{"source":"caf\u00e9","event_id":"1\/2","payload":true}],"more":0}"#,
    r#"[{"topic":"t","event_id":"e","id":"e","timestamp":"2026-01-31T12:00:00+02:00","source":"","payload":"","x":false}]"#,
];

fn limits() -> Limits {
    Limits { events: 3, payload_bytes: 60, payload_depth: 4, topic_bytes: 8, ..Limits::default() }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn agree(text: &str) {
    let limits = limits();
    if let Some(events) = quick::parse(text, &limits, now()) {
        assert_eq!(thorough::parse(text, &limits, now()).as_ref(), Ok(&events), "{text}");
    }
    if let Some(event) = quick::Reader::new(text.len()).event(text, &limits, now()) {
        assert_eq!(thorough::event(text, &limits, now(), 0), Ok(event), "{text}");
    }
    // What is read to the end after a fault has the same first fault, and its events are those of a body without the others.
    let first = parse(text.as_bytes(), &limits, now());
    match parse_all(text.as_bytes(), Format::Document, &limits, now()) {
        Ok(events) => assert_eq!(first, Ok(events), "{text}"),
        Err(refused) => {
            assert_eq!(first, Err(refused.first.clone()), "{text}");
            assert_eq!(refused.faults.kept().first(), Some(&refused.first), "{text}");
            assert!(refused.events.is_empty() || !refused.faults.concern_the_whole(), "{text}");
        }
    }
}

/// Bytes that have a meaning in JSON, and some that have none.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![prop::sample::select(&b"{}[]:,\"\\/ \n\t\r0123456789.-+eEtrufalsn\0\x1f\x7f"[..]), any::<u8>(),]
}

#[test]
fn usual_bodies_are_read_by_the_quick_reader() {
    for body in BODIES {
        assert!(quick::parse(body, &limits(), now()).is_some(), "{body}");
        agree(body);
    }
}

#[test]
fn every_truncation_and_every_single_wrong_byte_is_judged_alike() {
    for body in BODIES {
        for at in (0..body.len()).filter(|&at| body.is_char_boundary(at) && body.is_char_boundary(at + 1)) {
            agree(&body[..at]);
            for byte in 0..0x80_u8 {
                let mut changed = body.as_bytes().to_vec();
                changed[at] = byte;
                agree(std::str::from_utf8(&changed).unwrap());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bodies_with_a_few_changes_are_judged_alike(
        body in prop::sample::select(BODIES),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, prop::collection::vec(byte(), 0..4)), 1..4),
    ) {
        let mut bytes = body.as_bytes().to_vec();
        for (at, removed, inserted) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted);
        }
        agree(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn payloads_of_any_tokens_are_judged_alike(
        tokens in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ":", ",", "\"a\"", "\"b\":", "\"\\u0061\"", "\"\\ud800\"", "\"\\ud83d\\ude00\"", "\"\\u0000\"",
            "\"\\x\"", "1", "-1.5e3", "01", "1.", "true", "nul", "null", " ", "\n", "\"",
        ][..]), 0..12),
    ) {
        let payload = tokens.concat();
        agree(&format!(r#"{{"id":"1","payload":{payload}}}"#));
        agree(&format!(r#"{{"id":"1","payload":1,"x":{payload}}}"#));
        agree(&format!(r#"{{"id":{payload},"payload":1}}"#));
        agree(&format!(r#"[{payload}]"#));
    }
}
