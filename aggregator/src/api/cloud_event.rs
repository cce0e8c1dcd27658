//! An event as a CloudEvent 1.0 in the JSON format.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use sluice_event::content::is_cloud_event;
use utoipa::ToSchema;

use super::event::Event;

/// One CloudEvent.
pub(super) const ONE: &str = "application/cloudevents+json";
/// An array of CloudEvents.
pub(super) const BATCH: &str = "application/cloudevents-batch+json";
/// The source of an event that has none: a CloudEvent must have one.
const NO_SOURCE: &str = "urn:sluice:no-source";
/// What cannot stand in a reference to a URI, which a source of a CloudEvent is.
const NO_URI: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// A CloudEvent: as it was published, or made of an event that was published in another form.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum CloudEvent<'e> {
    Published(&'e RawValue),
    Made(Made<'e>),
}

/// A CloudEvent. One that was published as such has all its attributes, extensions too.
#[derive(Serialize, ToSchema)]
#[schema(as = CloudEvent)]
pub(super) struct Made<'e> {
    #[schema(example = "1.0", pattern = r"^1\.0$")]
    specversion: &'static str,
    /// The event id.
    id: &'e str,
    /// The source; `urn:sluice:no-source` if it has none.
    #[schema(value_type = String)]
    source: Cow<'e, str>,
    /// The topic, or the type with which it was published.
    #[serde(rename = "type")]
    kind: &'e str,
    /// The timestamp.
    #[schema(format = DateTime)]
    time: &'e str,
    /// Missing if the event is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    datacontenttype: Option<&'static str>,
    /// The payload.
    #[schema(value_type = Value, required = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'e RawValue>,
    /// True if the stored event is damaged. Missing otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    damaged: bool,
}

impl<'e> From<&'e Event> for CloudEvent<'e> {
    fn from(event: &'e Event) -> Self {
        if let Some(payload) = event.payload()
            && is_cloud_event(payload.get(), event.event_id(), event.source())
        {
            return Self::Published(payload);
        }
        Self::Made(Made {
            specversion: "1.0",
            id: event.event_id(),
            source: match event.source() {
                Some(source) if !source.trim().is_empty() => utf8_percent_encode(source, NO_URI).into(),
                _ => NO_SOURCE.into(),
            },
            kind: event.topic(),
            time: event.timestamp(),
            datacontenttype: event.payload().map(|_| "application/json"),
            data: event.payload(),
            damaged: event.is_damaged(),
        })
    }
}

#[cfg(test)]
mod tests {
    use sluice_event::{RequestId, Timestamp};
    use sluice_store::StoredEvent;

    use super::*;

    fn cloud_event(id: &str, source: Option<&str>, payload: &str, damaged: bool) -> String {
        let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let event = Event::from(StoredEvent {
            seq: 1,
            topic: "orders".into(),
            event_id: id.into(),
            timestamp: time,
            source: source.map(Into::into),
            payload: payload.into(),
            received_at: time,
            request_id: RequestId::from_u128(0),
            damaged,
            erased: false,
        });
        serde_json::to_string(&CloudEvent::from(&event)).unwrap()
    }

    #[test]
    fn a_cloud_event_is_returned_as_it_was_published() {
        let payload = r#"{ "specversion":"1.0","id":"1","source":"\/shop","type":"t","tenant":"a","data":[1.50]}"#;
        assert_eq!(cloud_event("1", Some("/shop"), payload, false), payload);
        for (id, source) in [("2", Some("/shop")), ("1", Some("/other")), ("1", None)] {
            let made = cloud_event(id, source, payload, false);
            assert!(made.contains(&format!(r#""data":{payload}"#)), "it only looks like one: {made}");
        }
    }

    #[test]
    fn another_event_becomes_a_cloud_event_with_the_topic_as_its_type() {
        assert_eq!(
            cloud_event("1", Some("shop ü/1?a=b"), r#"{"a": 1.50}"#, false),
            r#"{"specversion":"1.0","id":"1","source":"shop%20%C3%BC/1?a=b","type":"orders","#.to_owned()
                + r#""time":"2026-01-02T03:04:05Z","datacontenttype":"application/json","data":{"a": 1.50}}"#
        );
        for source in [None, Some(" ")] {
            assert!(cloud_event("1", source, "null", false).contains(r#""source":"urn:sluice:no-source""#));
        }
        let damaged = cloud_event("1", Some("shop"), "1", true);
        assert!(damaged.contains(r#""damaged":true"#) && !damaged.contains("data\""), "{damaged}");
    }
}
