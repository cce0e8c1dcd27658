//! The header `Authorization`.

use axum::http::{HeaderMap, header};
use sluice_service::problem::Problem;

use crate::problems::{invalid_token, no_token};

/// The longest token in bytes. JWTs with many claims have one or two KiB.
const MAX_BYTES: usize = 8 << 10;

/// Returns what a request presents as its token.
///
/// # Errors
/// The problem of a request without a token, or whose header is wrong.
pub(crate) fn presented(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(no_token()) };
    if values.next().is_some() {
        return Err(invalid_token("there is more than one header Authorization"));
    }
    let value = value.as_bytes();
    let Some((scheme, token)) = value.iter().position(|&byte| byte == b' ').map(|space| value.split_at(space)) else {
        return Err(invalid_token("the header Authorization is not `Bearer` and a token"));
    };
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(invalid_token("the scheme of the header Authorization is not Bearer"));
    }
    let token = without_spaces(token);
    if token.len() > MAX_BYTES { Err(invalid_token("the token is too long")) } else { Ok(token) }
}

/// Returns bytes without the spaces around them. A tab is not one: it is part of no token.
fn without_spaces(mut bytes: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns what was presented as a text.
///
/// # Errors
/// The problem of what cannot be a token.
pub(crate) fn text(presented: &[u8]) -> Result<&str, Problem> {
    let text = str::from_utf8(presented).ok().filter(|text| is_token(text));
    text.ok_or_else(|| invalid_token("this is not a token"))
}

/// Returns whether a text has the form of RFC 6750, section 2.1: one or more of its characters, then any number of `=`.
pub(crate) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|byte| IS_PART[usize::from(byte)])
}

/// Whether a byte may be in a token. A JWT has hundreds of them, and each request compares them all.
const IS_PART: [bool; 256] = {
    let mut is_part = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let is_mark = matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        is_part[byte as usize] = byte.is_ascii_alphanumeric() || is_mark;
        byte += 1;
    }
    is_part
};

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn token(headers: &HeaderMap) -> Result<&str, Problem> {
        text(presented(headers)?)
    }

    fn with(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_taken_from_exactly_one_header_with_the_scheme_bearer() {
        for value in ["Bearer abc", "bearer abc", "BEARER   abc ", "Bearer abc"] {
            assert_eq!(token(&with(&[value.as_bytes()])).unwrap(), "abc", "{value}");
        }
        assert_eq!(token(&with(&[b"Bearer a.b-c_d~e+f/1=="])).unwrap(), "a.b-c_d~e+f/1==");
        let long = [&b"Bearer "[..], &[b'a'; MAX_BYTES + 1]].concat();
        let refused: &[&[&[u8]]] = &[
            &[],
            &[b""],
            &[b"Bearer"],
            &[b"Bearer "],
            &[b"Bearer ="],
            &[b"Bearer a b"],
            &[b"Bearer a,b"],
            &[b"Bearer \xc3\xa9"],
            &[b"Basic abc"],
            &[b"abc"],
            &[b"Bearer\tabc"],
            &[b"Bearer \tabc"],
            &[b"Bearer abc\t"],
            &[b"Bearer abc", b"Bearer abc"],
            &[&long],
        ];
        for values in refused {
            assert_eq!(token(&with(values)).unwrap_err().status(), 401, "{values:?}");
        }
    }
}
