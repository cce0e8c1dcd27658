//! One pass over a JSON value, which validates it, writes its canonical form and hashes that.
//!
//! The canonical form is the text without white space, with escapes resolved (only `"` and `\` stay
//! escaped), with a comma after each member and element, the last one too, and with the members of an
//! object in the order of their keys' bytes, quotes included. Its hashes are stored, so it must never
//! change.

use super::error::PayloadError;
use super::member::{self, Member};
use crate::PayloadHash;
use crate::key::hash128;
use crate::scan;

/// Writes canonical forms, one after the other, and reuses its buffers.
#[derive(Default)]
pub(crate) struct Canonical {
    out: Vec<u8>,
    members: Vec<Member>,
}

impl Canonical {
    /// Creates one for values in a text of this many bytes, with enough capacity for most of them: growing
    /// the buffer to the size of a small payload, which is written twice when its members are sorted, took
    /// a fifth of the time of reading it.
    pub(crate) fn for_text(length: usize) -> Self {
        Self { out: Vec::with_capacity((2 * length).min(4 << 10)), members: Vec::with_capacity(16) }
    }

    /// Returns the hash of the value that begins at `at`, and the position of its end.
    ///
    /// # Errors
    /// As [`hash`](super::hash()).
    pub(crate) fn hash(
        &mut self,
        json: &[u8],
        at: usize,
        max_depth: usize,
    ) -> Result<(PayloadHash, usize), PayloadError> {
        let end = self.write(json, at, max_depth)?;
        Ok((PayloadHash::from_bytes(hash128(&self.out)), end))
    }

    /// Validates the value that begins at `at`, writes its canonical form and returns the position of its
    /// end.
    ///
    /// # Errors
    /// As [`hash`](super::hash()).
    pub(crate) fn write(&mut self, json: &[u8], at: usize, max_depth: usize) -> Result<usize, PayloadError> {
        let Self { out, members } = self;
        out.clear();
        members.clear();
        let mut walk = Walk { json, copied: at, out, members, max_depth, error: None };
        match walk.value(at, 0) {
            Some(end) => {
                walk.flush(end);
                Ok(end)
            }
            None => Err(walk.error.unwrap_or(PayloadError::Malformed)),
        }
    }
}

/// Each step takes the position where it begins and returns the position where it ends. `None` is an
/// error: `error`, or [`PayloadError::Malformed`] when that is `None`. This way both stay in registers,
/// which a `Result` with a [`PayloadError`] would not.
struct Walk<'a> {
    json: &'a [u8],
    /// The text from here on is canonical as it is, and not copied to `out` yet.
    copied: usize,
    out: &'a mut Vec<u8>,
    /// The members of all open objects, those of the innermost last.
    members: &'a mut Vec<Member>,
    max_depth: usize,
    error: Option<PayloadError>,
}

impl Walk<'_> {
    /// Inlined where it is called: most values are scalars and need no call.
    #[inline(always)]
    fn value(&mut self, mut at: usize, depth: usize) -> Option<usize> {
        match self.token(&mut at)? {
            b'"' => self.string(at),
            b'0'..=b'9' | b'-' => scan::number(self.json, at),
            b'{' => self.object(at, depth + 1),
            b'[' => self.array(at, depth + 1),
            _ => scan::literal(self.json, at),
        }
    }

    #[inline(never)]
    fn object(&mut self, at: usize, depth: usize) -> Option<usize> {
        let mut at = self.enter(at, depth)?;
        let body = self.position(at);
        let first_member = self.members.len();
        if self.token(&mut at)? == b'}' {
            return Some(at + 1);
        }
        loop {
            if self.token(&mut at)? != b'"' {
                return None;
            }
            let start = self.position(at);
            at = self.string(at)?;
            let key_end = self.position(at);
            if self.token(&mut at)? != b':' {
                return None;
            }
            at = self.value(at + 1, depth)?;
            let next = self.token(&mut at)?;
            let end = self.position(at) + 1;
            self.members.push(Member { start, key_end, end, prefix: 0 });
            match next {
                b',' => at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.close(at);
        if let Err(error) = member::sort(self.out, body, &mut self.members[first_member..]) {
            return self.fail(error);
        }
        self.members.truncate(first_member);
        Some(at + 1)
    }

    #[inline(never)]
    fn array(&mut self, at: usize, depth: usize) -> Option<usize> {
        let mut at = self.enter(at, depth)?;
        if self.token(&mut at)? == b']' {
            return Some(at + 1);
        }
        loop {
            at = self.value(at, depth)?;
            match self.token(&mut at)? {
                b',' => at += 1,
                b']' => break,
                _ => return None,
            }
        }
        self.close(at);
        Some(at + 1)
    }

    /// Skips the opening bracket and checks the depth.
    #[inline]
    fn enter(&mut self, at: usize, depth: usize) -> Option<usize> {
        if depth > self.max_depth {
            return self.fail(PayloadError::TooDeep(self.max_depth));
        }
        Some(at + 1)
    }

    /// Called before a closing bracket. Writes the comma that follows the last member or element in the
    /// canonical form only.
    #[inline]
    fn close(&mut self, at: usize) {
        self.flush(at);
        self.out.push(b',');
    }

    /// Reads a string and writes its escapes in their canonical form.
    #[inline]
    fn string(&mut self, at: usize) -> Option<usize> {
        let end = scan::plain(self.json, at + 1);
        if *self.json.get(end)? == b'"' { Some(end + 1) } else { self.escaped_string(end) }
    }

    /// Reads the rest of a string from its first `\` on.
    #[cold]
    fn escaped_string(&mut self, mut at: usize) -> Option<usize> {
        loop {
            match self.json.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at = scan::plain(self.json, self.escape(at)?),
                _ => return None,
            }
        }
    }

    fn escape(&mut self, at: usize) -> Option<usize> {
        let code = *self.json.get(at + 1)?;
        let mut end = at + 2;
        let character = match code {
            b'"' | b'\\' => return Some(end),
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape(&mut end)?,
            _ => return None,
        };
        self.flush(at);
        if matches!(character, '"' | '\\') {
            self.out.push(b'\\');
        }
        self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.copied = end;
        Some(end)
    }

    fn unicode_escape(&mut self, at: &mut usize) -> Option<char> {
        let unit = self.hex4(at)?;
        let code = match unit {
            0 => return self.fail(PayloadError::Nul),
            0xd800..=0xdbff => {
                if !self.json[*at..].starts_with(b"\\u") {
                    return self.fail(PayloadError::LoneSurrogate);
                }
                *at += 2;
                let low = self.hex4(at)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return self.fail(PayloadError::LoneSurrogate);
                }
                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            _ => unit,
        };
        match char::from_u32(code) {
            None => self.fail(PayloadError::LoneSurrogate),
            character => character,
        }
    }

    fn hex4(&self, at: &mut usize) -> Option<u32> {
        let digits = self.json.get(*at..*at + 4)?;
        *at += 4;
        digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
    }

    /// Returns the first byte of the next token and skips the white space before it, which the canonical
    /// form does not have.
    #[inline]
    fn token(&mut self, at: &mut usize) -> Option<u8> {
        let byte = *self.json.get(*at)?;
        if byte > b' ' {
            return Some(byte);
        }
        *at = self.space(*at);
        self.json.get(*at).copied()
    }

    fn space(&mut self, at: usize) -> usize {
        self.flush(at);
        self.copied = scan::space(self.json, at);
        self.copied
    }

    /// Returns the position in `out` that the text at `at` will have.
    #[inline]
    fn position(&self, at: usize) -> usize {
        self.out.len() + (at - self.copied)
    }

    #[inline]
    fn flush(&mut self, at: usize) {
        self.out.extend_from_slice(&self.json[self.copied..at]);
        self.copied = at;
    }

    #[cold]
    fn fail<T>(&mut self, error: PayloadError) -> Option<T> {
        self.error = Some(error);
        None
    }
}
