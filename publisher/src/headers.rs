//! Checks the headers of a publishing request.

use axum::http::{HeaderMap, HeaderName, header};
use sluice_service::problem::Problem;

use crate::problems::{invalid_idempotency_key, unsupported_media_type};

/// The header that makes repeating a request safe.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 255;

/// Accepts JSON in UTF-8 without compression: `application/json`, with or without `charset=utf-8`. The type must be
/// given, because a page of another site can send a body without one, and cannot send this one unasked.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(unsupported_media_type(detail));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return refuse("send the body without a Content-Encoding");
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        // Nearly all clients write it like this: no need to parse it.
        (Some(one), None) if one == "application/json" => Ok(()),
        (Some(one), None) if one.to_str().is_ok_and(is_json) => Ok(()),
        _ => refuse("send the header Content-Type: application/json"),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    json && parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    })
}

/// Returns the `Idempotency-Key`, if there is one: 1 to 255 visible ASCII characters.
///
/// # Errors
/// `invalid_idempotency_key`.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next().map(|key| key.as_bytes()) else { return Ok(None) };
    if keys.next().is_some() {
        return Err(invalid_idempotency_key("there is more than one Idempotency-Key"));
    }
    if key.is_empty() || key.len() > MAX_KEY_BYTES || !key.iter().all(u8::is_ascii_graphic) {
        let detail = format!("an Idempotency-Key is 1 to {MAX_KEY_BYTES} visible ASCII characters without spaces");
        return Err(invalid_idempotency_key(detail));
    }
    Ok(Some(key))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::http::header::IntoHeaderName;
    use sluice_service::code::Code;

    use super::*;

    fn with(name: impl IntoHeaderName + Clone, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn only_json_in_utf_8_is_accepted() {
        for value in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json;",
        ] {
            assert!(check_content(&with("content-type", &[value])).is_ok(), "{value}");
        }
        assert!(check_content(&HeaderMap::new()).is_err());
        for value in [
            "",
            "text/plain",
            "text/json",
            "application/jsonl",
            "application/x-ndjson",
            "application/json; charset=latin1",
            "application/json; nonsense",
            "application/x-www-form-urlencoded",
        ] {
            let problem = check_content(&with("content-type", &[value])).unwrap_err();
            assert_eq!(problem.code(), Code::UnsupportedMediaType, "{value}");
        }
        assert!(check_content(&with("content-type", &["application/json", "text/plain"])).is_err());
        assert!(check_content(&with("content-encoding", &["gzip"])).is_err());
    }

    #[test]
    fn a_key_is_one_to_255_visible_ascii_characters() {
        let longest = "k".repeat(255);
        for value in ["a", "0190b5a0-4d4b-7cc2-b7f0-6a4de2f9c0aa", longest.as_str(), "\"quoted\""] {
            let headers = with(IDEMPOTENCY_KEY, &[value]);
            assert_eq!(idempotency_key(&headers).unwrap(), Some(value.as_bytes()));
        }
        assert!(idempotency_key(&HeaderMap::new()).unwrap().is_none());
        for value in ["", "a b", "é", &"k".repeat(256)] {
            let problem = idempotency_key(&with(IDEMPOTENCY_KEY, &[value])).unwrap_err();
            assert_eq!(problem.code(), Code::InvalidIdempotencyKey, "{value}");
        }
        assert!(idempotency_key(&with(IDEMPOTENCY_KEY, &["a", "b"])).is_err());
    }
}
