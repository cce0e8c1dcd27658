//! `/events?order=asc`: the events in the order of the feed.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sluice_service::problem::Problem;
use sluice_store::feed::{FeedPage, FeedQuery, Start};
use utoipa::ToSchema;

use super::caller::Caller;
use super::cloud_event::CloudEvent;
use super::event::Event;
use super::event_list::Form;
use super::problems::{invalid_query, store_problem};
use super::query::Parameters;
use super::state::ApiState;

/// The number of bytes at which a page ends: it is in memory as a whole.
const PAGE_BYTES: usize = 1 << 20;

/// A page of the feed.
#[derive(Serialize, ToSchema)]
pub(super) struct FeedEvents {
    /// In the order of the feed.
    events: Vec<Event>,
    /// The `after` of the next page. It is never null: there may be events later.
    #[schema(pattern = "^f[0-9a-f]{32}-[0-9a-f]+$")]
    next_cursor: String,
    /// Whether there are more events now.
    more: bool,
    /// The generation of the store. It is another one after the store has lost commits.
    #[schema(pattern = "^[0-9a-f]{32}$")]
    generation: String,
    /// Where the page begins if `after` was of another generation: events that were delivered after this may come again.
    /// Null otherwise.
    #[schema(required, pattern = "^f[0-9a-f]{32}-[0-9a-f]+$")]
    repeated_from: Option<String>,
}

/// Reads what selects the events of a feed.
pub(super) fn query(parameters: &mut Parameters, caller: &Caller, start: Start) -> Result<FeedQuery, Problem> {
    let topic = parameters.text("topic");
    let source = parameters.text("source");
    if let Some(topic) = &topic {
        caller.check_topic(topic)?;
    }
    Ok(FeedQuery { topic, patterns: caller.patterns(), source, start, limit: 0, max_bytes: PAGE_BYTES })
}

/// Reads where a feed begins; `name` is where the text is from.
pub(super) fn start(name: &str, text: &str) -> Result<Start, Problem> {
    match text {
        "start" => Ok(Start::Oldest),
        "end" => Ok(Start::Newest),
        cursor => cursor.parse().map(Start::After).map_err(|error| invalid_query(name, &format!("{error}"))),
    }
}

/// Returns a page in a form, which has this media type.
pub(super) async fn page(
    state: &ApiState,
    caller: &Caller,
    mut parameters: Parameters,
    limit: u32,
    form: Form,
    kind: &'static str,
) -> Result<Response, Problem> {
    let start = parameters.text("after").map_or(Ok(Start::Oldest), |text| start("after", &text))?;
    let query = FeedQuery { limit, ..query(&mut parameters, caller, start)? };
    parameters.end()?;
    let FeedPage { events, generation, next, more, repeated_from } =
        state.store.feed(&query).await.map_err(store_problem)?;
    let page = FeedEvents {
        events: events.into_iter().map(Event::from).collect(),
        next_cursor: next.to_string(),
        more,
        generation: generation.to_string(),
        repeated_from: repeated_from.map(|cursor| cursor.to_string()),
    };
    let uncached = [(header::CACHE_CONTROL, "no-store")];
    let mut body = Vec::new();
    match form {
        Form::Json => return Ok((uncached, axum::Json(page)).into_response()),
        Form::Lines => {
            for event in &page.events {
                serde_json::to_writer(&mut body, event).map_err(|error| internal(&error))?;
                body.push(b'\n');
            }
        }
        Form::CloudEvents => {
            let events: Vec<_> = page.events.iter().map(CloudEvent::from).collect();
            serde_json::to_writer(&mut body, &events).map_err(|error| internal(&error))?;
        }
    }
    let headers = [("X-Next-Cursor", page.next_cursor), ("X-More", page.more.to_string())];
    let repeated = page.repeated_from.map(|cursor| [("X-Repeated-From", cursor)]);
    let repeated = repeated.map(axum::response::AppendHeaders);
    Ok((uncached, [(header::CONTENT_TYPE, kind)], headers, repeated, body).into_response())
}

pub(super) fn internal(error: &serde_json::Error) -> Problem {
    store_problem(sluice_store::StoreError::Failed(error.to_string()))
}
