//! Parses query parameters. An unknown one is an error, so that a misspelled filter is not silently ignored.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use sluice_service::problem::Problem;

use super::problems::invalid_query;

/// The query parameters of a request that no handler has read yet.
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Parses a query string. Returns an error when a parameter is given twice, contains NUL, or is not
    /// percent-encoded UTF-8.
    pub fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| invalid_query(name, "is not percent-encoded UTF-8"))?;
            let value = decode(value).ok_or_else(|| invalid_query(&name, "is not percent-encoded UTF-8"))?;
            if value.contains('\0') {
                return Err(invalid_query(&name, "contains NUL"));
            }
            if parameters.contains_key(&name) {
                return Err(invalid_query(&name, "is given twice"));
            }
            parameters.insert(name, value);
        }
        Ok(Self(parameters))
    }

    /// Removes and returns a parameter's text.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// Removes a parameter and returns its parsed value.
    pub fn value<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.text(name).map(|text| text.parse().map_err(|error| invalid_query(name, &format!("{error}")))).transpose()
    }

    /// Removes `limit` and returns it: a number of items between 1 and `max`.
    pub fn limit(&mut self, default: u32, max: u32) -> Result<u32, Problem> {
        match self.text("limit").map(|text| text.parse()) {
            None => Ok(default),
            Some(Ok(limit)) if (1..=max).contains(&limit) => Ok(limit),
            Some(_) => Err(invalid_query("limit", &format!("must be a whole number from 1 to {max}"))),
        }
    }

    /// Removes `cursor` and returns the position at which the previous page ended.
    pub fn cursor(&mut self) -> Result<Option<i64>, Problem> {
        let cursor = |text: String| read_cursor(&text).ok_or_else(|| invalid_query("cursor", "is not a next_cursor"));
        self.text("cursor").map(cursor).transpose()
    }

    /// Returns an error when there is a parameter that the handler has not read.
    pub fn end(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            Some(name) => Err(invalid_query(name, "is not a parameter of this request")),
            None => Ok(()),
        }
    }
}

/// Returns the text of a cursor. It is opaque to clients, so that its content may change.
pub(super) fn cursor(seq: i64) -> String {
    format!("s{seq:x}")
}

fn read_cursor(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('s').filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    i64::from_str_radix(digits, 16).ok()
}

/// Decodes form encoding (application/x-www-form-urlencoded): `+` is a space, `%41` a byte.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back() {
        for seq in [0, 1, 1 << 40, i64::MAX] {
            assert_eq!(read_cursor(&cursor(seq)), Some(seq));
        }
        for text in ["", "s", "s-1", "s+1", "1", "sxyz", "sffffffffffffffffff"] {
            assert_eq!(read_cursor(text), None, "{text:?}");
        }
    }

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(decode("a+b%2Bc%C3%A9").as_deref(), Some("a b+cé"));
        for text in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
