//! Events, and how they are written.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::time::SystemTime;
use uuid::Uuid;

use crate::error::InvalidEvent;

/// An event to send.
#[derive(Debug, Clone)]
pub struct Event {
    topic: String,
    event_id: Option<String>,
    timestamp: Option<String>,
    source: Option<String>,
    payload: Box<RawValue>,
}

/// The members in the order in which they are written.
#[derive(Serialize)]
struct Written<'e> {
    topic: &'e str,
    event_id: &'e str,
    timestamp: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'e str>,
    payload: &'e RawValue,
}

/// An event as a line of a request.
pub(crate) struct Line {
    pub(crate) event_id: String,
    /// JSON that ends with the only line feed in it.
    pub(crate) bytes: Vec<u8>,
}

impl Event {
    /// Returns an event with this payload, without an id: the client generates one when it is sent.
    ///
    /// # Errors
    /// When the payload cannot be written as JSON.
    pub fn new(topic: impl Into<String>, payload: &(impl Serialize + ?Sized)) -> Result<Self, InvalidEvent> {
        Ok(Self::of(topic, to_raw_value(payload)?))
    }

    /// Returns an event whose payload is this JSON, which is sent as it is given.
    ///
    /// # Errors
    /// When the text is not one value in JSON.
    pub fn with_json(topic: impl Into<String>, payload: impl Into<String>) -> Result<Self, InvalidEvent> {
        Ok(Self::of(topic, RawValue::from_string(payload.into())?))
    }

    fn of(topic: impl Into<String>, payload: Box<RawValue>) -> Self {
        Self { topic: topic.into(), event_id: None, timestamp: None, source: None, payload }
    }

    /// Sets the id. Events with the same topic and the same id are stored once.
    #[must_use]
    pub fn event_id(mut self, event_id: impl Into<String>) -> Self {
        self.event_id = Some(event_id.into());
        self
    }

    /// Sets the timestamp, in RFC 3339. Without one it is the time of [`Client::send`](crate::Client::send).
    #[must_use]
    pub fn timestamp(mut self, timestamp: impl Into<String>) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    /// Sets the timestamp to a time of the system. One that RFC 3339 cannot express is as if none was set.
    #[must_use]
    pub fn time(mut self, time: SystemTime) -> Self {
        self.timestamp = jiff::Timestamp::try_from(time).ok().map(text_of);
        self
    }

    /// Sets the source.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Writes the event with all that is still missing, so that each repetition of it has the same bytes.
    pub(crate) fn into_line(self) -> Result<Line, InvalidEvent> {
        let event_id = self.event_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        let timestamp = self.timestamp.unwrap_or_else(|| text_of(jiff::Timestamp::now()));
        let written = Written {
            topic: &self.topic,
            event_id: &event_id,
            timestamp: &timestamp,
            source: self.source.as_deref(),
            payload: &self.payload,
        };
        let mut bytes = serde_json::to_vec(&written)?;
        // A line feed inside of a string is escaped, so these are between the parts of a payload that was given as text.
        for byte in &mut bytes {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        bytes.push(b'\n');
        // What it takes in memory is counted by its length.
        bytes.shrink_to_fit();
        Ok(Line { event_id, bytes })
    }
}

/// The server stores microseconds, and refuses no more digits than these.
fn text_of(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: Event) -> String {
        String::from_utf8(event.into_line().unwrap().bytes).unwrap()
    }

    #[test]
    fn an_event_is_written_with_all_its_fields_on_one_line() {
        let event = Event::new("orders", &serde_json::json!({"text": "a\nb"})).unwrap();
        let event = event.event_id("1").timestamp("2026-01-31T12:00:00Z").source("shop");
        let expected = r#"{"topic":"orders","event_id":"1","timestamp":"2026-01-31T12:00:00Z","source":"shop","payload":{"text":"a\nb"}}"#;
        assert_eq!(text(event), format!("{expected}\n"));
    }

    #[test]
    fn what_is_missing_is_generated() {
        let written: serde_json::Value = serde_json::from_str(&text(Event::new("t", &1).unwrap())).unwrap();
        assert!(written["event_id"].as_str().unwrap().parse::<Uuid>().is_ok(), "{written}");
        let timestamp = written["timestamp"].as_str().unwrap();
        assert!(timestamp.parse::<jiff::Timestamp>().is_ok() && timestamp.ends_with('Z'), "{written}");
        assert!(written.get("source").is_none(), "{written}");
    }

    #[test]
    fn a_payload_in_json_is_kept_but_for_line_feeds_between_its_parts() {
        let event =
            Event::with_json("t", "{\r\n \"n\": 1.50,\n \"text\": \"\\n\"}").unwrap().event_id("1").timestamp("t");
        assert!(text(event).ends_with("\"payload\":{   \"n\": 1.50,  \"text\": \"\\n\"}}\n"));
    }

    #[test]
    fn text_that_is_not_one_value_is_refused() {
        for wrong in ["", "{", "1 2", "{\"a\":1}\n{\"b\":2}"] {
            assert!(Event::with_json("t", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_of_the_system_becomes_a_timestamp_in_utc() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_500_000);
        assert!(
            text(Event::new("t", &1).unwrap().time(time)).contains("\"timestamp\":\"1970-01-01T00:00:01.500000Z\"")
        );
    }
}
