//! Append: adds the entry and raises the counter in one transaction and one round trip (and another one
//! when the counter was lost). An append with idempotency keys uses a script, which compares and records
//! them in the same step. Other appends do not use it: Redis hashes and copies a script's arguments,
//! including the entry, which took as long as everything else together.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{RedisWrite, Value, from_redis_value};
use sluice_event::entry::PackedEntry;

use super::connect::{Link, LinkSession};
use super::error::{Fault, unexpected};
use super::keys::StreamKeys;
use super::node::Request;
use super::replicas::Replicas;
use super::reply;
use super::script::Script;
use crate::{Append, Appended, LogError, Position};

/// The maximum number of digits of a number.
const DIGITS: usize = 20;

static APPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("append.lua")));

/// The bounds on the records of `Idempotency-Key`s.
#[derive(Clone, Copy)]
pub(super) struct KeyBounds {
    pub ttl: Duration,
    /// The maximum number of records in each of the two hashes of a stream.
    pub max_records: u64,
}

/// Appends, and returns when the primary has the entry, and the replicas if there are any to wait for. Returns the
/// position of the entry too, if it was written.
pub(super) async fn append(
    link: &Link,
    keys: &StreamKeys,
    append: &Append,
    bounds: KeyBounds,
    replicas: Option<&Replicas>,
) -> Result<(Appended, Option<Position>), LogError> {
    let Some(replicas) = replicas else { return by(&mut Sender::Shared(link), link, keys, append, bounds).await };
    let mut sender = Sender::Alone(link.session(keys).await?);
    let appended = by(&mut sender, link, keys, append, bounds).await?;
    if let (Sender::Alone(mut session), (Appended::Stored { .. }, _)) = (sender, &appended) {
        replicas.wait(&mut session).await?;
        session.end();
    }
    Ok(appended)
}

/// What an append is sent on.
enum Sender<'a> {
    /// The connection that all share.
    Shared(&'a Link),
    /// A connection for this append alone.
    Alone(LinkSession<'a>),
}

impl Sender<'_> {
    async fn send(&mut self, request: &Request<'_>) -> Result<Value, Fault> {
        match self {
            Self::Shared(link) => link.send(request).await,
            Self::Alone(session) => session.send(request, Duration::ZERO).await,
        }
    }
}

async fn by(
    sender: &mut Sender<'_>,
    link: &Link,
    keys: &StreamKeys,
    append: &Append,
    bounds: KeyBounds,
) -> Result<(Appended, Option<Position>), LogError> {
    if append.keyed.is_empty() {
        unkeyed(sender, link, keys, &append.entry).await
    } else {
        keyed(sender, keys, append, bounds).await
    }
}

async fn unkeyed(
    sender: &mut Sender<'_>,
    link: &Link,
    keys: &StreamKeys,
    entry: &PackedEntry,
) -> Result<(Appended, Option<Position>), LogError> {
    let mut commands = redis::pipe();
    commands.atomic();
    // Reserves space for all arguments: without it the argument after the entry could make the buffer
    // grow and copy the entry.
    let mut add = redis::cmd("XADD");
    add.reserve_space_for_args([keys.stream.len(), 1, 1, entry.body.len(), 1, DIGITS]);
    add.arg(&keys.stream).arg("*").arg("e").arg(&entry.body).arg("n").arg(entry.events);
    commands.add_command(add);
    commands.cmd("HINCRBY").arg(&keys.counts).arg("appended").arg(entry.events);
    commands.cmd("HGET").arg(&keys.counts).arg("acknowledged");
    commands.cmd("XLEN").arg(&keys.stream);
    let answers = sender.send(&Request::Pipeline(&commands)).await?;
    let answers: (String, u64, Option<u64>, u64) = from_redis_value(answers).map_err(|_| unexpected("append"))?;
    let (id, appended, acknowledged, length) = answers;
    let position = Some(reply::position(&id, keys.number)?);
    if appended == entry.events && length > 1 {
        // The counter was lost but the stream was not: the backlog is unknown until it is counted again.
        link.query::<Value>(redis::cmd("HDEL").arg(&keys.counts).arg("appended")).await?;
        return Ok((Appended::Stored { backlog: None }, position));
    }
    Ok((Appended::Stored { backlog: Some(appended.saturating_sub(acknowledged.unwrap_or(0))) }, position))
}

async fn keyed(
    sender: &mut Sender<'_>,
    keys: &StreamKeys,
    append: &Append,
    bounds: KeyBounds,
) -> Result<(Appended, Option<Position>), LogError> {
    let mut call = APPEND.call(&[&keys.stream, &keys.counts, &keys.newer_keys, &keys.older_keys]);
    let hashes =
        append.keyed.iter().flat_map(|request| [request.key.as_bytes().len(), request.body_hash.as_bytes().len()]);
    call.reserve_space_for_args([DIGITS, append.entry.body.len(), DIGITS, DIGITS].into_iter().chain(hashes));
    call.arg(append.entry.events).arg(&append.entry.body);
    call.arg(bounds.ttl.as_millis().max(1) as u64).arg(bounds.max_records);
    for request in &append.keyed {
        call.arg(request.key.as_bytes()).arg(request.body_hash.as_bytes());
    }
    let answer = sender.send(&APPEND.request(&call)).await?;
    let Value::Array(answer) = answer else { return Err(unexpected("append")) };
    match answer.as_slice() {
        [Value::Int(0), backlog @ (Value::Int(_) | Value::Nil), Value::Int(dropped), id] => {
            if *dropped > 0 {
                metrics::counter!(crate::metrics::KEY_RECORDS_DROPPED.name).increment(dropped.unsigned_abs());
            }
            let backlog = match backlog {
                Value::Int(backlog) => u64::try_from(*backlog).ok(),
                _ => None,
            };
            Ok((Appended::Stored { backlog }, Some(reply::position(reply::text(id)?, keys.number)?)))
        }
        [Value::Int(1), indexes @ ..] => {
            let indexes = indexes.iter().map(|value| match value {
                Value::Int(index) => usize::try_from(*index).map_err(|_| unexpected("append")),
                _ => Err(unexpected("append")),
            });
            Ok((Appended::KeyReused(indexes.collect::<Result<_, _>>()?), None))
        }
        _ => Err(unexpected("append")),
    }
}
