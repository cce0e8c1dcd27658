//! Reads valid bodies of the usual form in one pass over the text: each byte of a payload is read once,
//! to validate it, to find its end, and to write its canonical form.

use super::fields::{Field, FieldText, Fields};
use crate::canonical::Canonical;
use crate::{Event, Limits, Timestamp, scan};

/// Reads a body. `None` means that [`thorough`](super::thorough) must read it; the body may be valid or not.
pub(super) fn parse<'a>(text: &'a str, limits: &Limits, now: Timestamp) -> Option<Vec<Event<'a>>> {
    let canonical = Canonical::for_text(text.len());
    let mut body = Body { text, json: text.as_bytes(), at: 0, limits, now, canonical };
    body.space();
    let events = match body.peek()? {
        b'[' => body.array()?,
        _ => body.object()?,
    };
    body.space();
    (body.at == text.len()).then_some(events)
}

/// Reads events one by one, each from a text of its own.
pub(super) struct Reader {
    canonical: Canonical,
}

impl Reader {
    pub(super) fn new(bytes: usize) -> Self {
        Self { canonical: Canonical::for_text(bytes) }
    }

    /// Reads a text that is one event. `None` means that [`thorough`](super::thorough) must read it.
    pub(super) fn event<'a>(&mut self, text: &'a str, limits: &Limits, now: Timestamp) -> Option<Event<'a>> {
        let canonical = std::mem::take(&mut self.canonical);
        let mut body = Body { text, json: text.as_bytes(), at: 0, limits, now, canonical };
        let event = body.event();
        let is_all = body.at == text.len();
        self.canonical = body.canonical;
        event.filter(|_| is_all)
    }
}

struct Body<'a, 'l> {
    text: &'a str,
    json: &'a [u8],
    at: usize,
    limits: &'l Limits,
    now: Timestamp,
    canonical: Canonical,
}

impl<'a> Body<'a, '_> {
    /// Reads an event, or an object with `events`.
    fn object(&mut self) -> Option<Vec<Event<'a>>> {
        let mut fields = Fields::default();
        let mut events = None;
        self.members(|body, name| {
            if name != b"events" {
                return body.member(name, &mut fields);
            }
            events.is_none().then_some(())?;
            events = Some(body.array()?);
            Some(())
        })?;
        match events {
            None => Some(vec![fields.validate(self.limits, self.now).ok()?]),
            Some(events) => (!fields.any()).then_some(events),
        }
    }

    fn array(&mut self) -> Option<Vec<Event<'a>>> {
        self.expect(b'[')?;
        self.space();
        let mut events = Vec::new();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(events);
        }
        loop {
            let start = self.at;
            let event = self.event()?;
            if events.len() == self.limits.events {
                return None;
            }
            if events.is_empty() {
                // The events of a request usually have about the same size.
                let expected = (self.json.len() - start) / (self.at - start);
                events.reserve_exact(expected.min(self.limits.events));
            }
            events.push(event);
            if !self.more(b']')? {
                return Some(events);
            }
        }
    }

    fn event(&mut self) -> Option<Event<'a>> {
        let mut fields = Fields::default();
        self.members(|body, name| body.member(name, &mut fields))?;
        fields.validate(self.limits, self.now).ok()
    }

    /// Calls `member` with each name of an object, to read the value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.expect(b'{')?;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            member(self, name)?;
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    fn member(&mut self, name: &[u8], fields: &mut Fields<'a>) -> Option<()> {
        let (field, text) = match name {
            b"payload" => (Field::Payload, self.payload(fields)?),
            b"topic" => (Field::Topic, self.text()?),
            b"event_id" => (Field::EventId, self.text()?),
            b"id" => (Field::Id, self.text()?),
            b"timestamp" => (Field::Timestamp, self.text()?),
            b"source" => (Field::Source, self.text()?),
            _ => return self.other(),
        };
        *fields.slot(field).ok()? = Some(text);
        Some(())
    }

    fn payload(&mut self, fields: &mut Fields<'a>) -> Option<FieldText<'a>> {
        let start = self.at;
        let (hash, end) = self.canonical.hash(self.json, start, self.limits.payload_depth).ok()?;
        self.at = end;
        fields.payload_hash = Some(hash);
        Some(FieldText { json: self.text.get(start..end)?, escapes: true })
    }

    /// Skips the value of a member that is not a field of an event. It must be valid JSON all the same.
    fn other(&mut self) -> Option<()> {
        self.at = self.canonical.write(self.json, self.at, self.limits.payload_depth).ok()?;
        Some(())
    }

    /// Reads a string or null.
    fn text(&mut self) -> Option<FieldText<'a>> {
        let start = self.at;
        let mut escapes = false;
        if self.peek()? == b'n' {
            self.at = scan::literal(self.json, start)?;
        } else if self.string().is_none() {
            // The string may contain escapes.
            escapes = true;
            self.at = self.canonical.write(self.json, start, 0).ok()?;
        }
        Some(FieldText { json: self.text.get(start..self.at)?, escapes })
    }

    /// Returns the content of a string without escapes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let start = self.at;
        self.at = scan::plain(self.json, start);
        let inner = self.json.get(start..self.at)?;
        self.expect(b'"')?;
        Some(inner)
    }

    /// Skips `,` (returns true) or the closing bracket (returns false), and the white space around it.
    #[inline]
    fn more(&mut self, bracket: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            self.space();
            return Some(true);
        }
        (byte == bracket).then_some(false)
    }

    #[inline]
    fn space(&mut self) {
        self.at = scan::space(self.json, self.at);
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }
}
