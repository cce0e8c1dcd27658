//! A span, as the Collector writes it: OTLP as JSON.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a span stands for, by the numbers of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1
    Internal,
    /// 2
    Server,
    /// 3
    Client,
    /// 4
    Producer,
    /// 5
    Consumer,
}

/// Attributes by their names. OTLP writes integers as texts, so that they are exact; here they are numbers.
pub type Attributes = BTreeMap<String, Value>;

/// A span of a trace.
#[derive(Debug, Clone)]
pub struct Span {
    /// The program that sent it: `service.name`.
    pub service: String,
    /// The name of the instrumentation.
    pub scope: String,
    /// The id of the trace, 32 hexadecimal digits.
    pub trace: String,
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// The id of the span that caused it; empty for the first of a trace.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub start: u128,
    /// Nanoseconds since 1970.
    pub end: u128,
    /// Its attributes.
    pub attributes: Attributes,
    /// Names and attributes of what happened meanwhile.
    pub events: Vec<(String, Attributes)>,
    /// The ids of other spans, with those of their traces.
    pub links: Vec<(String, String)>,
    /// Whether it says that the operation failed.
    pub is_error: bool,
}

impl Span {
    /// Returns an attribute as a text.
    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {name} in {self:#?}"))
    }

    /// Returns an attribute as a number.
    pub fn number(&self, name: &str) -> u64 {
        self.attributes.get(name).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {name} in {self:#?}"))
    }

    /// Returns the attributes of the events with this name.
    pub fn events(&self, name: &str) -> Vec<&Attributes> {
        self.events.iter().filter(|(found, _)| found == name).map(|(_, attributes)| attributes).collect()
    }

    /// Fails unless the span has these attributes.
    #[track_caller]
    pub fn assert_has(&self, expected: &Value) {
        for (name, value) in expected.as_object().expect("an object") {
            assert_eq!(self.attributes.get(name), Some(value), "{name} of {self:#?}");
        }
    }
}

/// Returns the spans of one message, which is one line of the file.
pub fn of_line(line: &str) -> Vec<Span> {
    let message: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}"));
    let mut found = Vec::new();
    for resource in list(&message["resourceSpans"]) {
        let service = attributes(&resource["resource"]["attributes"]);
        let service = service.get("service.name").and_then(Value::as_str).unwrap_or_default().to_owned();
        for scope in list(&resource["scopeSpans"]) {
            for span in list(&scope["spans"]) {
                found.push(read(span, &service, &text(&scope["scope"]["name"])));
            }
        }
    }
    found
}

fn read(span: &Value, service: &str, scope: &str) -> Span {
    let kind = match span["kind"].as_u64() {
        Some(1) => Kind::Internal,
        Some(2) => Kind::Server,
        Some(3) => Kind::Client,
        Some(4) => Kind::Producer,
        Some(5) => Kind::Consumer,
        other => panic!("the kind {other:?}: {span}"),
    };
    let events = list(&span["events"]).iter().map(|event| (text(&event["name"]), attributes(&event["attributes"])));
    let links = list(&span["links"]).iter().map(|link| (text(&link["traceId"]), text(&link["spanId"])));
    Span {
        service: service.to_owned(),
        scope: scope.to_owned(),
        trace: text(&span["traceId"]),
        id: text(&span["spanId"]),
        parent: text(&span["parentSpanId"]),
        name: text(&span["name"]),
        kind,
        start: nanoseconds(&span["startTimeUnixNano"]),
        end: nanoseconds(&span["endTimeUnixNano"]),
        attributes: attributes(&span["attributes"]),
        events: events.collect(),
        links: links.collect(),
        is_error: span["status"]["code"] == 2,
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn nanoseconds(value: &Value) -> u128 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no time: {value}"))
}

fn attributes(value: &Value) -> Attributes {
    let each = list(value).iter().map(|attribute| {
        let value = &attribute["value"];
        let value = match value["intValue"].as_str() {
            Some(number) => number.parse::<i64>().expect("an integer").into(),
            None => value.as_object().and_then(|value| value.values().next()).cloned().unwrap_or_default(),
        };
        (text(&attribute["key"]), value)
    });
    each.collect()
}
