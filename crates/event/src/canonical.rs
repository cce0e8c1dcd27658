//! The hash of a payload by its value: members sorted, white space and escapes normalised,
//! number tokens exact as given. It is what tells a repeated event from a conflict.
//!
//! The walk also refuses what a JSON parser accepts and a database or the next reader does not:
//! duplicate keys, NUL, lone surrogates, and more levels than the limit.

use uuid::Uuid;

use crate::key::hash128;

/// Why a payload is refused; the texts are for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The same member twice in one object.
    #[error("has the key \"{0}\" twice in one object")]
    DuplicateKey(String),
    /// PostgreSQL has no character U+0000.
    #[error("contains NUL (\\u0000), which cannot be stored")]
    Nul,
    /// Half of a UTF-16 pair is no character.
    #[error("contains a lone surrogate (\\ud800 to \\udfff without its other half)")]
    LoneSurrogate,
    /// More levels of arrays and objects than allowed.
    #[error("is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Not JSON.
    #[error("is not valid JSON")]
    Malformed,
}

/// The hash of a JSON text by its value. The text must be JSON already (a parser has seen it).
pub fn hash(json: &str, max_depth: usize) -> Result<Uuid, PayloadError> {
    let mut walk = Walk { rest: json.as_bytes(), out: Vec::with_capacity(json.len()), members: Vec::new(), max_depth };
    walk.value(0)?;
    walk.skip_space();
    if !walk.rest.is_empty() {
        return Err(PayloadError::Malformed);
    }
    Ok(hash128(&walk.out))
}

/// Where a member stands in the output: its key, and the end of its value.
#[derive(Clone, Copy)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
}

struct Walk<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    /// Members of all objects now open, the innermost last.
    members: Vec<Member>,
    max_depth: usize,
}

impl Walk<'_> {
    fn value(&mut self, depth: usize) -> Result<(), PayloadError> {
        self.skip_space();
        match self.peek()? {
            b'{' => self.object(depth + 1),
            b'[' => self.array(depth + 1),
            b'"' => self.string(),
            _ => self.token(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), PayloadError> {
        self.enter(depth)?;
        let first_member = self.members.len();
        let body = self.out.len();
        if !self.closes(b'}')? {
            loop {
                self.skip_space();
                let start = self.out.len();
                if self.peek()? != b'"' {
                    return Err(PayloadError::Malformed);
                }
                self.string()?;
                let key_end = self.out.len();
                self.skip_space();
                self.expect(b':')?;
                self.out.push(b':');
                self.value(depth)?;
                self.out.push(b',');
                self.members.push(Member { start, key_end, end: self.out.len() });
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        self.sort_members(first_member, body)?;
        self.members.truncate(first_member);
        self.out.push(b'}');
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), PayloadError> {
        self.enter(depth)?;
        if !self.closes(b']')? {
            loop {
                self.value(depth)?;
                self.out.push(b',');
                if !self.more(b']')? {
                    break;
                }
            }
        }
        self.out.push(b']');
        Ok(())
    }

    /// Puts the members of the object just read in the order of their keys.
    fn sort_members(&mut self, first: usize, body: usize) -> Result<(), PayloadError> {
        let Self { out, members, .. } = self;
        let members = &mut members[first..];
        let key = |m: &Member| m.start..m.key_end;
        if members.windows(2).all(|w| out[key(&w[0])] < out[key(&w[1])]) {
            return Ok(());
        }
        members.sort_by(|a, b| out[key(a)].cmp(&out[key(b)]));
        if let Some(pair) = members.windows(2).find(|w| out[key(&w[0])] == out[key(&w[1])]) {
            let name = String::from_utf8_lossy(&out[key(&pair[0])]);
            return Err(PayloadError::DuplicateKey(name.trim_matches('"').to_owned()));
        }
        let sorted: Vec<u8> = members.iter().flat_map(|m| &out[m.start..m.end]).copied().collect();
        out.truncate(body);
        out.extend_from_slice(&sorted);
        Ok(())
    }

    /// A string with its escapes resolved; only `"` and `\` stay escaped.
    fn string(&mut self) -> Result<(), PayloadError> {
        self.expect(b'"')?;
        self.out.push(b'"');
        loop {
            let plain = self.rest.iter().position(|b| matches!(b, b'"' | b'\\')).ok_or(PayloadError::Malformed)?;
            self.out.extend_from_slice(&self.rest[..plain]);
            let quote = self.rest[plain] == b'"';
            self.rest = &self.rest[plain + 1..];
            if quote {
                self.out.push(b'"');
                return Ok(());
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), PayloadError> {
        let code = self.take()?;
        let character = match code {
            b'"' | b'\\' => {
                self.out.extend_from_slice(&[b'\\', code]);
                return Ok(());
            }
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
        Ok(())
    }

    fn unicode_escape(&mut self) -> Result<char, PayloadError> {
        let unit = self.hex4()?;
        let code = match unit {
            0 => return Err(PayloadError::Nul),
            0xd800..=0xdbff => {
                let Some(rest) = self.rest.strip_prefix(b"\\u") else {
                    return Err(PayloadError::LoneSurrogate);
                };
                self.rest = rest;
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
        let digits = self.rest.get(..4).and_then(|d| std::str::from_utf8(d).ok()).ok_or(PayloadError::Malformed)?;
        let unit = u32::from_str_radix(digits, 16).map_err(|_| PayloadError::Malformed)?;
        self.rest = &self.rest[4..];
        Ok(unit)
    }

    /// A number, `true`, `false` or `null`, exact as given.
    fn token(&mut self) -> Result<(), PayloadError> {
        let end = self
            .rest
            .iter()
            .position(|b| matches!(b, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(self.rest.len());
        if end == 0 {
            return Err(PayloadError::Malformed);
        }
        self.out.extend_from_slice(&self.rest[..end]);
        self.rest = &self.rest[end..];
        Ok(())
    }

    /// Steps over the opening bracket, which is a level more.
    fn enter(&mut self, depth: usize) -> Result<(), PayloadError> {
        if depth > self.max_depth {
            return Err(PayloadError::TooDeep(self.max_depth));
        }
        let bracket = self.take()?;
        self.out.push(bracket);
        Ok(())
    }

    /// Whether the array or object that was just opened closes at once.
    fn closes(&mut self, bracket: u8) -> Result<bool, PayloadError> {
        self.skip_space();
        let closes = self.peek()? == bracket;
        if closes {
            self.take()?;
        }
        Ok(closes)
    }

    /// Steps over `,` (true) or the closing bracket (false).
    fn more(&mut self, bracket: u8) -> Result<bool, PayloadError> {
        self.skip_space();
        match self.take()? {
            b',' => Ok(true),
            b if b == bracket => Ok(false),
            _ => Err(PayloadError::Malformed),
        }
    }

    fn skip_space(&mut self) {
        let space = self.rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.rest = &self.rest[space..];
    }

    fn peek(&self) -> Result<u8, PayloadError> {
        self.rest.first().copied().ok_or(PayloadError::Malformed)
    }

    fn take(&mut self) -> Result<u8, PayloadError> {
        let byte = self.peek()?;
        self.rest = &self.rest[1..];
        Ok(byte)
    }

    fn expect(&mut self, byte: u8) -> Result<(), PayloadError> {
        if self.take()? == byte { Ok(()) } else { Err(PayloadError::Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        hash(a, 64).unwrap() == hash(b, 64).unwrap()
    }

    #[test]
    fn order_of_members_white_space_and_escapes_do_not_matter() {
        assert!(same(r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ],\n\"a\":1 }"));
        assert!(same(r#"{"k":{"y":1,"x":2},"a":{}}"#, r#"{"a":{},"k":{"x":2,"y":1}}"#));
        assert!(same(r#""\u0041\/\u00e9\ud83d\ude00\u0022\u005c""#, "\"A/é😀\\\"\\\\\""));
    }

    #[test]
    fn what_differs_in_value_or_in_a_number_token_differs() {
        assert!(!same("1", "1.0"));
        assert!(!same("1e2", "100"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same(r#"["a","b"]"#, r#"["a,b"]"#));
        assert!(!same(r#"["a\",\"b"]"#, r#"["a","b"]"#));
        assert!(!same(r#"{"a":{}}"#, r#"{"a":[]}"#));
        assert!(!same(r#""1""#, "1"));
    }

    #[test]
    fn a_key_given_twice_is_refused_also_when_written_differently() {
        assert_eq!(hash(r#"{"x":{"a":1,"\u0061":2}}"#, 64), Err(PayloadError::DuplicateKey("a".into())));
        assert!(hash(r#"[{"a":1},{"a":2}]"#, 64).is_ok());
    }

    #[test]
    fn nul_and_lone_surrogates_are_refused() {
        assert_eq!(hash(r#"{"a\u0000":1}"#, 64), Err(PayloadError::Nul));
        for text in [r#""\ud800""#, r#""\ud800x""#, r#""\ud800\ud800""#, r#""\udc00""#, r#""\ud83d\n""#] {
            assert_eq!(hash(text, 64), Err(PayloadError::LoneSurrogate), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_to_the_level() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(hash(&nested(64), 64).is_ok());
        assert_eq!(hash(&nested(65), 64), Err(PayloadError::TooDeep(64)));
        assert_eq!(hash(&"[".repeat(1_000_000), 64), Err(PayloadError::TooDeep(64)));
    }

    #[test]
    fn text_that_is_not_json_never_panics() {
        for text in ["", " ", "{", "[1", "{\"a\"", "{\"a\":}", "[,]", "\"\\", "\"\\u12", "{a:1}", "1 2"] {
            assert_eq!(hash(text, 64), Err(PayloadError::Malformed), "{text}");
        }
    }
}
