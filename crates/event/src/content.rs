//! The content of a payload: the data of a CloudEvent, and otherwise all of it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The content of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content<'p> {
    /// Its JSON text; `null` if a CloudEvent has no data.
    pub json: &'p str,
    /// Its place in the payload, as a JSON pointer.
    pub pointer: &'static str,
}

/// Returns the content of the payload of an event with this id and source.
pub fn content<'p>(payload: &'p str, event_id: &str, source: Option<&str>) -> Content<'p> {
    // Most events are no CloudEvents. A name with escapes is left out, which no SDK writes.
    if !payload.contains("\"specversion\"") {
        return Content { json: payload, pointer: "" };
    }
    match cloud_event(payload, event_id, source) {
        None => Content { json: payload, pointer: "" },
        Some(CloudEvent { data: Some(data), .. }) => Content { json: data.get(), pointer: "/data" },
        Some(CloudEvent { data_base64: Some(data), .. }) => Content { json: data.get(), pointer: "/data_base64" },
        Some(_) => Content { json: "null", pointer: "/data" },
    }
}

/// Returns whether a payload is a CloudEvent that has the id and the source of its event, as it has if it was published as one.
pub fn is_cloud_event(payload: &str, event_id: &str, source: Option<&str>) -> bool {
    cloud_event(payload, event_id, source).is_some()
}

/// What a payload that is a CloudEvent has.
#[derive(Deserialize)]
struct CloudEvent<'p> {
    #[serde(borrow)]
    specversion: Cow<'p, str>,
    #[serde(borrow)]
    id: Cow<'p, str>,
    #[serde(borrow)]
    source: Cow<'p, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'p, str>,
    // A member that is null is given: `data` may be null, and is then `null` here.
    #[serde(borrow, default)]
    data: Option<&'p RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<&'p RawValue>,
}

fn cloud_event<'p>(payload: &'p str, event_id: &str, source: Option<&str>) -> Option<CloudEvent<'p>> {
    let event: CloudEvent<'_> = serde_json::from_str(payload).ok()?;
    let is_one =
        event.specversion == "1.0" && !event.kind.is_empty() && event.id == event_id && Some(&*event.source) == source;
    is_one.then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"order"{more}}}"#)
    }

    #[test]
    fn the_content_of_a_cloud_event_is_its_data() {
        for (more, json, pointer) in [
            (r#","data":{"a":1.50}"#, r#"{"a":1.50}"#, "/data"),
            (r#","data":null,"tenant":"t""#, "null", "/data"),
            (r#","data_base64":"AAE=""#, "\"AAE=\"", "/data_base64"),
            ("", "null", "/data"),
        ] {
            let payload = with(more);
            assert_eq!(content(&payload, "1", Some("/shop")), Content { json, pointer }, "{payload}");
        }
    }

    #[test]
    fn the_content_of_any_other_event_is_its_payload() {
        let one = with(r#","data":1"#);
        let (other_version, twice) = (one.replace("1.0", "0.3"), with(r#","data":1,"data":2"#));
        let no_kind = one.replace("\"order\"", "\"\"");
        for (payload, id, source) in [
            ("{}", "1", Some("/shop")),
            ("1", "1", None),
            (&one, "2", Some("/shop")),
            (&one, "1", Some("/other")),
            (&one, "1", None),
            (&other_version, "1", Some("/shop")),
            (&no_kind, "1", Some("/shop")),
            (&twice, "1", Some("/shop")),
        ] {
            assert_eq!(content(payload, id, source), Content { json: payload, pointer: "" }, "{payload}");
            assert!(!is_cloud_event(payload, id, source), "{payload}");
        }
    }
}
