//! One pass over a JSON value: it is checked, written in its canonical form, and hashed.
//!
//! The canonical form is the text with white space taken out, escapes resolved (only `"` and `\` stay
//! escaped), a comma behind each member and element, the last too, and the members of an object in
//! the order of their keys' bytes, quotes included. Hashes of it are stored: it must never change.

use super::PayloadError;
use super::member::{self, Member};
use crate::PayloadHash;
use crate::key::hash128;
use crate::scan;

/// Makes canonical forms, one after the other; keeps its buffers.
#[derive(Default)]
pub(crate) struct Canonical {
    out: Vec<u8>,
    members: Vec<Member>,
}

impl Canonical {
    /// For values in a text of this length. Room for most of them: growing to the size of one small
    /// payload, which is written twice where its members are sorted, took a fifth of reading it.
    pub(crate) fn for_text(length: usize) -> Self {
        Self { out: Vec::with_capacity((2 * length).min(4 << 10)), members: Vec::with_capacity(16) }
    }

    /// The hash of the value that begins at `at`, and where the value ends.
    pub(crate) fn hash(
        &mut self,
        json: &[u8],
        at: usize,
        max_depth: usize,
    ) -> Result<(PayloadHash, usize), PayloadError> {
        let end = self.write(json, at, max_depth)?;
        Ok((PayloadHash::from_bytes(hash128(&self.out)), end))
    }

    /// Checks the value that begins at `at`; answers where it ends.
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

/// The steps take the place where they begin, and answer where they end. `None` is an error:
/// malformed, unless `error` says otherwise. So both stay in registers.
struct Walk<'a> {
    json: &'a [u8],
    /// What comes from here on is canonical as it is, and not in `out` yet.
    copied: usize,
    out: &'a mut Vec<u8>,
    /// Members of all objects now open, the innermost last.
    members: &'a mut Vec<Member>,
    max_depth: usize,
    error: Option<PayloadError>,
}

impl Walk<'_> {
    /// Inlined where it is called: most values are scalars, and need no call.
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

    /// Steps over the opening bracket, which is a level more.
    #[inline]
    fn enter(&mut self, at: usize, depth: usize) -> Option<usize> {
        if depth > self.max_depth {
            return self.fail(PayloadError::TooDeep(self.max_depth));
        }
        Some(at + 1)
    }

    /// Before a closing bracket: writes the comma that the last member or element has only in the
    /// canonical form.
    #[inline]
    fn close(&mut self, at: usize) {
        self.flush(at);
        self.out.push(b',');
    }

    /// A string. What is escaped without need, or otherwise than here, is written as it should be.
    #[inline]
    fn string(&mut self, at: usize) -> Option<usize> {
        let end = scan::plain(self.json, at + 1);
        if *self.json.get(end)? == b'"' { Some(end + 1) } else { self.escaped_string(end) }
    }

    /// The rest of a string from its first `\` on.
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

    /// The first byte of the next token, after white space, which the canonical form has not.
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

    /// Where in `out` the text at `at` will stand.
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
