//! Parses a request body into events, or into one error that names the index and the field.
//!
//! The body is one event, an array of events, or `{"events": […]}`. All or nothing: the first
//! invalid event refuses the request. Members that are not fields of an event are ignored.
//!
//! [`quick`] reads valid bodies of the usual form in one pass over the text. It returns `None` for every
//! other body, and then [`thorough`] decides and writes the error message. **Both must learn a new
//! field or a new form of the body**; the tests in `agreement.rs` compare them.

#[cfg(test)]
mod agreement;
mod error;
mod fields;
mod quick;
mod thorough;

pub use error::{ErrorKind, ParseError};

use crate::{Event, Limits, Timestamp};

/// Parses and validates a request body. `now` is the timestamp of events that have none.
///
/// # Errors
/// The first fault of the body. No event of a body with a fault is accepted.
pub fn parse<'a>(body: &'a [u8], limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, ParseError> {
    let whole = |kind, message| ParseError { kind, index: None, field: None, message };
    let text = std::str::from_utf8(body)
        .map_err(|e| whole(ErrorKind::Malformed, format!("the body is not UTF-8 at byte {}", e.valid_up_to())))?;
    if text.trim_ascii().is_empty() {
        return Err(whole(
            ErrorKind::Malformed,
            "the body is empty; send an event, an array of events, or {\"events\":[…]}".into(),
        ));
    }
    let events = match quick::parse(text, limits, now) {
        Some(events) => events,
        None => thorough::parse(text, limits, now)?,
    };
    if events.is_empty() {
        return Err(ParseError {
            kind: ErrorKind::Invalid,
            index: None,
            field: Some("events"),
            message: "must hold at least one event".into(),
        });
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::OutOfRange;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn parsed(body: &str) -> Result<Vec<Event<'_>>, String> {
        let limits = Limits { events: 3, payload_bytes: 40, topic_bytes: 8, ..Limits::default() };
        parse(body.as_bytes(), &limits, now()).map_err(|e| e.to_string())
    }

    #[test]
    fn one_event_an_array_and_a_batch_object_are_the_same() {
        let event = r#"{"event_id":"1","payload":{"a": 1.50}}"#;
        let one = parsed(event).unwrap();
        let array = format!("[{event}]");
        let batch = format!(r#"{{"events":[{event}],"note":"ignored"}}"#);
        assert_eq!(one, parsed(&array).unwrap());
        assert_eq!(one, parsed(&batch).unwrap());
        assert_eq!(one[0].topic, "default");
        assert_eq!(one[0].timestamp, now());
        assert_eq!(one[0].source, None);
        assert_eq!(one[0].payload, r#"{"a": 1.50}"#);
    }

    #[test]
    fn id_is_an_alias_of_event_id() {
        assert_eq!(parsed(r#"{"id":"x","payload":1}"#).unwrap()[0].event_id, "x");
        assert_eq!(parsed(r#"{"id":"x","event_id":"\u0078","payload":1}"#).unwrap()[0].event_id, "x");
        assert_eq!(
            parsed(r#"{"id":"y","event_id":"x","payload":1}"#).unwrap_err(),
            "events[0].id: differs from event_id, of which it is an alias"
        );
    }

    #[test]
    fn an_error_names_the_event_and_the_field() {
        for (body, error) in [
            (r#"[{"id":"1","payload":1},{"payload":1}]"#, "events[1].event_id: is missing"),
            (r#"{"events":[{"id":7,"payload":1}]}"#, "events[0].id: must be a string, not a number"),
            (r#"{"id":"1"}"#, "events[0].payload: is missing; null is a payload too"),
            (r#"{"id":" ","payload":1}"#, "events[0].id: must not be blank"),
            (r#"{"id":"1","topic":"","payload":1}"#, "events[0].topic: must not be blank"),
            (r#"{"id":"1","topic":null,"payload":1}"#, "events[0].topic: must be a string, not null"),
            (r#"{"id":"1","topic":"a","topic":"a","payload":1}"#, "events[0].topic: is given twice"),
            (
                r#"{"id":"1","topic":"123456789","payload":1}"#,
                "events[0].topic: is 9 bytes long, and at most 8 are allowed",
            ),
            (r#"{"id":"1","source":[],"payload":1}"#, "events[0].source: must be a string, not an array"),
            (r#"{"id":"a\u0000","payload":1}"#, "events[0].id: contains NUL (\\u0000), which cannot be stored"),
            (r#"{"id":"1","timestamp":1,"payload":1}"#, "events[0].timestamp: must be a string, not a number"),
            (
                r#"{"id":"1","timestamp":"x","payload":1}"#,
                "events[0].timestamp: must be an RFC 3339 time such as 2026-01-31T12:00:00Z",
            ),
            (r#"{"id":"1","payload":{"a":1,"a":1}}"#, "events[0].payload: has the key \"a\" twice in one object"),
            (r#"[]"#, "events: must hold at least one event"),
            (r#"{"events":[]}"#, "events: must hold at least one event"),
            (r#"{"events":[],"topic":"a"}"#, "events: cannot stand beside the fields of a single event"),
        ] {
            assert_eq!(parsed(body).unwrap_err(), error, "{body}");
        }
    }

    /// Returns the timestamp of the second event.
    fn timestamp_of(body: &str, limits: &Limits) -> Result<Timestamp, String> {
        parse(body.as_bytes(), limits, now()).map(|events| events[1].timestamp).map_err(|error| error.to_string())
    }

    #[test]
    fn a_timestamp_that_is_too_far_from_the_arrival_is_refused_or_replaced() {
        let refuse = Limits {
            max_future: Some(Duration::from_secs(60)),
            max_age: Some(Duration::from_secs(3_600)),
            ..Limits::default()
        };
        let replace = Limits { out_of_range: OutOfRange::Arrival, ..refuse };
        for (timestamp, refused) in [
            ("2026-01-01T00:01:00Z", None),
            (
                "2026-01-01T00:01:00.000001Z",
                Some("is 60 seconds after the arrival of the request, and at most 60 are allowed"),
            ),
            ("2025-12-31T23:00:00Z", None),
            (
                "2025-12-31T22:59:58Z",
                Some("is 3602 seconds before the arrival of the request, and at most 3600 are allowed"),
            ),
            (
                "0001-01-01T00:00:00Z",
                Some("is 63902822400 seconds before the arrival of the request, and at most 3600 are allowed"),
            ),
        ] {
            let body = format!(r#"[{{"id":"1","payload":1}},{{"id":"2","timestamp":"{timestamp}","payload":1}}]"#);
            let sent = Ok(timestamp.parse().unwrap());
            assert_eq!(timestamp_of(&body, &Limits::default()), sent, "any is accepted by default");
            match refused {
                None => assert_eq!((timestamp_of(&body, &refuse), timestamp_of(&body, &replace)), (sent.clone(), sent)),
                Some(reason) => {
                    assert_eq!(
                        (timestamp_of(&body, &refuse), timestamp_of(&body, &replace)),
                        (Err(format!("events[1].timestamp: {reason}")), Ok(now()))
                    );
                }
            }
        }
    }

    #[test]
    fn an_element_that_is_not_an_object_is_named_by_its_index() {
        let error = parse(br#"[{"id":"1","payload":1},3]"#, &Limits::default(), now()).unwrap_err();
        assert_eq!((error.kind, error.index), (ErrorKind::Invalid, Some(1)));
        assert!(error.message.contains("expected an event object"), "{error}");
    }

    #[test]
    fn each_limit_has_an_error_of_its_own() {
        let kind = |body: &str| {
            parse(
                body.as_bytes(),
                &Limits { events: 1, payload_bytes: 9, payload_depth: 2, ..Limits::default() },
                now(),
            )
            .unwrap_err()
            .kind
        };
        assert_eq!(kind(r#"[{"id":"1","payload":1},{"id":"2","payload":1}]"#), ErrorKind::TooManyEvents);
        assert_eq!(kind(r#"{"id":"1","payload":"12345678"}"#), ErrorKind::PayloadTooLarge);
        assert_eq!(kind(r#"{"id":"1","payload":[[[]]]}"#), ErrorKind::PayloadTooDeep);
    }

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        for body in [
            "",
            "  ",
            "{",
            "[{\"id\":\"1\",\"payload\":1}",
            "{\"id\":\"1\",\"payload\":1} x",
            "{'id':1}",
            "[1,]",
            "nul",
            "{\"id\":\"1\",\"payload\":\"\u{1}\"}",
            "{\"id\":\"1\",\"payload\":01}",
        ] {
            let error = parse(body.as_bytes(), &Limits::default(), now()).unwrap_err();
            assert!(error.kind == ErrorKind::Malformed || body == "[1,]", "{body}: {error}");
        }
        let error = parse(b"{\"id\":\"\xff\"}", &Limits::default(), now()).unwrap_err();
        assert_eq!(error.to_string(), "the body is not UTF-8 at byte 7");
    }

    #[test]
    fn numbers_stay_as_they_were_given() {
        let body = r#"{"id":"1","payload":123456789012345678901234567890.10}"#;
        assert_eq!(parsed(body).unwrap()[0].payload, "123456789012345678901234567890.10");
    }
}
