//! Reads a body with an event on each line (NDJSON).

use super::error::{ErrorKind, ParseError};
use super::faults::{Faults, Refused};
use super::quick::Reader;
use super::thorough;
use crate::{Event, Limits, Timestamp};

/// Reads a body that is not blank. Blank lines are skipped, and have no index.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Result<Vec<Event<'a>>, Box<Refused<'a>>> {
    let mut reader = Reader::new(text.len());
    let (mut events, mut faults) = (Vec::new(), Faults::default());
    let lines = text.split('\n').map(str::trim_ascii).zip(1..).filter(|(line, _)| !line.is_empty());
    for (index, (line, number)) in lines.enumerate() {
        if index == limits.events {
            let message = format!("must hold at most {} events", limits.events);
            faults.push(ParseError::whole(ErrorKind::TooManyEvents, Some("events"), message));
            break;
        }
        let event = match reader.event(line, limits, now) {
            Some(event) => Ok(event),
            None => thorough::event(line, limits, now, index),
        };
        match event {
            Ok(event) => {
                if events.is_empty() {
                    // The events of a request usually have about the same size.
                    events.reserve_exact((text.len() / line.len()).min(limits.events));
                }
                events.push(event);
            }
            Err(error) => faults.push(ParseError { line: Some(number), ..error }),
        }
    }
    match faults.kept().first().cloned() {
        None => Ok(events),
        Some(first) => Err(Refused::new(first, faults, events)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, parse, parse_all};
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn limits() -> Limits {
        Limits { events: 4, payload_bytes: 40, ..Limits::default() }
    }

    fn read(body: &str) -> Result<Vec<Event<'_>>, Box<Refused<'_>>> {
        parse_all(body.as_bytes(), Format::Lines, &limits(), now())
    }

    #[test]
    fn lines_are_the_events_of_an_array_and_blank_lines_are_skipped() {
        let lines = [
            r#"{"id":"1","payload":{"a": [1, 2]}}"#,
            r#" { "topic" : "t\u0061" , "event_id" : "é" , "payload" : "x" } "#,
            r#"{"id":"2","payload":null,"events":"ignored"}"#,
        ];
        let array = format!("[{}]", lines.join(","));
        let expected = parse(array.as_bytes(), &limits(), now()).unwrap();
        for body in [lines.join("\n"), lines.join("\r\n") + "\r\n", format!("\n\n{}\n \t\r\n\n", lines.join("\n\n"))] {
            assert_eq!(read(&body).unwrap(), expected, "{body:?}");
        }
    }

    #[test]
    fn each_bad_line_is_named_by_line_and_index_and_the_others_are_read() {
        let body = "{\"id\":\"1\",\"payload\":1}\n\n{\"id\":\"2\"}\n{\"id\":\"3\",\n{\"id\":\"4\",\"payload\":1}";
        let refused = read(body).unwrap_err();
        let errors: Vec<_> = refused.faults.kept().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "line 3, events[1].payload: is missing; null is a payload too",
                "line 4, events[2]: EOF while parsing a value at its byte 10",
            ]
        );
        assert_eq!(refused.first, refused.faults.kept()[0]);
        assert_eq!(refused.faults.kept()[1].kind, ErrorKind::Malformed);
        let ids: Vec<_> = refused.events.iter().map(|event| &*event.event_id).collect();
        assert_eq!(ids, ["1", "4"]);
    }

    #[test]
    fn a_line_has_one_event_and_not_several_or_a_part() {
        for line in [
            r#"[{"id":"1","payload":1}]"#,
            r#"{"events":[{"id":"1","payload":1}]}"#,
            r#"{"id":"1","payload":1} {"id":"2","payload":1}"#,
            r#"{"id":"1","payload":1},"#,
            "3",
            "{\"id\":\"1\",\n\"payload\":1}",
        ] {
            let refused = read(line).unwrap_err();
            assert!(refused.events.is_empty(), "{line}");
            assert_eq!((refused.first.index, refused.first.line), (Some(0), Some(1)), "{line}: {}", refused.first);
        }
    }

    #[test]
    fn more_lines_than_the_limit_refuse_the_whole_body() {
        let five = "{\"id\":\"1\",\"payload\":1}\n".repeat(5);
        let refused = read(&five).unwrap_err();
        assert_eq!((refused.first.kind, refused.first.index), (ErrorKind::TooManyEvents, None));
        assert!(refused.faults.concern_the_whole() && refused.events.is_empty());
        assert_eq!(read(&"{\"id\":\"1\",\"payload\":1}\n".repeat(4)).unwrap().len(), 4);
        for body in ["", "\n \r\n"] {
            assert_eq!(read(body).unwrap_err().first.kind, ErrorKind::Malformed);
        }
    }
}
