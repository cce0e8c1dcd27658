//! Who asks, and about which topics they may ask.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use sluice_auth::problems::topic_not_allowed;
use sluice_auth::{Scope, Subject, TopicPattern, Topics};
use sluice_service::guard::Identity;
use sluice_service::problem::Problem;
use sluice_store::inspect::Inspect;
use sluice_store::{Patterns, StoreError, TopicSelection};

/// The subject of a request, which the server's guard has put into it. Without a guard it is anyone, who may do
/// everything.
pub(super) struct Caller(Subject);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let sender = parts.extensions.get::<Arc<dyn Identity>>();
        let subject = sender.and_then(|sender| Subject::of(&**sender));
        Ok(Self(subject.cloned().unwrap_or_else(Subject::anyone)))
    }
}

impl Caller {
    /// Returns the patterns by which the subject is bounded; `None` if every topic is allowed.
    pub fn patterns(&self) -> Option<Patterns> {
        Patterns::of(&self.0.topics)
    }

    /// Returns the patterns by which the dead letters of the subject are bounded; `None` if it may see all. One whose
    /// topic is not known, or that has events of several, matches no pattern: it is for an admin of every topic.
    pub fn dead_letter_patterns(&self) -> Option<Patterns> {
        match &self.0.topics {
            Topics::All if !self.0.scopes.contains(Scope::Admin) => {
                Patterns::of(&Topics::Only([TopicPattern::of_every_topic()].into()))
            }
            topics => Patterns::of(topics),
        }
    }

    /// Returns the name of the subject; empty without authentication.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns an error that names the topic if it is not one of the subject's.
    pub fn check_topic(&self, topic: &str) -> Result<(), Problem> {
        if self.0.topics.allow(topic) { Ok(()) } else { Err(topic_not_allowed(topic).at(None, Some("topic"))) }
    }

    /// Returns an error unless each of these patterns matches only topics of the subject: it is one of its patterns, or the name
    /// of one of its topics.
    pub fn check_patterns(&self, patterns: &[String]) -> Result<(), Problem> {
        let own = match &self.0.topics {
            Topics::All => return Ok(()),
            Topics::Only(own) => own,
        };
        let is_within = |pattern: &String| {
            let is_own = own.iter().any(|own| own.as_str() == pattern);
            is_own || (!pattern.contains('*') && self.0.topics.allow(pattern))
        };
        match patterns.iter().find(|pattern| !is_within(pattern)) {
            None => Ok(()),
            Some(other) => Err(topic_not_allowed(other).at(None, Some("topics"))),
        }
    }

    /// Returns whether a topic is one of the subject's.
    pub fn may_see(&self, topic: &str) -> bool {
        self.0.topics.allow(topic)
    }

    /// Returns the topics of the subject, as a list of events takes them.
    pub async fn topics(&self, store: &dyn Inspect) -> Result<TopicSelection, StoreError> {
        match self.patterns() {
            None => Ok(TopicSelection::All),
            Some(patterns) => store.select_topics(&patterns).await,
        }
    }

    /// Returns whether the subject may see a dead letter. Whether it exists is not looked at for those who may see all.
    pub async fn may_see_dead_letter(&self, store: &dyn Inspect, id: i64) -> Result<bool, StoreError> {
        match self.dead_letter_patterns() {
            None => Ok(true),
            Some(patterns) => Ok(store.dead_letter_topic(id).await?.is_some_and(|topic| patterns.allow(&topic))),
        }
    }
}
