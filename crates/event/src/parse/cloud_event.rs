//! Reads CloudEvents in the JSON format: one, or an array of them.
//!
//! [CloudEvents 1.0.2](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md) and its
//! [JSON format](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md). A CloudEvent is
//! stored whole: its JSON text is the payload, so that its data and all its attributes, extensions too, stay as they
//! were given. `id` is the event id, `time` the timestamp, `source` the source, and the topic follows from a template.

use std::borrow::Cow;
use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ErrorKind, ParseError};
use super::faults::{Faults, Refused};
use super::fields::{self, Fault, Field, FieldText, Fields};
use super::text;
use crate::topic_template::{TopicTemplate, is_attribute_name};
use crate::{Event, Limits, Timestamp};

/// How many CloudEvents a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudEventForm {
    /// One: `application/cloudevents+json`.
    One,
    /// An array, which may be empty: `application/cloudevents-batch+json`.
    Batch,
}

/// The attributes that the specification names, and the two forms of the data.
const NAMES: [&str; 10] =
    ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data", "data_base64"];
const SPECVERSION: usize = 0;
const ID: usize = 1;
const SOURCE: usize = 2;
const TYPE: usize = 3;
const TIME: usize = 4;
const DATA: usize = 8;
const DATA_BASE64: usize = 9;

/// Parses and validates a body of CloudEvents, to its end. `now` is the timestamp of events without `time`.
///
/// # Errors
/// The faults of the body, and the events that have none.
pub fn parse_cloud_events<'a>(
    body: &'a [u8],
    form: CloudEventForm,
    topic: &TopicTemplate,
    limits: &Limits,
    now: Timestamp,
) -> Result<Vec<Event<'a>>, Box<Refused<'a>>> {
    let body = text(body).map_err(Refused::whole)?;
    let rules = Rules { topic, limits, now };
    let mut found = Found { rules: &rules, events: Vec::new(), faults: Faults::default() };
    match form {
        CloudEventForm::One => found.element(0, body),
        CloudEventForm::Batch => {
            let mut json = serde_json::Deserializer::from_str(body);
            if let Err(error) = json.deserialize_seq(&mut found).and_then(|()| json.end())
                && !found.faults.concern_the_whole()
            {
                let kind = if error.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
                found.faults.push(ParseError::whole(kind, None, error.to_string()));
            }
        }
    }
    let Found { events, faults, .. } = found;
    match faults.kept().first().cloned() {
        None => Ok(events),
        Some(first) => Err(Refused::new(first, faults, events)),
    }
}

struct Rules<'r> {
    topic: &'r TopicTemplate,
    limits: &'r Limits,
    now: Timestamp,
}

/// What was found in a body so far.
struct Found<'a, 'r> {
    rules: &'r Rules<'r>,
    events: Vec<Event<'a>>,
    faults: Faults,
}

impl<'a> Found<'a, '_> {
    fn element(&mut self, index: usize, json: &'a str) {
        match event(json, self.rules) {
            Ok(event) => self.events.push(event),
            Err(Refusal { kind, field, message }) => {
                // A text that is not JSON at all concerns the whole body, if it is the whole body.
                let index = (kind != ErrorKind::Malformed).then_some(index);
                self.faults.push(ParseError { kind, index, line: None, field, message });
            }
        }
    }
}

impl<'de> Visitor<'de> for &mut Found<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of CloudEvents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut index = 0;
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if index == self.rules.limits.events {
                let message = format!("must hold at most {index} events");
                self.faults.push(ParseError::whole(ErrorKind::TooManyEvents, Some("events"), message));
                return Err(A::Error::custom("refused"));
            }
            self.element(index, element.get());
            index += 1;
        }
        Ok(())
    }
}

/// Why an event is refused. The field is none if the fault concerns an extension, or the whole event.
struct Refusal {
    kind: ErrorKind,
    field: Option<&'static str>,
    message: String,
}

impl From<Fault> for Refusal {
    /// Names the attribute that was read as a field of an event.
    fn from(Fault { kind, field, message }: Fault) -> Self {
        let field = match field {
            "timestamp" => Some("time"),
            // The payload is the whole event.
            "payload" => None,
            field => Some(field),
        };
        Self { kind, field, message }
    }
}

fn invalid(field: impl Into<Option<&'static str>>, message: impl Into<String>) -> Refusal {
    Refusal { kind: ErrorKind::Invalid, field: field.into(), message: message.into() }
}

/// The members of a CloudEvent.
#[derive(Default)]
struct Members<'a> {
    named: [Option<&'a str>; NAMES.len()],
    extensions: Vec<(Cow<'a, str>, &'a str)>,
}

fn event<'a>(json: &'a str, rules: &Rules<'_>) -> Result<Event<'a>, Refusal> {
    let json = json.trim_ascii();
    let members = members(json)?;
    members.check()?;
    let mut fields = Fields::default();
    for (field, name) in [(Field::Id, ID), (Field::Source, SOURCE), (Field::Timestamp, TIME)] {
        *fields.slot(field)? = members.named[name].map(text_of);
    }
    *fields.slot(Field::Payload)? = Some(FieldText { json, escapes: true });
    // The event is one level around its data.
    let limits = Limits { payload_depth: rules.limits.payload_depth + 1, ..*rules.limits };
    let event = fields.validate(&limits, rules.now)?;
    let topic = rules.topic.topic(|name| members.text(name)).map_err(|name| {
        invalid(
            known(name).map(|known| NAMES[known]),
            format!("the attribute `{name}` is missing, and the topic contains it"),
        )
    })?;
    fields::check_text(&topic, limits.topic_bytes)
        .map_err(|reason| invalid("type", format!("the topic, which follows from it, {reason}")))?;
    Ok(Event { topic, ..event })
}

fn known(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

fn text_of(json: &str) -> FieldText<'_> {
    FieldText { json, escapes: json.contains('\\') }
}

/// Reads the members of an object. A member that is null is as good as absent (JSON format, section 2.2).
fn members(json: &str) -> Result<Members<'_>, Refusal> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Result<Members<'de>, Refusal>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a CloudEvent, which is an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Members::default();
            let mut given = [false; NAMES.len()];
            let mut twice = None;
            while let Some(name) = map.next_key::<Name<'de>>()? {
                let value = map.next_value::<&RawValue>()?.get();
                match known(&name.0) {
                    Some(known) => {
                        if std::mem::replace(&mut given[known], true) {
                            twice = Some(NAMES[known]);
                        }
                        // The data may be null: that is a value of JSON.
                        if value != "null" || known == DATA {
                            members.named[known] = Some(value);
                        }
                    }
                    None => members.extensions.push((name.0, value)),
                }
            }
            Ok(match twice {
                None => Ok(members),
                Some(name) => Err(invalid(name, "is given twice")),
            })
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(json);
    let members = deserializer.deserialize_map(Object).and_then(|members| deserializer.end().map(|()| members));
    members.unwrap_or_else(|error| {
        let kind = if error.is_data() { ErrorKind::Invalid } else { ErrorKind::Malformed };
        Err(Refusal { kind, field: None, message: error.to_string() })
    })
}

/// The name of a member; borrowed unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// Checks what the specification demands of attributes, but for what a field of an event must be as well.
    fn check(&self) -> Result<(), Refusal> {
        for name in [SPECVERSION, ID, SOURCE, TYPE] {
            if self.named[name].is_none() {
                return Err(invalid(NAMES[name], "is missing"));
            }
        }
        for (name, value) in NAMES.into_iter().zip(self.named).take(DATA) {
            let Some(value) = value else { continue };
            let text = fields::string(text_of(value)).map_err(|message| invalid(name, message))?;
            if text.trim().is_empty() {
                return Err(invalid(name, "must not be blank"));
            }
            if name == NAMES[SPECVERSION] && text != "1.0" {
                return Err(invalid(name, format!("is {}, and 1.0 is supported", shortened(&text))));
            }
        }
        if let Some(value) = self.named[DATA_BASE64] {
            if self.named[DATA].is_some() {
                return Err(invalid(NAMES[DATA_BASE64], "cannot stand beside data"));
            }
            let text = fields::string(text_of(value)).map_err(|message| invalid(NAMES[DATA_BASE64], message))?;
            BASE64_STANDARD
                .decode(text.as_bytes())
                .map_err(|error| invalid(NAMES[DATA_BASE64], format!("is not Base64: {error}")))?;
        }
        self.extensions.iter().try_for_each(|(name, value)| extension(name, value))
    }

    /// Returns an attribute as text; an extension that is a number or a boolean as its JSON text.
    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        let value = match known(name) {
            Some(known) => self.named[known]?,
            None => self.extensions.iter().find(|(extension, _)| extension == name)?.1,
        };
        match value.as_bytes().first() {
            Some(b'"') => fields::string(text_of(value)).ok(),
            Some(b'n' | b'{' | b'[') | None => None,
            _ => Some(Cow::Borrowed(value)),
        }
    }
}

/// Checks an extension: a string, a boolean or an integer of 32 bits, with a name of lower-case letters and digits.
fn extension(name: &str, value: &str) -> Result<(), Refusal> {
    if !is_attribute_name(name) {
        let message = format!("`{}` is no name of an attribute: it has lower-case letters and digits", shortened(name));
        return Err(invalid(None, message));
    }
    let fits = match value.as_bytes().first() {
        Some(b'"' | b't' | b'f' | b'n') => true,
        Some(b'{' | b'[') | None => false,
        _ => value.parse::<i32>().is_ok(),
    };
    if fits {
        return Ok(());
    }
    let message = "must be a string, a boolean or an integer of 32 bits";
    Err(invalid(None, format!("the attribute `{}` {message}", shortened(name))))
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(40)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn limits() -> Limits {
        Limits { events: 4, payload_bytes: 400, topic_bytes: 20, payload_depth: 2, ..Limits::default() }
    }

    fn read<'a>(body: &'a str, form: CloudEventForm, topic: &str) -> Result<Vec<Event<'a>>, Box<Refused<'a>>> {
        parse_cloud_events(body.as_bytes(), form, &topic.parse().unwrap(), &limits(), now())
    }

    fn one(body: &str) -> Result<Event<'_>, String> {
        match read(body, CloudEventForm::One, "{type}") {
            Ok(events) => Ok(events.into_iter().next().unwrap()),
            Err(refused) => Err(refused.first.to_string()),
        }
    }

    /// Returns a CloudEvent with these members more.
    fn with(more: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"order"{more}}}"#)
    }

    #[test]
    fn a_cloud_event_is_kept_whole_and_its_attributes_are_fields_of_the_event() {
        let more = r#","time":"2025-01-02T03:04:05+01:00","subject":"s","tenant":"a","n":-7,"b":true,
            "datacontenttype":"application/json","dataschema":"http://schemas/1","nothing":null,"data":{"price": 1.50}"#;
        let body = format!(" {} ", with(more));
        let event = one(&body).unwrap();
        assert_eq!((&*event.topic, &*event.event_id, event.source.as_deref()), ("order", "1", Some("/shop")));
        assert_eq!(event.timestamp, "2025-01-02T02:04:05Z".parse().unwrap());
        assert_eq!(event.payload, body.trim());
        assert_eq!(event.payload_hash, crate::canonical::hash(body.trim(), 64).unwrap());
        assert_eq!(one(&with("")).unwrap().timestamp, now(), "an event without time and without data");
        assert!(one(&with(r#","data":null"#)).is_ok() && one(&with(r#","data_base64":"aGk=""#)).is_ok());
    }

    #[test]
    fn an_error_names_the_attribute() {
        for (body, error) in [
            (r#"{"id":"1","source":"s","type":"t"}"#.into(), "events[0].specversion: is missing"),
            (r#"{"specversion":"1.0","source":"s","type":"t"}"#.into(), "events[0].id: is missing"),
            (r#"{"specversion":"1.0","id":"1","type":"t","source":null}"#.into(), "events[0].source: is missing"),
            (r#"{"specversion":"1.0","id":"1","source":"s"}"#.into(), "events[0].type: is missing"),
            (
                r#"{"specversion":"0.3","id":"1","source":"s","type":"t"}"#.into(),
                "events[0].specversion: is 0.3, and 1.0 is supported",
            ),
            (
                r#"{"specversion":"1.0","id":7,"source":"s","type":"t"}"#.into(),
                "events[0].id: must be a string, not a number",
            ),
            (r#"{"specversion":"1.0","id":"1","source":" ","type":"t"}"#.into(), "events[0].source: must not be blank"),
            (with(r#","type":"again""#), "events[0].type: is given twice"),
            (with(r#","time":"yesterday""#), "events[0].time: must be an RFC 3339 time such as 2026-01-31T12:00:00Z"),
            (with(r#","subject":"""#), "events[0].subject: must not be blank"),
            (with(r#","datacontenttype":{}"#), "events[0].datacontenttype: must be a string, not an object"),
            (with(r#","data":1,"data_base64":"aGk=""#), "events[0].data_base64: cannot stand beside data"),
            (with(r#","data_base64":"?""#), "events[0].data_base64: is not Base64: Invalid symbol 63, offset 0."),
            (
                with(r#","Tenant":"a""#),
                "events[0]: `Tenant` is no name of an attribute: it has lower-case letters and digits",
            ),
            (with(r#","n":1.5"#), "events[0]: the attribute `n` must be a string, a boolean or an integer of 32 bits"),
            (with(r#","n":[]"#), "events[0]: the attribute `n` must be a string, a boolean or an integer of 32 bits"),
            (with(r#","n":1,"n":1"#), "events[0]: has the key \"n\" twice in one object"),
            (with(r#","data":{"a":1,"a":1}"#), "events[0]: has the key \"a\" twice in one object"),
            (with(r#","data":"\u0000""#), "events[0]: contains NUL (\\u0000), which cannot be stored"),
            (with(r#","data":[[[]]]"#), "events[0]: is nested deeper than 3 levels"),
            (
                "[]".into(),
                "events[0]: invalid type: sequence, expected a CloudEvent, which is an object at line 1 column 0",
            ),
            ("{".into(), "EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(one(&body).unwrap_err(), error, "{body}");
        }
        assert!(one(&with(r#","data":[[]]"#)).is_ok());
        let error = one(&with(&format!(r#","data":"{}""#, "x".repeat(400)))).unwrap_err();
        assert_eq!(error, "events[0]: is 472 bytes long, and at most 400 are allowed");
    }

    #[test]
    fn the_topic_follows_from_a_template_and_is_bounded() {
        let body = with(r#","tenant":"a","n":7,"b":true,"o":null"#);
        let topic = |template: &str| match read(&body, CloudEventForm::One, template) {
            Ok(events) => Ok(events[0].topic.to_string()),
            Err(refused) => Err(refused.first.to_string()),
        };
        assert_eq!(topic("x.{tenant}.{n}{b}{source}"), Ok("x.a.7true/shop".into()));
        for (template, error) in [
            ("{subject}.{type}", "events[0].subject: the attribute `subject` is missing, and the topic contains it"),
            ("{other}", "events[0]: the attribute `other` is missing, and the topic contains it"),
            ("{o}", "events[0]: the attribute `o` is missing, and the topic contains it"),
            (
                "{type}{type}{type}{type}{type}",
                "events[0].type: the topic, which follows from it, is 25 bytes long, and at most 20 are allowed",
            ),
        ] {
            assert_eq!(topic(template).unwrap_err(), error);
        }
    }

    #[test]
    fn a_batch_has_any_number_of_events_and_each_bad_one_is_named() {
        let good = with("");
        let body = format!(r#"[{good}, {{"id":"2"}} ,{good},3]"#);
        let refused = read(&body, CloudEventForm::Batch, "{type}").unwrap_err();
        let errors: Vec<_> = refused.faults.kept().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "events[1].specversion: is missing",
                "events[3]: invalid type: integer `3`, expected a CloudEvent, which is an object at line 1 column 1",
            ]
        );
        assert_eq!((refused.events.len(), refused.faults.concern_the_whole()), (2, false));
        assert_eq!(read("[]", CloudEventForm::Batch, "{type}").unwrap(), []);
        assert_eq!(read(&format!("[{good}]"), CloudEventForm::Batch, "{type}").unwrap().len(), 1);
        for (body, kind) in [
            (good.clone(), ErrorKind::Invalid),
            (format!("[{good}"), ErrorKind::Malformed),
            (format!("[{good}] 1"), ErrorKind::Malformed),
            (String::new(), ErrorKind::Malformed),
            (format!("[{}{good}]", format!("{good},").repeat(4)), ErrorKind::TooManyEvents),
        ] {
            let refused = read(&body, CloudEventForm::Batch, "{type}").unwrap_err();
            assert_eq!((refused.first.kind, refused.first.index, refused.events.len()), (kind, None, 0), "{body}");
        }
    }
}
