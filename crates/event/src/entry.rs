//! The packed stream entry: how requests travel from the publisher to the aggregator.
//!
//! Version 1, integers as LEB128 varints unless a width is given, text as length + UTF-8:
//!
//! ```text
//! entry   = version: 1 byte (1) · entry id: 16 bytes · number of requests · request*
//! request = flags: 1 byte (bit 0: a receipt follows; bit 1: its client waits; bit 2: it is traced) · request id: 16 bytes
//!           · [receipt: 16 bytes] · accepted at: 8 bytes, µs since 1970, little endian · number of events · event*
//!           · [trace id: 16 bytes · span id: 8 bytes]
//! event   = topic · event id · timestamp: 8 bytes, as above · 0, or 1 + length and text of the source
//!           · payload hash: 16 bytes · payload
//! ```
//!
//! This is the form that [`decode`] reads. Publishers write version 3, which adds a checksum and mostly compresses
//! ([`crate::compressed`]). Versions 4 and 5 are the same as version 3: 4 with a request whose client waits, and 5 with one
//! that is traced, so that aggregators which do not know such requests leave the entry in the stream. Version 2 compresses
//! without a checksum. The number of events is also a field of the stream entry, outside the body, so that the log can count
//! events without decoding. Golden files in this crate's tests pin the formats.
//!
//! A new version needs its own version byte here, a reader in [`decode`] (or in
//! [`crate::compressed::expand`]), and a golden file. Every version from 3 on ends with the checksum of version 3, so
//! that a reader can tell a newer version from a damaged entry. Aggregators must be able to read it before
//! publishers write it: an aggregator leaves [`DecodeError::UnknownVersion`] in the stream.

use std::borrow::Cow;

use crate::{EntryId, Event, PayloadHash, ReceiptId, RequestId, Timestamp, TraceContext};

/// The version byte of an entry that is not compressed and has no checksum.
pub const VERSION: u8 = 1;
/// The version byte of a compressed entry without a checksum ([`crate::compressed`]).
pub const COMPRESSED: u8 = 2;
/// The version byte of an entry with a checksum, compressed or not ([`crate::compressed`]).
pub const CHECKED: u8 = 3;
/// The version byte of an entry with a checksum and a request whose client waits.
pub const WAITING: u8 = 4;
/// The version byte of an entry with a checksum and a request that is traced.
pub const TRACED: u8 = 5;

const HAS_RECEIPT: u8 = 1;
const WAITS: u8 = 2;
const IS_TRACED: u8 = 4;
/// Bytes of the version and the entry id, with which an entry of every version begins.
pub(crate) const HEADER: usize = 17;

/// One accepted request, encoded once when it arrives and only copied from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedRequest {
    bytes: Vec<u8>,
    events: u64,
}

impl PackedRequest {
    /// Encodes a request. `receipt` identifies a request that has an `Idempotency-Key`, so that the
    /// aggregator recognises its repetition.
    pub fn new(id: RequestId, receipt: Option<ReceiptId>, accepted_at: Timestamp, events: &[Event<'_>]) -> Self {
        let size: usize = events
            .iter()
            .map(|e| 40 + e.topic.len() + e.event_id.len() + e.source.as_ref().map_or(0, |s| s.len()) + e.payload.len())
            .sum();
        let mut out = Vec::with_capacity(48 + size);
        out.push(if receipt.is_some() { HAS_RECEIPT } else { 0 });
        out.extend_from_slice(id.as_bytes());
        out.extend(receipt.iter().flat_map(ReceiptId::as_bytes));
        out.extend_from_slice(&accepted_at.as_micros().to_le_bytes());
        put_number(&mut out, events.len() as u64);
        for event in events {
            put_bytes(&mut out, event.topic.as_bytes());
            put_bytes(&mut out, event.event_id.as_bytes());
            out.extend_from_slice(&event.timestamp.as_micros().to_le_bytes());
            match &event.source {
                None => out.push(0),
                Some(source) => {
                    put_number(&mut out, source.len() as u64 + 1);
                    out.extend_from_slice(source.as_bytes());
                }
            }
            out.extend_from_slice(event.payload_hash.as_bytes());
            put_bytes(&mut out, event.payload.as_bytes());
        }
        Self { bytes: out, events: events.len() as u64 }
    }

    /// Notes that its client waits for what becomes of it, which is recorded under its receipt.
    #[must_use]
    pub fn waiting(mut self) -> Self {
        self.bytes[0] |= WAITS;
        self
    }

    /// Returns the lowest version of an entry with it.
    pub(crate) fn version(&self) -> u8 {
        match self.bytes[0] {
            flags if flags & IS_TRACED != 0 => TRACED,
            flags if flags & WAITS != 0 => WAITING,
            _ => CHECKED,
        }
    }

    /// Adds the trace to which it belongs. It has none before.
    #[must_use]
    pub fn traced(mut self, trace: TraceContext) -> Self {
        self.bytes[0] |= IS_TRACED;
        self.bytes.extend_from_slice(&trace.to_bytes());
        self
    }

    /// Returns the trace to which it belongs; `None` if it is not traced.
    pub fn trace(&self) -> Option<TraceContext> {
        let trace = if self.bytes[0] & IS_TRACED != 0 { self.bytes.last_chunk() } else { None };
        trace.map(TraceContext::from_bytes)
    }

    /// Returns its number of events.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Returns its size in an entry, in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Always false: even a request without events has a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Requests packed together, to be appended to the stream in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedEntry {
    /// The entry's id, the same when its append is repeated.
    pub id: EntryId,
    /// Its number of events.
    pub events: u64,
    /// The encoded entry.
    pub body: Vec<u8>,
}

impl PackedEntry {
    /// Packs requests into the form that [`decode`] reads: not compressed, and without a checksum. What is stored is
    /// packed by [`crate::compressed::pack`].
    pub fn new<'r>(id: EntryId, requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone) -> Self {
        let mut body = Vec::new();
        let events = put_entry(&mut body, id, requests);
        Self { id, events, body }
    }
}

/// Appends an entry that is not compressed to `out` and returns its number of events.
pub(crate) fn put_entry<'r>(
    out: &mut Vec<u8>,
    id: EntryId,
    requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone,
) -> u64 {
    let size: usize = requests.clone().map(PackedRequest::len).sum();
    out.reserve(HEADER + 4 + size);
    out.push(VERSION);
    out.extend_from_slice(id.as_bytes());
    put_number(out, requests.len() as u64);
    let mut events = 0;
    for request in requests {
        out.extend_from_slice(&request.bytes);
        events += request.events;
    }
    events
}

/// A decoded entry. It borrows from the packed body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The entry's id. The store commits it as a receipt, so that the entry has its effect once.
    pub id: EntryId,
    /// The requests in it, in the order of their arrival.
    pub requests: Vec<Request<'a>>,
}

/// One request of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The id in the response to the client and in the logs.
    pub id: RequestId,
    /// The receipt of a request that has an `Idempotency-Key`.
    pub receipt: Option<ReceiptId>,
    /// Whether its client waits for what becomes of it. Then it has a receipt.
    pub waits: bool,
    /// When the publisher accepted it.
    pub accepted_at: Timestamp,
    /// Its events, in the client's order.
    pub events: Vec<Event<'a>>,
    /// The trace to which it belongs, if it is traced.
    pub trace: Option<TraceContext>,
}

/// Why an entry cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer publisher wrote it. It must be left for a newer aggregator.
    #[error("the entry has version {0}, and this build reads versions up to {TRACED}")]
    UnknownVersion(u8),
    /// The bytes are not those that were written.
    #[error("the entry is damaged: its checksum does not match its bytes")]
    Damaged,
    /// The bytes are not an entry.
    #[error("the entry is corrupt: {0}")]
    Corrupt(&'static str),
}

/// Decodes a packed entry that [`crate::compressed::expand`] has expanded.
///
/// # Errors
/// When the version is unknown or the bytes are not exactly one entry.
pub fn decode(body: &[u8]) -> Result<Entry<'_>, DecodeError> {
    let mut reader = Reader { rest: body };
    let version = reader.byte().map_err(|_| Corrupt("it is empty"))?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    let id = reader.array().map(EntryId::from_bytes)?;
    let count = reader.count()?;
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        requests.push(reader.request()?);
    }
    if !reader.rest.is_empty() {
        return Err(DecodeError::Corrupt("it has trailing bytes"));
    }
    Ok(Entry { id, requests })
}

/// Returns the entry's id; `None` when the version is unknown or the header is not complete. The checksum is not
/// compared.
pub fn peek_id(body: &[u8]) -> Option<EntryId> {
    let (&version, rest) = body.split_first()?;
    let is_supported = (VERSION..=TRACED).contains(&version);
    if is_supported { rest.first_chunk().map(|id| EntryId::from_bytes(*id)) } else { None }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Why bytes are not an entry. It is smaller than [`DecodeError`], which the reader of each field would return.
struct Corrupt(&'static str);

impl From<Corrupt> for DecodeError {
    fn from(Corrupt(reason): Corrupt) -> Self {
        Self::Corrupt(reason)
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn request(&mut self) -> Result<Request<'a>, Corrupt> {
        let flags = self.byte()?;
        if flags & !(HAS_RECEIPT | WAITS | IS_TRACED) != 0 {
            return Err(Corrupt("a request has unknown flags"));
        }
        let id = self.array().map(RequestId::from_bytes)?;
        let receipt = if flags & HAS_RECEIPT != 0 { Some(self.array().map(ReceiptId::from_bytes)?) } else { None };
        let waits = flags & WAITS != 0;
        if waits && receipt.is_none() {
            return Err(Corrupt("a request waits without a receipt"));
        }
        let accepted_at = self.timestamp()?;
        let count = self.count()?;
        let mut events = Vec::with_capacity(count);
        for _ in 0..count {
            events.push(self.event()?);
        }
        let trace = if flags & IS_TRACED != 0 { Some(TraceContext::from_bytes(&self.array()?)) } else { None };
        Ok(Request { id, receipt, waits, accepted_at, events, trace })
    }

    fn event(&mut self) -> Result<Event<'a>, Corrupt> {
        Ok(Event {
            topic: self.text()?,
            event_id: self.text()?,
            timestamp: self.timestamp()?,
            source: match self.number()? {
                0 => None,
                length => Some(self.text_of(length - 1)?),
            },
            payload_hash: self.array().map(PayloadHash::from_bytes)?,
            payload: self.text()?,
        })
    }

    fn bytes(&mut self, length: u64) -> Result<&'a [u8], Corrupt> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Corrupt("it is truncated"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Corrupt> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Corrupt("it is truncated"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn timestamp(&mut self) -> Result<Timestamp, Corrupt> {
        let micros = self.array().map(i64::from_le_bytes)?;
        Timestamp::from_micros(micros).ok_or(Corrupt("a timestamp is out of range"))
    }

    fn number(&mut self) -> Result<u64, Corrupt> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                // Only the shortest encoding of a number is accepted, so an entry has exactly one encoding.
                return if byte == 0 && shift > 0 {
                    Err(Corrupt("a number is not in its shortest encoding"))
                } else {
                    Ok(number)
                };
            }
        }
        Err(Corrupt("a number is too large"))
    }

    /// Reads a number of items. Each item has at least 16 bytes, which bounds the allocation for them.
    fn count(&mut self) -> Result<usize, Corrupt> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > self.rest.len() / 16 { Err(Corrupt("it is truncated")) } else { Ok(count) }
    }

    fn text(&mut self) -> Result<Cow<'a, str>, Corrupt> {
        let length = self.number()?;
        self.text_of(length)
    }

    fn text_of(&mut self, length: u64) -> Result<Cow<'a, str>, Corrupt> {
        let bytes = self.bytes(length)?;
        std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| Corrupt("a text is not UTF-8"))
    }
}
