//! serde_json accepts every accepted body as JSON, with the same values, and refuses every body that is
//! refused as malformed.
#![allow(clippy::unwrap_used, reason = "a failure is the test's")]

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sluice_event::{ErrorKind, Limits, Timestamp, canonical, parse};

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[^\u{0}]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,12}", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn events()(topic in "[^\u{0}]{0,10}[a-z]", id in "[^\u{0}]{0,10}[0-9]", source in prop::option::of("[^\u{0}]{0,10}"), payload in values()) -> Value {
        json!({"topic": topic, "event_id": id, "source": source, "payload": payload, "note": {"ignored": [1]}})
    }
}

fn now() -> Timestamp {
    Timestamp::from_micros(0).unwrap()
}

/// The events of a body as serde_json reads them.
fn elements(body: &Value) -> &[Value] {
    let events = body.get("events").unwrap_or(body);
    events.as_array().map_or(std::slice::from_ref(body), Vec::as_slice)
}

fn compare(body: &[u8]) -> Result<(), TestCaseError> {
    match parse(body, &Limits::default(), now()) {
        Ok(events) => {
            // A number that is too large for an f64 is JSON and stays as given, but cannot be a `Value`.
            serde_json::from_slice::<&RawValue>(body).unwrap();
            let Ok(given) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
            let given = elements(&given);
            prop_assert_eq!(events.len(), given.len());
            for (event, given) in events.iter().zip(given) {
                prop_assert_eq!(given.get("topic").map_or("default", |t| t.as_str().unwrap()), &*event.topic);
                let id = given.get("event_id").or_else(|| given.get("id")).unwrap();
                prop_assert_eq!(id.as_str().unwrap(), &*event.event_id);
                prop_assert_eq!(given.get("source").and_then(Value::as_str), event.source.as_deref());
                prop_assert_eq!(given.get("payload").unwrap(), &serde_json::from_str::<Value>(&event.payload).unwrap());
                prop_assert_eq!(event.payload_hash, canonical::hash(&event.payload, 64).unwrap());
            }
        }
        Err(error) if error.kind == ErrorKind::Malformed => {
            prop_assert!(serde_json::from_slice::<Value>(body).is_err(), "{}", error);
        }
        Err(error) => prop_assert!(!error.message.is_empty()),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn bodies_written_by_serde_json_are_read_with_the_same_values(events in prop::collection::vec(events(), 1..4), pretty in any::<bool>()) {
        let one = events.first().cloned();
        for body in [json!(events), json!({"events": events}), json!(one)] {
            let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
            prop_assert!(parse(text.as_bytes(), &Limits::default(), now()).is_ok(), "{}", text);
            compare(text.as_bytes())?;
        }
    }

    #[test]
    fn changed_bodies_are_judged_as_by_serde_json(
        events in prop::collection::vec(events(), 1..3),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![prop::sample::select(&b"{}[]:,\"\\ 0.-eu"[..]), any::<u8>()]), 1..3),
    ) {
        let mut body = serde_json::to_vec(&events).unwrap();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        compare(&body)?;
    }

    #[test]
    fn any_bytes_are_judged_as_by_serde_json(body in prop::collection::vec(any::<u8>(), 0..60)) {
        compare(&body)?;
    }
}
