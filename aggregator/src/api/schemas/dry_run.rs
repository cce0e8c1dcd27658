//! Compares stored events with a schema that is not in force.

use std::time::{Duration, Instant};

use serde::Serialize;
use sluice_event::content::content;
use sluice_schema::{Definition, Validator};
use sluice_service::problem::Problem;
use sluice_store::{EventQuery, StoredEvent};
use utoipa::ToSchema;

use crate::api::problems::{check_failed, invalid_schema, store_problem};
use crate::api::state::ApiState;

/// The examples that are shown, at most.
const MAX_EXAMPLES: usize = 100;
/// The events of a step, and their bytes: they are in memory together.
const STEP_EVENTS: u32 = 500;
const STEP_BYTES: usize = 4 << 20;
/// How long events are compared.
const MAX_TIME: Duration = Duration::from_secs(5);

/// What a dry run has found.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct DryRun {
    /// The number of stored events that were compared, newest first.
    checked: u64,
    /// How many of them do not match.
    violations: u64,
    /// Whether all events of the topic were compared, or as many as were asked for. If not, the time was over.
    complete: bool,
    /// Some that do not match; at most 100.
    examples: Vec<Example>,
}

/// A stored event that does not match.
#[derive(Debug, Serialize, ToSchema)]
struct Example {
    /// Its id.
    #[schema(example = "evt-1")]
    event_id: String,
    /// The place in the payload, as a JSON pointer.
    #[schema(example = "/amount")]
    pointer: String,
    /// Why it does not match.
    reason: String,
}

impl DryRun {
    fn add(&mut self, validator: &Validator, event: StoredEvent) {
        // An event that was erased has no payload any more.
        if event.damaged || event.erased {
            return;
        }
        self.checked += 1;
        let content = content(&event.payload, &event.event_id, event.source.as_deref());
        let Err(violation) = validator.check(content.json) else { return };
        let violation = violation.within(content.pointer);
        self.violations += 1;
        if self.examples.len() < MAX_EXAMPLES {
            let (pointer, reason) = (violation.pointer, violation.reason);
            self.examples.push(Example { event_id: event.event_id, pointer, reason });
        }
    }
}

/// Compares the newest events of a topic with a schema.
///
/// # Errors
/// Those of the store, and `too_many_queries` when others are doing so.
pub(super) async fn dry_run(
    state: &ApiState,
    topic: &str,
    definition: &Definition,
    events: u32,
) -> Result<DryRun, Problem> {
    let _place = state.dry_runs.place().await?;
    let began = Instant::now();
    let mut validator = definition.validator().map_err(|error| invalid_schema(&error))?;
    let (mut found, mut before, mut left) = (DryRun::default(), None, events);
    while left > 0 && began.elapsed() < MAX_TIME {
        let query = EventQuery {
            topic: Some(topic.to_owned()),
            before,
            limit: left.min(STEP_EVENTS),
            max_bytes: Some(STEP_BYTES),
            ..EventQuery::default()
        };
        let page = state.store.events(&query).await.map_err(store_problem)?;
        left -= u32::try_from(page.events.len()).unwrap_or(u32::MAX).min(left);
        // It may take long, and other requests are waiting.
        let step = tokio::task::spawn_blocking(move || {
            let events = page.events.into_iter().take_while(|_| began.elapsed() < MAX_TIME);
            events.for_each(|event| found.add(&validator, event));
            (found, validator)
        });
        (found, validator) = step.await.map_err(|error| check_failed(&error))?;
        before = page.next;
        found.complete = (left == 0 || before.is_none()) && began.elapsed() < MAX_TIME;
        if before.is_none() {
            break;
        }
    }
    Ok(found)
}
