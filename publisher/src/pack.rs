//! Turns a body into one packed request, with the ids that follow from its `Idempotency-Key`.

use sluice_auth::problems::topic_not_allowed;
use sluice_auth::{EventLimit, Subject, Topics};
use sluice_event::ambient::random_u128;
use sluice_event::entry::PackedRequest;
use sluice_event::key::{hash128, hash128_of_parts};
use sluice_event::{
    BodyHash, CloudEventForm, Event, IdempotencyKeyHash, Limits, ReceiptId, Refused, RequestId, Timestamp, parse_all,
    parse_cloud_events,
};
use sluice_log::KeyedRequest;
use sluice_service::event_errors::EventErrors;
use sluice_service::problem::Problem;

use crate::cloud_events::{CloudEventMode, CloudEventRules};
use crate::headers::BodyFormat;
use crate::problems::{event_errors, invalid_body};

/// What events must be.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) cloud_events: CloudEventRules,
}

/// How a body is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) format: BodyFormat,
    /// Whether the events without an error are accepted although others have one.
    pub(crate) partial: bool,
    /// Whether its client waits until it is stored.
    pub(crate) waits: bool,
}

/// Who sends a request, and its id.
#[derive(Clone, Copy)]
pub(crate) struct Sender<'s> {
    pub(crate) id: RequestId,
    /// `None` without authentication.
    pub(crate) subject: Option<&'s Subject>,
    /// How many events it may send, if that is limited.
    pub(crate) limit: Option<&'s EventLimit>,
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
}

/// Validates and packs a body, which has the JSON text of a CloudEvent that came in the binary mode. Also returns the errors of a body that is accepted in part.
///
/// What is accepted of a body with an `Idempotency-Key` must follow from the body alone, because a repetition under the key
/// gets the same answer without being stored again. So a timestamp that is too far from the arrival refuses it as a whole.
///
/// # Errors
/// The problem of [`invalid_body`], of [`topic_not_allowed`] for the first topic that is not the sender's, or of a sender
/// that sends too many events.
pub(crate) fn pack(
    sender: Sender<'_>,
    key: Option<&[u8]>,
    body: &[u8],
    reading: Reading,
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
    let (events, errors) = match parsed {
        Ok(events) => (events, None),
        Err(refused) if reading.partial && usable(&refused, key) => {
            let errors = event_errors(&refused.faults);
            (refused.events, Some(errors))
        }
        Err(refused) => return Err(invalid_body(&refused)),
    };
    sender.check_topics(&events)?;
    sender.limit.map_or(Ok(()), |limit| limit.take(events.len()))?;
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
    Ok((Packed { request, keyed, receipt }, errors))
}

/// Returns whether a part of a body can be accepted.
fn usable(refused: &Refused<'_>, key: Option<&[u8]>) -> bool {
    !refused.events.is_empty() && (key.is_none() || !refused.faults.depend_on_time())
}

#[cfg(test)]
pub(crate) mod tests {
    use sluice_event::entry::{self, PackedEntry};
    use sluice_event::{EntryId, Format, Keyer, TopicTemplate};
    use sluice_service::code::Code;

    use super::*;
    use crate::cloud_events::{CloudEventArgs, WithoutSource};

    const BODY: &[u8] = br#"{"id":"evt-1","payload":{"value":100}}"#;
    pub(crate) const JSON: Reading =
        Reading { format: BodyFormat::Events(Format::Document), partial: false, waits: false };
    const NOBODY: Sender<'_> = Sender { id: RequestId::from_u128(0), subject: None, limit: None };

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
}
