//! Lists of events, sent while they are read from the store: in pieces, of which one at a time is in memory.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use futures::stream;
use sluice_service::problem::Problem;
use tokio::sync::OwnedSemaphorePermit;

use super::cloud_event::CloudEvent;
use super::event::Event;
use super::problems::store_problem;
use super::query::cursor;
use sluice_store::page::{FILTERED_PAGE_TIME, PAGE_BYTES};
use sluice_store::{EventQuery, Page, Store, StoreError, StoredEvent};

/// The number of bytes at which a piece ends.
const PIECE_BYTES: usize = 1 << 20;
/// The number of bytes after which a part of the body is passed on.
const CHUNK_BYTES: usize = 64 << 10;

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object with the next cursor at its end.
    Json,
    /// One event per line. The next cursor is in a header, so it is known before the first line.
    Lines,
    /// An array of CloudEvents. The next cursor is in a header.
    CloudEvents,
}

impl Form {
    /// Returns what stands before the first event.
    fn begin(self) -> &'static [u8] {
        match self {
            Self::Json => b"{\"events\":[",
            Self::Lines => b"",
            Self::CloudEvents => b"[",
        }
    }
}

/// Reads a page of events and returns its body, and the next cursor if the body does not have it.
///
/// # Errors
/// Any that occurs before the first byte of the body is known. After a later one the body fails.
pub(super) async fn body(
    store: Arc<dyn Store>,
    query: EventQuery,
    form: Form,
) -> Result<(Body, Option<String>), Problem> {
    let mut pieces = Pieces::new(store, query);
    let first = pieces.next().await?;
    let mut next_cursor = first.next.map(cursor);
    if form != Form::Json && !first.is_last {
        next_cursor = pieces.plan().await?.map(cursor);
    }
    let rest = (!first.is_last).then_some(pieces);
    let writer = Writer::new(form, first, rest, None);
    let next_cursor = next_cursor.filter(|_| form != Form::Json);
    Ok((writer.into_body().await?, next_cursor))
}

/// Returns the body of a page that has all of these events. `held` is dropped as soon as they are not in memory any
/// more.
///
/// # Errors
/// If an event cannot be written.
pub(super) async fn whole(events: Vec<StoredEvent>, form: Form, held: OwnedSemaphorePermit) -> Result<Body, Problem> {
    let piece = Piece { events, next: None, is_last: true };
    Writer::new(form, piece, None, Some(held)).into_body().await
}

/// A part of a page.
struct Piece {
    events: Vec<StoredEvent>,
    /// Where the next piece, or the next page, begins.
    next: Option<i64>,
    is_last: bool,
}

/// The events that the lines of a page have.
struct Plan {
    seqs: HashSet<i64>,
    /// The smallest of them.
    last: i64,
}

/// Reads a page in pieces.
struct Pieces {
    store: Arc<dyn Store>,
    /// What is missing of the page.
    query: EventQuery,
    bytes_left: usize,
    /// The time that the store took.
    spent: Duration,
    /// About the number of events that make a piece: then the store's answer ends with the piece.
    piece_events: u32,
    plan: Option<Plan>,
}

impl Pieces {
    fn new(store: Arc<dyn Store>, query: EventQuery) -> Self {
        Self { store, query, bytes_left: PAGE_BYTES, spent: Duration::ZERO, piece_events: u32::MAX, plan: None }
    }

    async fn next(&mut self) -> Result<Piece, Problem> {
        let limit = self.query.limit.min(self.piece_events);
        let query = EventQuery { limit, max_bytes: Some(PIECE_BYTES.min(self.bytes_left)), ..self.query.clone() };
        let began = Instant::now();
        let Page { mut events, next } = self.store.events(&query).await.map_err(store_problem)?;
        self.spent += began.elapsed();
        let (count, bytes) = (events.len(), events.iter().map(StoredEvent::size).sum::<usize>());
        if let Some(size) = bytes.checked_div(count) {
            self.piece_events = u32::try_from((PIECE_BYTES / size).max(1)).unwrap_or(u32::MAX);
        }
        self.query.before = next;
        let is_last = match &mut self.plan {
            Some(plan) => {
                events.retain(|event| plan.seqs.remove(&event.seq));
                next.is_none_or(|next| next <= plan.last)
            }
            None => {
                self.bytes_left = self.bytes_left.saturating_sub(bytes);
                self.query.limit = self.query.limit.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                let late = self.query.ends_by_time() && self.spent >= FILTERED_PAGE_TIME;
                next.is_none() || self.query.limit == 0 || self.bytes_left == 0 || late
            }
        };
        Ok(Piece { events, next, is_last })
    }

    /// Reads the rest of the page once to learn its end, and only keeps which events it has. From now on
    /// [`Pieces::next`] returns those, again from the piece after the first one on. Returns where the next page begins.
    async fn plan(&mut self) -> Result<Option<i64>, Problem> {
        let (begin, limit) = (self.query.before, self.query.limit);
        let mut plan = Plan { seqs: HashSet::new(), last: i64::MAX };
        let end = loop {
            let piece = self.next().await?;
            plan.last = piece.events.last().map_or(plan.last, |event| event.seq);
            plan.seqs.extend(piece.events.iter().map(|event| event.seq));
            if piece.is_last {
                break piece.next;
            }
        };
        // Events that were committed in the meantime are not in the plan. They must not take the places of those that
        // are.
        (self.query.before, self.query.limit) = (begin, limit.max(self.piece_events));
        self.bytes_left = PAGE_BYTES;
        self.plan = Some(plan);
        Ok(end)
    }
}

/// Writes a page.
struct Writer {
    form: Form,
    events: std::vec::IntoIter<StoredEvent>,
    /// Where the next page begins.
    next: Option<i64>,
    /// What follows the piece that is being written.
    rest: Option<Pieces>,
    held: Option<OwnedSemaphorePermit>,
    is_begun: bool,
    is_ended: bool,
}

impl Writer {
    fn new(form: Form, first: Piece, rest: Option<Pieces>, held: Option<OwnedSemaphorePermit>) -> Self {
        let Piece { events, next, .. } = first;
        Self { form, events: events.into_iter(), next, rest, held, is_begun: false, is_ended: false }
    }

    async fn into_body(mut self) -> Result<Body, Problem> {
        let first = self.chunk().await?;
        if self.is_ended {
            return Ok(Body::from(first.unwrap_or_default()));
        }
        let rest = stream::try_unfold((first, self), |(first, mut writer)| async move {
            let chunk = match first {
                Some(first) => Some(first),
                None => writer.chunk().await.map_err(|problem| {
                    tracing::warn!(code = %problem.code(), detail = problem.detail(), "a list of events ends early");
                    io::Error::other("the list ended early")
                })?,
            };
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, (None, writer))))
        });
        Ok(Body::from_stream(rest))
    }

    /// Returns the next part of the body; `None` after its end. Each event is freed as soon as it is written.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        if self.is_ended {
            return Ok(None);
        }
        let mut chunk = Vec::new();
        loop {
            while let Some(event) = self.events.next() {
                self.separate(&mut chunk);
                let event = Event::from(event);
                match self.form {
                    Form::Json => write(&mut chunk, &event)?,
                    Form::CloudEvents => write(&mut chunk, &CloudEvent::from(&event))?,
                    Form::Lines => {
                        write(&mut chunk, &event)?;
                        chunk.push(b'\n');
                    }
                }
                if chunk.len() >= CHUNK_BYTES {
                    return Ok(Some(chunk.into()));
                }
            }
            let Some(pieces) = &mut self.rest else { break };
            let Piece { events, next, is_last } = pieces.next().await?;
            (self.events, self.next) = (events.into_iter(), next);
            if is_last {
                self.rest = None;
            }
        }
        self.held = None;
        self.is_ended = true;
        if !self.is_begun {
            chunk.extend_from_slice(self.form.begin());
        }
        match self.form {
            Form::Json => {
                chunk.extend_from_slice(b"],\"next_cursor\":");
                write(&mut chunk, &self.next.map(cursor))?;
                chunk.push(b'}');
            }
            Form::CloudEvents => chunk.push(b']'),
            Form::Lines => {}
        }
        Ok(Some(chunk.into()))
    }

    /// Writes what is before an event.
    fn separate(&mut self, chunk: &mut Vec<u8>) {
        if !self.is_begun {
            chunk.extend_from_slice(self.form.begin());
        } else if self.form != Form::Lines {
            chunk.push(b',');
        }
        self.is_begun = true;
    }
}

fn write(chunk: &mut Vec<u8>, value: &impl serde::Serialize) -> Result<(), Problem> {
    serde_json::to_writer(chunk, value).map_err(|error| store_problem(StoreError::Failed(error.to_string())))
}
