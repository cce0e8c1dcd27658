//! `/events/tail`: the feed as server-sent events.
//!
//! Each stream reads pages of the feed one after another, and the next one only when the client has taken the one before: a
//! client that does not read has two small pages in memory, and is cut off after a while.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use sluice_service::problem::Problem;
use sluice_store::feed::{FeedPage, FeedQuery, Start};
use sluice_store::{StoreError, inspect::Inspect};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::parameters::{EventFilter, StreamHeaders, StreamStart};
use super::problem_lists::TopicProblems;
use super::problems::{invalid_query, store_problem, too_many_streams};
use super::query::Parameters;
use super::sse::Frames;
use super::state::ApiState;
use super::{feed, sse};
use crate::metrics;

/// The number of bytes and events at which a page ends.
const PAGE_BYTES: usize = 128 << 10;
const PAGE_EVENTS: u32 = 500;
/// How often a stream that has delivered everything looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a stream looks whose store does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// The longest time in which nothing is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts. Then the client comes back, maybe to another replica.
const MAX_AGE: Duration = Duration::from_secs(600);
/// The longest that a client may take to read a page.
const PATIENCE: Duration = Duration::from_secs(30);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Streams events as they are stored, each once and in the order of the feed, as server-sent events. The id of each is a cursor
/// of the feed, by which a client that comes back goes on.
#[utoipa::path(get, path = "/events/tail", operation_id = "tail_events", tag = "events",
    params(EventFilter, StreamStart, StreamHeaders),
    responses(
        (status = 200, description = "The stream. Beside events it has `generation` (events may come again), `problem` (the stream ends), and comments every 15 seconds. It ends after 10 minutes", body = String, content_type = "text/event-stream"),
        TopicProblems,
    ))]
pub(super) async fn stream(
    State(state): State<ApiState>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut parameters = Parameters::parse(query.as_deref())?;
    let after = parameters.text("after").map_or(Ok(Start::Newest), |text| feed::start("after", &text))?;
    let start = match headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) {
        None => after,
        Some(id) => match id.to_str() {
            Ok(id) => feed::start("Last-Event-ID", id)?,
            Err(_) => return Err(invalid_query("Last-Event-ID", "is no cursor of the feed")),
        },
    };
    let mut query = feed::query(&mut parameters, &caller, start)?;
    parameters.end()?;
    (query.limit, query.max_bytes) = (PAGE_EVENTS, PAGE_BYTES);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // An ingress must not collect events.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    if method == Method::HEAD {
        // A stream without a length, as it is with GET: then no length is announced.
        return Ok((headers, Body::from_stream(stream::empty::<io::Result<Bytes>>())).into_response());
    }
    let Ok(place) = Arc::clone(&state.streams).try_acquire_owned() else {
        metrics::stream_refused();
        return Err(too_many_streams());
    };
    // Before the answer begins: what is wrong now is a problem with a status of its own.
    let first = state.store.feed(&query).await.map_err(store_problem)?;
    let (sender, receiver) = mpsc::channel(1);
    let tail = Tail { store: state.store, query, sender, _open: Open::new(place) };
    tokio::spawn(tail.run(first, state.shutdown));
    let body = stream::unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        match receiver.recv().await {
            Some(Some(frame)) => Some((Ok(frame), Some(receiver))),
            Some(None) => None,
            // A client that was cut off must not take the stream for ended in an orderly way.
            None => Some((Err(io::Error::other("the stream ended early")), None)),
        }
    });
    Ok((headers, Body::from_stream(body)).into_response())
}

/// The place of a stream, which is counted while it is open.
struct Open(#[allow(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Open {
    fn new(place: OwnedSemaphorePermit) -> Self {
        metrics::stream_opened();
        Self(place)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::stream_closed();
    }
}

/// A stream that ends: its client is gone or too slow.
struct Gone;

struct Tail {
    store: Arc<dyn Inspect>,
    query: FeedQuery,
    /// `None` is the mark of the end. A body without it fails.
    sender: mpsc::Sender<Option<Bytes>>,
    _open: Open,
}

impl Tail {
    async fn run(mut self, first: FeedPage, shutdown: CancellationToken) {
        let sender = self.sender.clone();
        let end = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            () = sender.closed() => Err(Gone),
            () = sleep(MAX_AGE) => Ok(()),
            end = self.deliver(first) => end,
        };
        if end.is_ok() {
            let _ = timeout(PATIENCE, sender.send(None)).await;
        }
    }

    /// Sends pages until the store fails for good.
    async fn deliver(&mut self, first: FeedPage) -> Result<(), Gone> {
        let mut sent = Instant::now();
        self.send(Frames::beginning()).await?;
        let mut page = Some(first);
        loop {
            let mut pause = LOOK_EVERY;
            if let Some(page) = page.take() {
                if page.more {
                    pause = Duration::ZERO;
                }
                let cursor = page.next;
                let is_first = !matches!(self.query.start, Start::After(_));
                let frames = sse::page(page, is_first);
                self.query.start = Start::After(cursor);
                if !frames.is_empty() {
                    self.send(frames).await?;
                    sent = Instant::now();
                }
            }
            if sent.elapsed() >= HEARTBEAT {
                self.send(Frames::heartbeat(self.query.start)).await?;
                sent = Instant::now();
            }
            sleep(pause.min(HEARTBEAT.saturating_sub(sent.elapsed()))).await;
            match self.store.feed(&self.query).await {
                Ok(next) => page = Some(next),
                Err(StoreError::Damaged(message) | StoreError::Failed(message)) => {
                    return self.send(Frames::problem(&store_problem(StoreError::Failed(message)))).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "a stream of events waits for the store");
                    sleep(RETRY_EVERY).await;
                }
            }
        }
    }

    async fn send(&self, frames: Frames) -> Result<(), Gone> {
        match timeout(PATIENCE, self.sender.send(Some(frames.into_bytes()))).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}
