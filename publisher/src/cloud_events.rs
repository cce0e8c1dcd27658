//! CloudEvents over HTTP: their forms, and whether they are accepted.

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use sluice_event::binary_cloud_event::{PREFIX, structured};
use sluice_event::{CloudEventForm, DedupField, Keyer, TopicTemplate};
use sluice_service::problem::Problem;

use crate::problems::{cloud_events_without_source, invalid_body};

/// How CloudEvents become events.
#[derive(Debug, Clone, Args)]
pub struct CloudEventArgs {
    /// The topic of a CloudEvent, with names of its attributes in braces, such as {source}.{type}
    #[arg(long, env = "SLUICE_CLOUDEVENTS_TOPIC", default_value = "{type}", value_name = "TEMPLATE")]
    pub cloudevents_topic: TopicTemplate,
    /// What becomes of CloudEvents, which are unique by source and id, if neither the dedup fields nor the topic contain their
    /// source: `refuse` answers 415, and `warn` accepts them with a warning in the answer
    #[arg(long, env = "SLUICE_CLOUDEVENTS_WITHOUT_SOURCE", default_value = "refuse", value_name = "refuse|warn")]
    pub cloudevents_without_source: WithoutSource,
}

/// What becomes of CloudEvents whose source is not part of what makes them unique here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WithoutSource {
    /// They are refused.
    Refuse,
    /// They are accepted, and the answer has a warning.
    Warn,
}

/// A form that CloudEvents have in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloudEventMode {
    /// The body has one or several in JSON.
    Structured(CloudEventForm),
    /// The attributes of one are headers, and the body is its data.
    Binary,
}

/// What a publisher knows about CloudEvents.
#[derive(Debug, Clone)]
pub(crate) struct CloudEventRules {
    pub(crate) topic: TopicTemplate,
    /// What becomes of them, if their source is not part of what makes them unique.
    without_source: Option<WithoutSource>,
}

/// The warning about events that are unique by less than their source and id.
const WARNING: &str = "the source is not part of what makes an event unique here: an event of another source with the same topic \
                       and id is dropped as a duplicate";

impl CloudEventRules {
    pub(crate) fn new(settings: &CloudEventArgs, dedup_fields: &Keyer) -> Self {
        let topic = settings.cloudevents_topic.clone();
        let has_topic = dedup_fields.fields().contains(&DedupField::Topic);
        let has_source = dedup_fields.fields().contains(&DedupField::Source) || (has_topic && topic.contains("source"));
        Self { topic, without_source: (!has_source).then_some(settings.cloudevents_without_source) }
    }

    /// Returns the warning that an answer to a request with CloudEvents has, if it has one.
    ///
    /// # Errors
    /// `unsupported_media_type` if they are not accepted.
    pub(crate) fn check(&self) -> Result<Option<&'static str>, Problem> {
        match self.without_source {
            None => Ok(None),
            Some(WithoutSource::Warn) => Ok(Some(WARNING)),
            Some(WithoutSource::Refuse) => Err(cloud_events_without_source()),
        }
    }
}

/// Returns whether a request has the attributes of a CloudEvent as headers.
pub(crate) fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// Turns a request in the binary mode into the JSON text of its CloudEvent.
///
/// # Errors
/// The problem of a header that is no attribute, or of a body that is not what its type says.
pub(crate) fn to_structured(headers: &HeaderMap, body: &[u8]) -> Result<Bytes, Problem> {
    let attributes =
        headers.iter().filter_map(|(name, value)| Some((name.as_str().strip_prefix(PREFIX)?, value.as_bytes())));
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    structured(attributes, content_type, body).map(Bytes::from).map_err(|refused| invalid_body(&refused))
}

#[cfg(test)]
mod tests {
    use sluice_service::code::Code;

    use super::*;

    #[test]
    fn cloud_events_need_their_source_in_the_dedup_fields_or_in_the_topic() {
        let check = |fields: &str, topic: &str, without| {
            let settings =
                CloudEventArgs { cloudevents_topic: topic.parse().unwrap(), cloudevents_without_source: without };
            CloudEventRules::new(&settings, &fields.parse().unwrap()).check()
        };
        for (fields, topic) in
            [("topic,event_id,source", "{type}"), ("event_id,source", "{type}"), ("topic,event_id", "{type}.{source}")]
        {
            assert!(check(fields, topic, WithoutSource::Refuse).unwrap().is_none(), "{fields} {topic}");
        }
        for (fields, topic) in [("topic,event_id", "{type}"), ("event_id", "{source}")] {
            let problem = check(fields, topic, WithoutSource::Refuse).unwrap_err();
            assert_eq!(problem.code(), Code::UnsupportedMediaType, "{fields} {topic}");
            assert!(check(fields, topic, WithoutSource::Warn).unwrap().is_some(), "{fields} {topic}");
        }
    }
}
