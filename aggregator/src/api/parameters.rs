//! The query parameters of the operations, for the OpenAPI document. The handlers read them with [`super::query`].

// No value of these types is ever built.
#![allow(dead_code, reason = "the types only describe parameters")]

use utoipa::{IntoParams, ToSchema};

use super::windows::Length;

/// The order of a list of events.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum Order {
    Desc,
    Asc,
}

/// What selects events.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventFilter {
    /// Only this topic. It must be one of the token's.
    #[param(example = "orders", pattern = r"^[^\x00]*$")]
    topic: Option<String>,
    /// Only from this source.
    #[param(example = "shop", pattern = r"^[^\x00]*$")]
    source: Option<String>,
}

/// The parameters of the list of events and of the feed.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventPage {
    /// Only with a timestamp at or after it (RFC 3339).
    #[param(example = "2026-01-31T00:00:00Z", format = DateTime)]
    since: Option<String>,
    /// Only with a timestamp before it (RFC 3339).
    #[param(example = "2026-02-01T00:00:00Z", format = DateTime)]
    until: Option<String>,
    /// The maximum number of events. As NDJSON or CloudEvents it may be up to 10,000.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(pattern = "^s[0-7]?[0-9a-f]{1,15}$")]
    cursor: Option<String>,
    /// `asc` is the feed, which takes no `since`, `until` and `cursor`.
    #[param(inline, default = "desc")]
    order: Option<Order>,
    /// With `order=asc` alone: `start` (default), `end`, or the `next_cursor` of a page of the feed.
    #[param(pattern = "^(start|end|f[0-9a-f]{32}-[0-7]?[0-9a-f]{1,15})$")]
    after: Option<String>,
}

/// The parameters of the list of conflicts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ConflictFilter {
    /// Only this topic. It must be one of the token's.
    #[param(example = "orders", pattern = r"^[^\x00]*$")]
    topic: Option<String>,
    /// Only this event id.
    #[param(example = "evt-1", pattern = r"^[^\x00]*$")]
    event_id: Option<String>,
    /// The maximum number of conflicts.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(pattern = "^s[0-7]?[0-9a-f]{1,15}$")]
    cursor: Option<String>,
}

/// The place at which a stream begins.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamStart {
    /// Where to begin: `start`, `end` or a cursor of the feed.
    #[param(default = "end", pattern = "^(start|end|f[0-9a-f]{32}-[0-7]?[0-9a-f]{1,15})$")]
    after: Option<String>,
}

/// The cursor of a client that comes back to a stream.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct StreamHeaders {
    /// A cursor of the feed, which is used in place of `after`, or nothing.
    #[param(rename = "Last-Event-ID", pattern = "^(|start|end|f[0-9a-f]{32}-[0-7]?[0-9a-f]{1,15})$")]
    last_event_id: Option<String>,
}

/// The parameters of the list of topics.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TopicPage {
    /// The maximum number of topics.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(pattern = "^t([0-9a-f]{2})*$")]
    cursor: Option<String>,
}

/// The topic of a series.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SeriesTopic {
    /// Only this topic; all topics by default, or those of the token.
    #[param(example = "orders", pattern = r"^[^\x00]*$")]
    topic: Option<String>,
}

/// Windows of time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Windows {
    /// The first time (RFC 3339): a day before `to` by default. The window that has it is whole.
    #[param(example = "2026-11-28T00:00:00Z", format = DateTime)]
    from: Option<String>,
    /// The time after the last one (RFC 3339): now by default. It must be after `from`, and at most 1,100 days after it.
    #[param(example = "2026-11-29T00:00:00Z", format = DateTime)]
    to: Option<String>,
    /// The length of a window; weeks begin on Monday. There may be at most 10,000 windows.
    #[param(inline, default = "hour")]
    window: Option<Length>,
    /// The time zone in which windows begin, by its name in the IANA database.
    #[param(example = "Europe/Berlin", default = "UTC", pattern = "^[A-Za-z][A-Za-z0-9_+/-]*$")]
    tz: Option<String>,
}

/// The name of a meter.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct MeterName {
    /// The name of the meter. `query` is a path of its own.
    #[param(example = "sales", pattern = r"^(?!query$)[a-z0-9][a-z0-9_.-]{0,63}$")]
    name: String,
}

/// The topic of a schema.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct SchemaTopic {
    /// The topic: not blank, at most 256 bytes of UTF-8. It must be one of the token's.
    #[param(example = "orders", min_length = 1, max_length = 256, pattern = r"^[^\x00]*[^\x00\s][^\x00]*$")]
    topic: String,
}

/// Which version of a schema.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionChoice {
    /// A version that is kept; without it the one that is in force.
    version: Option<u32>,
}

/// Whether a schema is only tried.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DryRunChoice {
    /// `true` compares stored events with the schema, and changes nothing.
    #[param(default = false)]
    dry_run: Option<bool>,
    /// With `dry_run=true` alone: how many of the newest events of the topic.
    #[param(minimum = 1, maximum = 10000, default = 1000)]
    events: Option<u32>,
}

/// Groups of the figures of a meter.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct FigureGroups {
    /// Fields of the meter by which figures are grouped, with commas between them, or as a JSON array: none by default, which
    /// is one figure a window.
    #[param(example = "source", pattern = r"^[^\x00]*$")]
    group_by: Option<String>,
    /// A JSON object: fields of the meter with the value that they must have; null is an event without it.
    #[param(example = r#"{"source":"shop"}"#, pattern = r"^[^\x00]*$")]
    filter: Option<String>,
}

/// What selects dead letters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeadLetterPage {
    /// Only with this code.
    #[param(example = "23514", pattern = r"^[^\x00]*$")]
    code: Option<String>,
    /// Only those that failed at or after it (RFC 3339).
    #[param(example = "2026-01-31T00:00:00Z", format = DateTime)]
    since: Option<String>,
    /// Only those that failed before it (RFC 3339).
    #[param(example = "2026-02-01T00:00:00Z", format = DateTime)]
    until: Option<String>,
    /// The maximum number of dead letters. A page of large ones has fewer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page or call.
    #[param(pattern = "^s[0-7]?[0-9a-f]{1,15}$")]
    cursor: Option<String>,
}
