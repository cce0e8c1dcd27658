//! Decodes Redis's replies with stream entries without copying the bodies.

use bytes::Bytes;
use redis::Value;

use super::error::unexpected;
use super::keys::StreamKeys;
use crate::{Delivered, LogError, Position};

/// The maximum number of events of an entry: no publisher accepts a request with more. An entry of another program may
/// claim any number, and one that exceeds the range of Redis' counters would make the acknowledgement fail half way.
const MAX_EVENTS: u64 = 1_000_000;

/// A position and its entry; `None` when the entry was deleted while it was pending.
pub(super) struct Found {
    pub position: Position,
    pub entry: Option<Delivered>,
}

/// Decodes the reply to `XREADGROUP`: entries by stream, or nil when there are none.
pub(super) fn by_stream(answer: Value, streams: &[StreamKeys]) -> Result<Vec<Found>, LogError> {
    let pairs: Vec<(Value, Value)> = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Map(pairs) => pairs,
        Value::Array(items) => items.into_iter().map(pair).collect::<Result<_, _>>()?,
        _ => return Err(unexpected("XREADGROUP")),
    };
    let mut found = Vec::new();
    for (name, entries) in pairs {
        let name = text(&name)?;
        let keys = streams.iter().find(|keys| keys.stream == name).ok_or_else(|| unexpected("XREADGROUP"))?;
        found.extend(entries_of(entries, keys.number)?);
    }
    Ok(found)
}

/// Decodes a list of entries of one stream.
pub(super) fn entries_of(entries: Value, stream: u16) -> Result<Vec<Found>, LogError> {
    list(entries)?.into_iter().map(|item| entry(item, stream)).collect()
}

/// Decodes a list of entry ids of one stream.
pub(super) fn positions(ids: Value, stream: u16) -> Result<Vec<Position>, LogError> {
    list(ids)?.iter().map(|id| position(text(id)?, stream)).collect()
}

/// Returns an array's items.
pub(super) fn list(value: Value) -> Result<Vec<Value>, LogError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected("a read of entries")),
    }
}

/// Returns a string's text.
pub(super) fn text(value: &Value) -> Result<&str, LogError> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("a read of entries")),
        Value::SimpleString(text) => Ok(text),
        _ => Err(unexpected("a read of entries")),
    }
}

/// Returns an id in the format of Redis.
pub(super) fn id(position: &Position) -> String {
    format!("{}-{}", position.millis, position.sequence)
}

fn entry(item: Value, stream: u16) -> Result<Found, LogError> {
    let (id, fields) = pair(item)?;
    let position = position(text(&id)?, stream)?;
    if fields == Value::Nil {
        return Ok(Found { position, entry: None });
    }
    // An entry of another program (or an XADD by hand) gets an empty body, which cannot be decoded, so
    // the aggregator handles it as an unreadable entry.
    let (mut body, mut events) = (Bytes::new(), 0);
    let mut fields = list(fields)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (name, value) {
            (Value::BulkString(name), Value::BulkString(value)) if name == b"e" => body = value.into(),
            (Value::BulkString(name), value) if name == b"n" => {
                events = text(&value).ok().and_then(|text| text.parse().ok()).unwrap_or(0).min(MAX_EVENTS);
            }
            _ => {}
        }
    }
    Ok(Found { position, entry: Some(Delivered { position, body, events }) })
}

fn pair(item: Value) -> Result<(Value, Value), LogError> {
    match <[Value; 2]>::try_from(list(item)?) {
        Ok([first, second]) => Ok((first, second)),
        Err(_) => Err(unexpected("a read of entries")),
    }
}

/// Reads an id in the format of Redis.
pub(super) fn position(id: &str, stream: u16) -> Result<Position, LogError> {
    let parts = id.split_once('-').and_then(|(millis, sequence)| Some((millis.parse().ok()?, sequence.parse().ok()?)));
    let (millis, sequence) = parts.ok_or_else(|| unexpected("a read of entries"))?;
    Ok(Position { stream, millis, sequence })
}
