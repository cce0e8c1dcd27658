//! Turns a body into one packed request, with the ids that follow from its `Idempotency-Key`.

use std::sync::Arc;

use sluice_auth::problems::topic_not_allowed;
use sluice_auth::{EventLimit, Subject, Topics};
use sluice_event::ambient::random_u128;
use sluice_event::entry::PackedRequest;
use sluice_event::key::{hash128, hash128_of_parts};
use sluice_event::{
    BodyHash, CloudEventForm, Event, Format, IdempotencyKeyHash, Limits, ReceiptId, Refused, RequestId, Timestamp,
    TraceContext, parse_all, parse_cloud_events,
};
use sluice_log::KeyedRequest;
use sluice_schema::Schemas;
use sluice_service::event_errors::EventErrors;
use sluice_service::problem::Problem;

use crate::cloud_events::{CloudEventMode, CloudEventRules};
use crate::headers::BodyFormat;
use crate::problems::{event_errors, invalid_body};
use crate::schema_check;

/// What events must be.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) cloud_events: CloudEventRules,
}

/// How a body is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'s> {
    pub(crate) format: BodyFormat,
    /// Whether the events without an error are accepted although others have one.
    pub(crate) partial: bool,
    /// Whether its client waits until it is stored.
    pub(crate) waits: bool,
    /// The schemas of topics, if there are any.
    pub(crate) schemas: Option<&'s Arc<Schemas>>,
}

/// Who sends a request, and its id.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'s> {
    pub(crate) id: RequestId,
    /// `None` without authentication.
    pub(crate) subject: Option<&'s Subject>,
    /// How many events it may send, if that is limited.
    pub(crate) limit: Option<&'s EventLimit>,
    /// The trace of the request, if it is traced.
    pub(crate) trace: Option<TraceContext>,
}

impl Sender<'_> {
    /// Returns what stands for the sender in receipts and in hashes of keys, so that the keys of two clients never
    /// meet: empty without authentication.
    fn name(&self) -> &[u8] {
        self.subject.map_or(b"", |subject| subject.name.as_bytes())
    }

    /// Checks that the sender may publish to the topics of all events.
    fn check_topics(&self, events: &[Event<'_>]) -> Result<(), Problem> {
        let Some(Subject { topics: topics @ Topics::Only(_), .. }) = self.subject else { return Ok(()) };
        // Most requests are about one topic, or have the events of one topic together.
        let mut allowed = None;
        for event in events {
            if allowed != Some(&event.topic) && !topics.allow(&event.topic) {
                return Err(topic_not_allowed(&event.topic));
            }
            allowed = Some(&event.topic);
        }
        Ok(())
    }
}

/// A validated request, packed once: an entry contains a byte-for-byte copy of it.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) request: PackedRequest,
    /// The hashes of key and body, if the request has an `Idempotency-Key`.
    pub(crate) keyed: Option<KeyedRequest>,
    /// The receipt, if the request has one.
    pub(crate) receipt: Option<ReceiptId>,
    /// Why schemas refuse the request, if it has an `Idempotency-Key`. It is accepted nevertheless if it was before: a schema
    /// may have changed since.
    pub(crate) refused: Option<Box<Problem>>,
}

/// Validates and packs a body, which has the JSON text of a CloudEvent that came in the binary mode. Also returns the errors of a body that is accepted in part.
///
/// What is accepted of a body with an `Idempotency-Key` must follow from the body alone, because a repetition under the key
/// gets the same answer without being stored again. So a timestamp that is too far from the arrival refuses it as a whole, and
/// so does an event that a schema refuses.
///
/// # Errors
/// The problem of [`invalid_body`], of [`topic_not_allowed`] for the first topic that is not the sender's, of a sender that
/// sends too many events, or of a payload that does not match the schema of its topic.
pub(crate) fn pack(
    sender: Sender<'_>,
    key: Option<&[u8]>,
    body: &[u8],
    reading: Reading<'_>,
    rules: &Rules,
) -> Result<(Packed, Option<EventErrors>), Problem> {
    let now = Timestamp::now();
    let parsed = match reading.format {
        BodyFormat::Events(format) => parse_all(body, format, &rules.limits, now),
        BodyFormat::CloudEvents(mode) => {
            let form = match mode {
                CloudEventMode::Structured(form) => form,
                CloudEventMode::Binary => CloudEventForm::One,
            };
            parse_cloud_events(body, form, &rules.cloud_events.topic, &rules.limits, now)
        }
    };
    let (mut events, faulty) = match parsed {
        Ok(events) => (events, None),
        Err(mut refused) if reading.partial && usable(&refused, key) => {
            (std::mem::take(&mut refused.events), Some(refused))
        }
        Err(refused) => return Err(invalid_body(&refused)),
    };
    sender.check_topics(&events)?;
    sender.limit.map_or(Ok(()), |limit| limit.take(events.len()))?;
    let (errors, refused) = match reading.schemas {
        None => (faulty.map(|faulty| event_errors(&faulty.faults)), None),
        Some(schemas) => check_schemas(&mut events, schemas, faulty.as_deref(), key, body, reading)?,
    };
    let name = sender.name();
    let receipt = match key {
        Some(key) => Some(ReceiptId::from_bytes(hash128_of_parts(&[name, key, body]))),
        // What becomes of it is recorded under its receipt.
        None => reading.waits.then(|| ReceiptId::from_u128(random_u128())),
    };
    let keyed = key.map(|key| KeyedRequest {
        key: IdempotencyKeyHash::from_bytes(hash128_of_parts(&[name, key])),
        body_hash: BodyHash::from_bytes(hash128(body)),
    });
    let request = PackedRequest::new(sender.id, receipt, now, &events);
    let request = if reading.waits { request.waiting() } else { request };
    let request = match sender.trace {
        Some(trace) => request.traced(trace),
        None => request,
    };
    Ok((Packed { request, keyed, receipt, refused: refused.map(Box::new) }, errors))
}

/// Compares the events that have no fault with the schemas of their topics, and removes those that are refused if a part of
/// the body can be accepted. Returns the errors of all events that are not accepted, and why a request with a key is refused.
fn check_schemas(
    events: &mut Vec<Event<'_>>,
    schemas: &Schemas,
    faulty: Option<&Refused<'_>>,
    key: Option<&[u8]>,
    body: &[u8],
    reading: Reading<'_>,
) -> Result<(Option<EventErrors>, Option<Problem>), Problem> {
    let errors = faulty.map(|faulty| event_errors(&faulty.faults));
    let line = |index| line_of(body, reading.format, index);
    let refusals = match faulty {
        None => schema_check::check(schemas, events, 0.., line),
        Some(faulty) => schema_check::check(schemas, events, faulty.faults.good_indexes(), line),
    };
    let Some((index, problem)) = refusals.problem() else { return Ok((errors, None)) };
    if reading.partial && key.is_none() && refusals.count() < events.len() {
        refusals.remove_from(events);
        return Ok((Some(refusals.with(errors)), None));
    }
    let problem = match faulty.filter(|faulty| faulty.first.index < Some(index)) {
        Some(faulty) => invalid_body(faulty),
        None => problem,
    };
    let problem = problem.errors(refusals.with(errors.clone()));
    if key.is_some() { Ok((errors, Some(problem))) } else { Err(problem) }
}

/// Returns the line of an event, from 1, in a body with an event on each line.
fn line_of(body: &[u8], format: BodyFormat, index: usize) -> Option<usize> {
    if format != BodyFormat::Events(Format::Lines) {
        return None;
    }
    let lines = body.split(|byte| *byte == b'\n').zip(1..).filter(|(line, _)| !line.trim_ascii().is_empty());
    lines.map(|(_, number)| number).nth(index)
}

/// Returns whether a part of a body can be accepted.
fn usable(refused: &Refused<'_>, key: Option<&[u8]>) -> bool {
    !refused.events.is_empty() && (key.is_none() || !refused.faults.depend_on_time())
}

#[cfg(test)]
pub(crate) mod tests {
    use sluice_event::entry::{self, PackedEntry};
    use sluice_event::{EntryId, Keyer, TopicTemplate};
    use sluice_schema::{InForce, Policy};
    use sluice_service::code::Code;
    use sluice_service::event_errors::EventError;

    use super::*;
    use crate::cloud_events::{CloudEventArgs, WithoutSource};

    const BODY: &[u8] = br#"{"id":"evt-1","payload":{"value":100}}"#;
    pub(crate) const JSON: Reading<'_> =
        Reading { format: BodyFormat::Events(Format::Document), partial: false, waits: false, schemas: None };
    const NOBODY: Sender<'_> = Sender { id: RequestId::from_u128(0), subject: None, limit: None, trace: None };

    pub(crate) fn rules() -> Rules {
        let settings = CloudEventArgs {
            cloudevents_topic: TopicTemplate::default(),
            cloudevents_without_source: WithoutSource::Refuse,
        };
        Rules { limits: Limits::default(), cloud_events: CloudEventRules::new(&settings, &Keyer::default()) }
    }

    #[test]
    fn a_receipt_follows_from_key_and_body_and_the_key_hash_from_the_key_alone() {
        let pack = |key: &'static [u8], body| pack(NOBODY, Some(key), body, JSON, &rules()).unwrap().0;
        let first = pack(b"k", BODY);
        let other_body = pack(b"k", br#"{"id":"evt-2","payload":{"value":100}}"#);
        let other_key = pack(b"l", BODY);
        let (first, other_body, other_key) =
            (first.keyed.unwrap(), other_body.keyed.unwrap(), other_key.keyed.unwrap());
        assert_eq!(first.key, other_body.key);
        assert_ne!(first.body_hash, other_body.body_hash);
        assert_ne!(first.key, other_key.key);
        assert_eq!(first.body_hash, other_key.body_hash);
    }

    #[test]
    fn a_request_without_a_key_has_neither() {
        let packed = pack(NOBODY, None, BODY, JSON, &rules()).unwrap().0;
        assert!(packed.keyed.is_none());
        assert_eq!(packed.request.events(), 1);
    }

    #[test]
    fn a_refusal_names_the_place() {
        let problem = pack(NOBODY, None, br#"[{"id":"1","payload":1},{"id":" ","payload":1}]"#, JSON, &rules());
        let problem = serde_json::to_value(problem.unwrap_err()).unwrap();
        assert_eq!((&problem["code"], &problem["index"]), (&"invalid_event".into(), &1.into()), "{problem}");
    }

    #[test]
    fn the_sender_is_part_of_key_hash_and_receipt_and_an_empty_name_is_nobody() {
        let keyed = |name: Option<&str>| {
            let subject = name.map(|name| Subject { name: name.into(), ..Subject::anyone() });
            let sender = Sender { subject: subject.as_ref(), ..NOBODY };
            let packed = pack(sender, Some(b"k"), BODY, JSON, &rules()).unwrap().0;
            let entry = PackedEntry::new(EntryId::from_u128(0), [&packed.request].into_iter());
            let receipt = entry::decode(&entry.body).unwrap().requests[0].receipt;
            (packed.keyed.unwrap().key, receipt.unwrap())
        };
        let (nobody, shop, other) = (keyed(None), keyed(Some("shop")), keyed(Some("other")));
        assert!(nobody.0 != shop.0 && shop.0 != other.0, "the hashes of the key");
        assert!(nobody.1 != shop.1 && shop.1 != other.1, "the receipts");
        assert_eq!(nobody, keyed(Some("")));
        assert_eq!(shop, keyed(Some("shop")));
    }

    #[test]
    fn an_event_of_a_topic_that_is_not_the_senders_refuses_the_request_and_is_named() {
        let topics = Topics::Only(vec!["orders.*".parse().unwrap(), "bills".parse().unwrap()].into());
        let subject = Subject { topics, ..Subject::anyone() };
        let pack = |topics: &[&str]| {
            let events = topics.iter().map(|topic| format!(r#"{{"id":"1","topic":"{topic}","payload":1}}"#));
            let body = format!("[{}]", events.collect::<Vec<_>>().join(","));
            pack(Sender { subject: Some(&subject), ..NOBODY }, None, body.as_bytes(), JSON, &rules())
        };
        assert!(pack(&["orders.eu", "orders.eu", "bills", "orders.us"]).is_ok());
        for (topics, named) in [
            (&["orders"][..], "orders"),
            (&["orders.eu", "orders.eu", "users", "other"], "users"),
            (&["bills", "orders.eu", "bill"], "bill"),
        ] {
            let problem = pack(topics).unwrap_err();
            assert_eq!((problem.status().as_u16(), problem.code()), (403, Code::TopicNotAllowed));
            assert_eq!(problem.detail(), format!("the token is not for the topic {named:?}"));
        }
        let body = br#"{"id":"1","payload":1}"#;
        let problem = super::pack(Sender { subject: Some(&subject), ..NOBODY }, None, body, JSON, &rules());
        assert!(problem.unwrap_err().detail().contains("\"default\""), "an event without a topic");
    }

    #[test]
    fn a_timestamp_out_of_range_refuses_one_event_or_under_a_key_the_whole_request() {
        let mut rules = rules();
        rules.limits.max_age = Some(std::time::Duration::from_secs(60));
        let old = r#"{"id":"old","timestamp":"2001-01-01T00:00:00Z","payload":1}"#;
        let body = format!(r#"[{{"id":"1","payload":1}},{old}]"#);
        let partial = Reading { partial: true, ..JSON };
        let (packed, errors) = pack(NOBODY, None, body.as_bytes(), partial, &rules).unwrap();
        assert_eq!((packed.request.events(), errors.unwrap().count), (1, 1));
        let problem = pack(NOBODY, Some(b"k"), body.as_bytes(), partial, &rules).unwrap_err();
        assert_eq!(problem.code(), Code::InvalidEvent);
        // Other errors do not depend on the time.
        let body = br#"[{"id":"1","payload":1},{"id":"2"}]"#;
        assert!(pack(NOBODY, Some(b"k"), body, partial, &rules).is_ok());
        assert!(pack(NOBODY, Some(b"k"), body, JSON, &rules).is_err());
    }

    /// Payloads of topic `n` are numbers, which is checked, and those of topic `c` too, which is counted.
    fn schemas() -> Arc<Schemas> {
        let number = |topic, policy| InForce { topic, version: 1, policy, schema: r#"{"type":"number"}"# };
        let document = Schemas::document([number("n", Policy::Refuse), number("c", Policy::Count)]).unwrap();
        Arc::new(Schemas::compile(&document).unwrap().0)
    }

    const MIXED: &[u8] = br#"[{"id":"0","topic":"n","payload":1},{"id":"1"},{"id":"2","topic":"n","payload":"x"},
        {"id":"3","topic":"c","payload":"x"},{"id":"4","topic":"n","payload":{"a":1}},{"id":"5","payload":"x"}]"#;

    #[test]
    fn an_event_that_does_not_match_refuses_the_request_or_is_counted_as_its_topic_says() {
        let schemas = schemas();
        let reading = Reading { schemas: Some(&schemas), ..JSON };
        let pack = |body: &[u8]| pack(NOBODY, None, body, reading, &rules());
        assert!(pack(br#"[{"id":"1","topic":"n","payload":1},{"id":"2","payload":"x"}]"#).is_ok());
        let (packed, errors) = pack(br#"{"id":"1","topic":"c","payload":"x"}"#).unwrap();
        assert_eq!((packed.request.events(), errors), (1, None));
        let body = br#"[{"id":"1","topic":"n","payload":1},{"id":"2","topic":"n","payload":["x"]}]"#;
        let problem = serde_json::to_value(pack(body).unwrap_err()).unwrap();
        assert_eq!((&problem["code"], &problem["index"]), (&"schema_violation".into(), &1.into()), "{problem}");
        assert_eq!((&problem["field"], &problem["pointer"]), (&"payload".into(), &"".into()), "{problem}");
        assert_eq!(problem["detail"], "events[1].payload: the value is not of type \"number\"");
        assert_eq!((problem["errors"][0]["pointer"].as_str(), problem["error_count"].as_u64()), (Some(""), Some(1)));
        let mut violations = schemas.take_violations();
        violations.sort_unstable();
        assert_eq!(violations, [("c", 1, 1), ("n", 1, 1)]);
    }

    #[test]
    fn a_part_is_accepted_and_all_errors_are_named_with_their_indexes() {
        let schemas = schemas();
        let reading = Reading { partial: true, schemas: Some(&schemas), ..JSON };
        let (packed, errors) = pack(NOBODY, None, MIXED, reading, &rules()).unwrap();
        let errors = errors.unwrap();
        assert_eq!((packed.request.events(), errors.count), (3, 3));
        let indexes: Vec<_> = errors.first.iter().map(EventError::index).collect();
        assert_eq!(indexes, [Some(1), Some(2), Some(4)]);
        // Nothing is left: the first error is that of the request.
        let none = br#"[{"id":"1","topic":"n","payload":"x"},{"id":"2"}]"#;
        let problem = pack(NOBODY, None, none, reading, &rules()).unwrap_err();
        assert_eq!(problem.code(), Code::SchemaViolation);
        let none = br#"[{"id":"2"},{"id":"1","topic":"n","payload":"x"}]"#;
        let problem = pack(NOBODY, None, none, reading, &rules()).unwrap_err();
        assert_eq!(
            (problem.code(), problem.detail()),
            (Code::InvalidEvent, "events[0].payload: is missing; null is a payload too")
        );
        assert_eq!(serde_json::to_value(problem).unwrap()["error_count"], 2);
    }

    #[test]
    fn under_a_key_schemas_refuse_a_request_as_a_whole_unless_it_was_accepted_before() {
        let schemas = schemas();
        let reading = Reading { partial: true, schemas: Some(&schemas), ..JSON };
        let (packed, errors) = pack(NOBODY, Some(b"k"), MIXED, reading, &rules()).unwrap();
        assert_eq!(packed.refused.unwrap().code(), Code::InvalidEvent, "the first error");
        // What the answer said when there was no schema.
        let (before, errors_before) =
            pack(NOBODY, Some(b"k"), MIXED, Reading { schemas: None, ..reading }, &rules()).unwrap();
        assert_eq!(packed.request.events(), before.request.events());
        assert_eq!((errors, packed.keyed), (errors_before, before.keyed));
        let good = br#"{"id":"1","topic":"n","payload":1}"#;
        assert!(pack(NOBODY, Some(b"k"), good, reading, &rules()).unwrap().0.refused.is_none());
    }

    #[test]
    fn the_schema_of_a_topic_applies_to_the_data_of_a_cloud_event() {
        let schemas = schemas();
        let format = BodyFormat::CloudEvents(CloudEventMode::Structured(CloudEventForm::One));
        let pack = |data: &str| {
            let body = format!(r#"{{"specversion":"1.0","id":"1","source":"/shop","type":"n"{data}}}"#);
            let reading = Reading { format, schemas: Some(&schemas), ..JSON };
            pack(NOBODY, None, body.as_bytes(), reading, &rules())
        };
        assert_eq!(pack(r#","data":1"#).unwrap().0.request.events(), 1);
        for (data, pointer) in
            [(r#","data":"x""#, "/data"), (r#","data_base64":"AA==""#, "/data_base64"), ("", "/data")]
        {
            let problem = serde_json::to_value(pack(data).unwrap_err()).unwrap();
            assert_eq!(
                (&problem["code"], &problem["pointer"]),
                (&"schema_violation".into(), &pointer.into()),
                "{data}"
            );
        }
    }

    #[test]
    fn a_violation_in_a_line_names_the_line() {
        let schemas = schemas();
        let reading = Reading { format: BodyFormat::Events(Format::Lines), schemas: Some(&schemas), ..JSON };
        let body = b"{\"id\":\"1\",\"payload\":1}\n\n \n{\"id\":\"2\",\"topic\":\"n\",\"payload\":\"x\"}\n";
        let problem = pack(NOBODY, None, body, reading, &rules()).unwrap_err();
        assert!(problem.detail().starts_with("line 4, events[1].payload: "), "{}", problem.detail());
    }
}
