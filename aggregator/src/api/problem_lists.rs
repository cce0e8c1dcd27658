//! The problems of each operation, for the OpenAPI document. Those that any operation can be answered with are added to
//! them ([`sluice_service::openapi`]).

use sluice_service::code::Code;
use sluice_service::problem_responses;

/// What every operation that uses the store can end with, also through a publisher.
const STORE: [Code; 4] = [Code::StoreDamaged, Code::StoreUnavailable, Code::QueryUnavailable, Code::QueryTooSlow];
/// What bounds the answers in memory.
const BOUNDED: [Code; 1] = [Code::TooManyQueries];
const BODY: [Code; 3] = [Code::MalformedJson, Code::BodyTimeout, Code::BodyTooLarge];

problem_responses! {
    /// Of a list with parameters.
    pub(super) ListProblems: STORE, BOUNDED, [Code::InvalidQuery];
    /// Of what is asked about one topic.
    pub(super) TopicProblems: STORE, BOUNDED, [Code::InvalidQuery, Code::TopicNotAllowed];
    /// Of what is done to an event.
    pub(super) LookupProblems: STORE, BOUNDED, [Code::TopicNotAllowed];
    /// Of what is addressed by its name, or has no parameters.
    pub(super) PlainProblems: STORE, BOUNDED;
    /// Of the overview, which is answered while the store is away.
    pub(super) OverviewProblems: [Code::InvalidQuery, Code::QueryUnavailable];
    /// Of the page and its files.
    pub(super) AssetProblems: [Code::NotFound, Code::QueryUnavailable];
    /// Of the outcome of a request.
    pub(super) OutcomeProblems: [Code::NotFound, Code::QueryUnavailable];
    /// Of adding and changing a meter.
    pub(super) PutMeterProblems: STORE, BOUNDED, BODY, [Code::TopicNotAllowed, Code::TooManyMeters, Code::InvalidMeter];
    /// Of putting a schema.
    pub(super) PutSchemaProblems: STORE, BOUNDED, BODY,
        [Code::InvalidQuery, Code::TopicNotAllowed, Code::TooManySchemas, Code::InvalidSchema];
    /// Of questions about meters.
    pub(super) QuestionProblems: STORE, BOUNDED, BODY, [Code::InvalidQuery];
    /// Of discarding a dead letter.
    pub(super) DiscardProblems: STORE;
    /// Of replaying a dead letter.
    pub(super) ReplayProblems: STORE, [Code::StillRefused];
    /// Of replaying the dead letters that match.
    pub(super) ReplayMatchingProblems: STORE, [Code::InvalidQuery];
    /// Of the readiness.
    pub(super) ReadinessProblems: [Code::NotReady];
}
