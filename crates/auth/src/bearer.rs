//! The header `Authorization`.

use axum::http::{HeaderMap, header};
use sluice_service::problem::Problem;

use crate::problems::{invalid_token, no_token};

/// The longest token in bytes. JWTs with many claims have one or two KiB.
const MAX_BYTES: usize = 8 << 10;

/// Returns the token of a request.
///
/// # Errors
/// The problem of a request without a token, or whose token cannot be one.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Err(no_token()) };
    if values.next().is_some() {
        return Err(invalid_token("there is more than one header Authorization"));
    }
    let value = value.to_str().map_err(|_| invalid_token("the header Authorization is not ASCII"))?;
    let Some((scheme, token)) = value.split_once(' ') else {
        return Err(invalid_token("the header Authorization is not `Bearer` and a token"));
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid_token("the scheme of the header Authorization is not Bearer"));
    }
    let token = token.trim_matches(' ');
    if token.len() > MAX_BYTES {
        return Err(invalid_token("the token is too long"));
    }
    if is_token(token) { Ok(token) } else { Err(invalid_token("this is not a token")) }
}

/// Returns whether a text has the form of RFC 6750, section 2.1: one or more of its characters, then any number of `=`.
pub(crate) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

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
            &[b"Bearer abc", b"Bearer abc"],
            &[&long],
        ];
        for values in refused {
            assert_eq!(token(&with(values)).unwrap_err().status(), 401, "{values:?}");
        }
    }
}
