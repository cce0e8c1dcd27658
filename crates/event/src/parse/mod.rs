//! Parses a request body into events, or into errors that name the index and the field.
//!
//! The body is one event, an array of events, or `{"events": […]}`, or it has an event on each line. Members that are
//! not fields of an event are ignored.
//!
//! [`quick`] reads valid bodies of the usual form in one pass over the text. It returns `None` for every
//! other body, and then [`thorough`] decides and writes the error message. **Both must learn a new
//! field or a new form of the body**; the tests in `agreement.rs` compare them. [`collect`] reads a body that is refused
//! once more, for the events that are valid and for the other faults; [`lines`] finds all of them at once.

#[cfg(test)]
mod agreement;
mod cloud_event;
mod collect;
mod error;
mod faults;
mod fields;
mod lines;
mod quick;
mod thorough;

pub use cloud_event::{CloudEventForm, parse_cloud_events};
pub use error::{ErrorKind, ParseError};
pub use faults::{Faults, Refused};

use crate::{Event, Limits, Timestamp};

/// How the events of a body are separated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON document: an event, an array of events, or `{"events": […]}`.
    #[default]
    Document,
    /// An event on each line that is not blank.
    Lines,
}

/// Parses and validates a body that is one JSON document. `now` is the timestamp of events that have none.
///
/// # Errors
/// The first fault of the body.
pub fn parse<'a>(body: &'a [u8], limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, ParseError> {
    document(text(body)?, limits, now)
}

/// Parses and validates a body, and reads it to its end when it has a fault. `now` is the timestamp of events that have
/// none.
///
/// # Errors
/// The faults of the body, the first one of [`parse`] before all others, and the events that have none.
pub fn parse_all<'a>(
    body: &'a [u8],
    format: Format,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<Event<'a>>, Box<Refused<'a>>> {
    let text = text(body).map_err(Refused::whole)?;
    match format {
        Format::Document => document(text, limits, now).map_err(|first| collect::refused(text, limits, now, first)),
        Format::Lines => lines::parse(text, limits, now),
    }
}

/// Returns a body as text that is not blank.
fn text(body: &[u8]) -> Result<&str, ParseError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let message = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        ParseError::whole(ErrorKind::Malformed, None, message)
    })?;
    if text.trim_ascii().is_empty() {
        let message = "the body is empty; send an event, an array of events, or {\"events\":[…]}";
        return Err(ParseError::whole(ErrorKind::Malformed, None, message));
    }
    Ok(text)
}

fn document<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, ParseError> {
    let events = match quick::parse(text, limits, now) {
        Some(events) => events,
        None => thorough::parse(text, limits, now)?,
    };
    if events.is_empty() {
        return Err(ParseError::whole(ErrorKind::Invalid, Some("events"), "must hold at least one event"));
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

    fn all(body: &str) -> (Vec<String>, usize, Vec<String>) {
        let limits = Limits { events: 400, payload_bytes: 400, ..Limits::default() };
        let refused = parse_all(body.as_bytes(), Format::Document, &limits, now()).unwrap_err();
        let errors = refused.faults.kept().iter().map(ToString::to_string).collect();
        (errors, refused.faults.count(), refused.events.iter().map(|event| event.event_id.to_string()).collect())
    }

    #[test]
    fn every_bad_event_of_an_array_is_named_and_the_others_are_read() {
        let events = r#"[{"id":"1","payload":1},{"id":"2"},{"id":"3","payload":{"a":1}}, 4,{"id":"5","id":"5","payload":1},{"id":"6","payload":1}]"#;
        for body in [events.to_owned(), format!(r#"{{"note":[1],"events":{events}}}"#)] {
            let (errors, count, good) = all(&body);
            assert_eq!(
                errors,
                [
                    "events[1].payload: is missing; null is a payload too",
                    "events[3]: invalid type: integer `4`, expected an event object at its byte 1",
                    "events[4].id: is given twice",
                ]
            );
            assert_eq!((count, good), (3, vec!["1".to_owned(), "3".to_owned(), "6".to_owned()]));
        }
    }

    #[test]
    fn a_fault_of_the_whole_body_ends_the_list_and_leaves_no_event() {
        for (body, last) in [
            (r#"[{"id":"1","payload":1},{"id":"2"},{"id":"3","payload":01}]"#, "invalid number at line 1 column 57"),
            (r#"[{"id":"1","payload":1},{"id":"2"}"#, "EOF while parsing a list at line 1 column 34"),
            (r#"{"events":[{"id":"1","payload":1},{"id":"2"}],"events":[]}"#, "events: is given twice"),
            (
                r#"{"events":[{"id":"1","payload":1},{"id":"2"}],"topic":"t"}"#,
                "events: cannot stand beside the fields of a single event",
            ),
        ] {
            let (errors, count, good) = all(body);
            assert_eq!(errors, ["events[1].payload: is missing; null is a payload too", last], "{body}");
            assert_eq!((count, good.len()), (2, 0), "{body}");
        }
        let (errors, count, good) = all(&format!("[{}1]", "1,".repeat(400)));
        assert_eq!((errors.len(), count, good.len()), (100, 401, 0));
    }

    #[test]
    fn a_hundred_faults_are_kept_with_short_texts_and_the_others_counted() {
        let event = format!(r#"{{"id":"1","payload":{{"{0}":1,"{0}":1}}}}"#, "ä".repeat(95));
        let (errors, count, _) = all(&format!("[{}]", vec![event; 300].join(",")));
        assert_eq!((errors.len(), count), (100, 300));
        assert!(errors[1].len() < 250 && errors[1].ends_with('…'), "{}", errors[1]);
    }

    #[test]
    fn numbers_stay_as_they_were_given() {
        let body = r#"{"id":"1","payload":123456789012345678901234567890.10}"#;
        assert_eq!(parsed(body).unwrap()[0].payload, "123456789012345678901234567890.10");
    }
}
