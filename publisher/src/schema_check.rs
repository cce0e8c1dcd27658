//! Compares events with the schemas of their topics.

use std::sync::LazyLock;

use metrics::Counter;
use sluice_event::Event;
use sluice_event::content::content;
use sluice_schema::{Policy, Schemas, Violation};
use sluice_service::event_errors::{EventError, EventErrors};
use sluice_service::problem::Problem;

use crate::metrics::SCHEMA_VIOLATIONS;
use crate::problems::{MAX_ERRORS, schema_violation};

static REFUSED: LazyLock<Counter> =
    LazyLock::new(|| metrics::counter!(SCHEMA_VIOLATIONS.name, "policy" => Policy::Refuse.name()));
static COUNTED: LazyLock<Counter> =
    LazyLock::new(|| metrics::counter!(SCHEMA_VIOLATIONS.name, "policy" => Policy::Count.name()));

/// The events that are refused.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Their places among the events that were checked.
    places: Vec<usize>,
    /// The problem of a request that is refused because of the first of them, and its index in the request.
    first: Option<(usize, Problem)>,
    errors: Vec<EventError>,
}

/// Compares events with the schemas of their topics; `indexes` are those in the request, and `line` says which line an event is
/// on. Those that do not match are counted. Returns those that are refused.
pub(crate) fn check(
    schemas: &Schemas,
    events: &[Event<'_>],
    indexes: impl Iterator<Item = usize>,
    line: impl Fn(usize) -> Option<usize>,
) -> Refusals {
    let mut refusals = Refusals::default();
    for ((place, event), index) in events.iter().enumerate().zip(indexes) {
        let Some(schema) = schemas.of(&event.topic) else { continue };
        let content = content(&event.payload, &event.event_id, event.source.as_deref());
        let Err(violation) = schema.check(content.json) else { continue };
        let violation = violation.within(content.pointer);
        match schema.policy {
            Policy::Count => COUNTED.increment(1),
            Policy::Refuse => {
                REFUSED.increment(1);
                refusals.push(place, index, &line, violation);
            }
        }
    }
    refusals
}

impl Refusals {
    fn push(&mut self, place: usize, index: usize, line: &impl Fn(usize) -> Option<usize>, violation: Violation) {
        self.places.push(place);
        if self.errors.len() < MAX_ERRORS {
            let (problem, error) = schema_violation(index, line(index), violation);
            self.first.get_or_insert((index, problem));
            self.errors.push(error);
        }
    }

    /// Returns how many events are refused.
    pub(crate) fn count(&self) -> usize {
        self.places.len()
    }

    /// Removes the refused events.
    pub(crate) fn remove_from(&self, events: &mut Vec<Event<'_>>) {
        let mut refused = self.places.iter().copied().peekable();
        let mut place = 0;
        events.retain(|_| {
            let stays = refused.next_if_eq(&place).is_none();
            place += 1;
            stays
        });
    }

    /// Returns the errors of these events together with other ones of the request, in the order of the events.
    pub(crate) fn with(self, others: Option<EventErrors>) -> EventErrors {
        let EventErrors { mut first, count } = others.unwrap_or(EventErrors { first: Vec::new(), count: 0 });
        let count = count + self.count();
        first.extend(self.errors);
        first.sort_by_key(EventError::index);
        first.truncate(MAX_ERRORS);
        EventErrors { first, count }
    }

    /// Returns the problem of a request that is refused because of these events.
    pub(crate) fn problem(&self) -> Option<(usize, Problem)> {
        self.first.clone()
    }
}
