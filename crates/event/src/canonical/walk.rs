//! One pass over a JSON value: it is checked, written in its canonical form, and hashed.
//!
//! The canonical form is the text with white space taken out, escapes resolved (only `"` and `\` stay
//! escaped), a comma behind each member and element, the last too, and the members of an object in
//! the order of their keys' bytes, quotes included. Hashes of it are stored: it must never change.

use std::cmp::Ordering;

use uuid::Uuid;

use super::PayloadError;
use crate::key::hash128;
use crate::scan;

/// Makes canonical forms, one after the other; keeps its buffers.
#[derive(Default)]
pub(crate) struct Canonical {
    out: Vec<u8>,
    members: Vec<Member>,
}

impl Canonical {
    /// The hash of the value that begins at `at`, and where the value ends.
    pub(crate) fn hash(&mut self, json: &[u8], at: usize, max_depth: usize) -> Result<(Uuid, usize), PayloadError> {
        let end = self.write(json, at, max_depth)?;
        Ok((hash128(&self.out), end))
    }

    /// Checks the value that begins at `at`; answers where it ends.
    pub(crate) fn write(&mut self, json: &[u8], at: usize, max_depth: usize) -> Result<usize, PayloadError> {
        let Self { out, members } = self;
        out.clear();
        members.clear();
        let mut walk = Walk { json, at, copied: at, out, members, max_depth };
        walk.value(0)?;
        walk.flush();
        Ok(walk.at)
    }
}

/// Where a member stands in the output: its key, and the end of its value and comma.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

struct Walk<'a> {
    json: &'a [u8],
    at: usize,
    /// From here to `at`, the text is canonical as it is, and not in `out` yet.
    copied: usize,
    out: &'a mut Vec<u8>,
    /// Members of all objects now open, the innermost last.
    members: &'a mut Vec<Member>,
    max_depth: usize,
}

impl Walk<'_> {
    fn value(&mut self, depth: usize) -> Result<(), PayloadError> {
        match self.peek()? {
            b'"' => return self.string(),
            b'{' => return self.object(depth + 1),
            b'[' => return self.array(depth + 1),
            b'-' | b'0'..=b'9' => self.at = scan::number(self.json, self.at).ok_or(PayloadError::Malformed)?,
            _ => self.at = scan::literal(self.json, self.at).ok_or(PayloadError::Malformed)?,
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), PayloadError> {
        self.enter(depth)?;
        let body = self.position();
        let first_member = self.members.len();
        if self.peek()? != b'}' {
            loop {
                let start = self.position();
                if self.peek()? != b'"' {
                    return Err(PayloadError::Malformed);
                }
                self.string()?;
                let key_end = self.position();
                self.space();
                if self.peek()? != b':' {
                    return Err(PayloadError::Malformed);
                }
                self.at += 1;
                self.space();
                self.value(depth)?;
                let more = self.more(b'}')?;
                self.members.push(Member { start, key_end, end: self.position() });
                if !more {
                    break;
                }
                self.space();
            }
            self.sort_members(first_member, body)?;
            self.members.truncate(first_member);
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), PayloadError> {
        self.enter(depth)?;
        if self.peek()? != b']' {
            loop {
                self.value(depth)?;
                if !self.more(b']')? {
                    break;
                }
                self.space();
            }
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over the opening bracket, which is a level more.
    fn enter(&mut self, depth: usize) -> Result<(), PayloadError> {
        if depth > self.max_depth {
            return Err(PayloadError::TooDeep(self.max_depth));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    /// Steps over the comma behind a member or element (true), or writes the one that the last has
    /// only in the canonical form, and stops at the closing bracket (false).
    fn more(&mut self, bracket: u8) -> Result<bool, PayloadError> {
        self.space();
        let byte = self.peek()?;
        if byte == b',' {
            self.at += 1;
            return Ok(true);
        }
        if byte != bracket {
            return Err(PayloadError::Malformed);
        }
        self.flush();
        self.out.push(b',');
        Ok(false)
    }

    /// Puts the members of the object just read, all of them in `out`, in the order of their keys.
    fn sort_members(&mut self, first: usize, body: usize) -> Result<(), PayloadError> {
        let Self { out, members, .. } = self;
        let members = &mut members[first..];
        if members.is_sorted_by(|a, b| compare(out, a, b) == Ordering::Less) {
            return Ok(());
        }
        members.sort_unstable_by(|a, b| compare(out, a, b));
        if let Some(pair) = members.windows(2).find(|pair| compare(out, &pair[0], &pair[1]) == Ordering::Equal) {
            let name = String::from_utf8_lossy(&out[pair[0].start..pair[0].key_end]);
            return Err(PayloadError::DuplicateKey(name.trim_matches('"').to_owned()));
        }
        let end = out.len();
        for member in members {
            out.extend_from_within(member.start..member.end);
        }
        out.copy_within(end.., body);
        out.truncate(end);
        Ok(())
    }

    /// A string. What is escaped without need, or otherwise than here, is written as it should be.
    fn string(&mut self) -> Result<(), PayloadError> {
        self.at += 1;
        loop {
            self.at = scan::plain(self.json, self.at);
            match self.peek()? {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => return Err(PayloadError::Malformed),
            }
        }
        self.at += 1;
        Ok(())
    }

    #[cold]
    fn escape(&mut self) -> Result<(), PayloadError> {
        let code = *self.json.get(self.at + 1).ok_or(PayloadError::Malformed)?;
        if matches!(code, b'"' | b'\\') {
            self.at += 2;
            return Ok(());
        }
        self.flush();
        self.at += 2;
        let character = match code {
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return Err(PayloadError::Malformed),
        };
        if matches!(character, '"' | '\\') {
            self.out.push(b'\\');
        }
        self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        self.copied = self.at;
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<char, PayloadError> {
        let unit = self.hex4()?;
        let code = match unit {
            0 => return Err(PayloadError::Nul),
            0xd800..=0xdbff => {
                if !self.json[self.at..].starts_with(b"\\u") {
                    return Err(PayloadError::LoneSurrogate);
                }
                self.at += 2;
                let low = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return Err(PayloadError::LoneSurrogate);
                }
                0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)
            }
            _ => unit,
        };
        char::from_u32(code).ok_or(PayloadError::LoneSurrogate)
    }

    fn hex4(&mut self) -> Result<u32, PayloadError> {
        let digits = self.json.get(self.at..self.at + 4).ok_or(PayloadError::Malformed)?;
        let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?));
        self.at += 4;
        unit.ok_or(PayloadError::Malformed)
    }

    /// Steps over white space, which the canonical form has not.
    #[inline]
    fn space(&mut self) {
        if matches!(self.json.get(self.at), Some(..=b' ')) {
            self.flush();
            self.at = scan::space(self.json, self.at);
            self.copied = self.at;
        }
    }

    /// Where in `out` the text at `at` will stand.
    #[inline]
    fn position(&self) -> usize {
        self.out.len() + (self.at - self.copied)
    }

    #[inline]
    fn flush(&mut self) {
        self.out.extend_from_slice(&self.json[self.copied..self.at]);
        self.copied = self.at;
    }

    #[inline]
    fn peek(&self) -> Result<u8, PayloadError> {
        self.json.get(self.at).copied().ok_or(PayloadError::Malformed)
    }
}

/// By the keys' bytes, quotes included: no key is the beginning of another.
#[inline]
fn compare(out: &[u8], a: &Member, b: &Member) -> Ordering {
    out[a.start..a.key_end].cmp(&out[b.start..b.key_end])
}
