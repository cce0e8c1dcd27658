//! Checks the headers of a publishing request.

use axum::http::{HeaderMap, HeaderName, Uri, header};
use sluice_service::problem::Problem;

use sluice_event::{CloudEventForm, Format};

use crate::cloud_events::{CloudEventMode, is_binary};
use crate::expand::Coding;
use crate::problems::{invalid_idempotency_key, invalid_partial, unsupported_encoding, unsupported_media_type};

/// The header that makes repeating a request safe.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_BYTES: usize = 255;

/// What a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Events(Format),
    CloudEvents(CloudEventMode),
}

/// What the headers say about a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) format: BodyFormat,
    /// How the body is compressed.
    pub(crate) coding: Option<Coding>,
}

/// Accepts JSON in UTF-8: `application/json`, `application/x-ndjson`, or one of those of CloudEvents, with or without
/// `charset=utf-8`. The type must be given, because a page of another site can send a body without one, and cannot send this
/// one unasked. Nor can it send the headers of a CloudEvent in the binary mode, whose body may be of any type.
///
/// # Errors
/// `unsupported_media_type`.
pub(crate) fn check_content(headers: &HeaderMap) -> Result<Content, Problem> {
    let coding = coding(headers)?;
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let format = match (types.next(), types.next()) {
        // Nearly all clients write it like this: no need to parse it.
        (Some(one), None) if one == "application/json" && !is_binary(headers) => {
            Some(BodyFormat::Events(Format::Document))
        }
        (Some(one), None) => one.to_str().ok().and_then(|one| format(one, is_binary(headers))),
        (None, _) if is_binary(headers) => Some(BodyFormat::CloudEvents(CloudEventMode::Binary)),
        _ => None,
    };
    let refusal = || {
        unsupported_media_type(
            "send the header Content-Type: application/json, application/x-ndjson, application/cloudevents+json or \
             application/cloudevents-batch+json",
        )
    };
    Ok(Content { format: format.ok_or_else(refusal)?, coding })
}

/// Returns the content coding, if there is one. Several are refused, because each could multiply the size.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Problem> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(None) };
    let is = |name: &str| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(name.as_bytes());
    match codings.next() {
        None if is("gzip") || is("x-gzip") => Ok(Some(Coding::Gzip)),
        None if is("zstd") => Ok(Some(Coding::Zstd)),
        None if is("identity") => Ok(None),
        _ => Err(unsupported_encoding()),
    }
}

fn format(content_type: &str, is_binary: bool) -> Option<BodyFormat> {
    let mut parts = content_type.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    let format = match &*essence {
        "application/cloudevents+json" => BodyFormat::CloudEvents(CloudEventMode::Structured(CloudEventForm::One)),
        "application/cloudevents-batch+json" => {
            BodyFormat::CloudEvents(CloudEventMode::Structured(CloudEventForm::Batch))
        }
        // Another format of CloudEvents.
        other if other.starts_with("application/cloudevents") => return None,
        _ if is_binary => return Some(BodyFormat::CloudEvents(CloudEventMode::Binary)),
        "application/json" => BodyFormat::Events(Format::Document),
        "application/x-ndjson" => BodyFormat::Events(Format::Lines),
        _ => return None,
    };
    let utf_8 = parts.filter(|parameter| !parameter.is_empty()).all(|parameter| {
        parameter.split_once('=').is_some_and(|(name, value)| {
            !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    utf_8.then_some(format)
}

/// Returns whether the events without an error are to be accepted although others have one. Other parameters are
/// ignored.
///
/// # Errors
/// `invalid_query`.
pub(crate) fn is_partial(uri: &Uri) -> Result<bool, Problem> {
    let Some(query) = uri.query() else { return Ok(false) };
    let mut values = query.split('&').filter_map(|pair| pair.strip_prefix("partial="));
    match (values.next(), values.next()) {
        (None, _) => Ok(false),
        (Some("true"), None) => Ok(true),
        (Some("false"), None) => Ok(false),
        _ => Err(invalid_partial()),
    }
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
            assert_eq!(
                check_content(&with("content-type", &[value])).unwrap().format,
                BodyFormat::Events(Format::Document),
                "{value}"
            );
        }
        for value in ["application/x-ndjson", "Application/X-NDJSON;charset=utf-8"] {
            let format = check_content(&with("content-type", &[value])).unwrap().format;
            assert_eq!(format, BodyFormat::Events(Format::Lines), "{value}");
        }
        assert!(check_content(&HeaderMap::new()).is_err());
        for value in [
            "",
            "text/plain",
            "text/json",
            "application/jsonl",
            "application/ndjson",
            "application/x-ndjson; charset=utf-16",
            "application/json; charset=latin1",
            "application/json; nonsense",
            "application/x-www-form-urlencoded",
        ] {
            let problem = check_content(&with("content-type", &[value])).unwrap_err();
            assert_eq!(problem.code(), Code::UnsupportedMediaType, "{value}");
        }
        assert!(check_content(&with("content-type", &["application/json", "text/plain"])).is_err());
    }

    #[test]
    fn cloud_events_are_known_by_their_type_or_by_their_headers() {
        let mode = |types: &[&str], is_binary: bool| {
            let mut headers = with("content-type", types);
            if is_binary {
                headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
            }
            match check_content(&headers) {
                Ok(Content { format: BodyFormat::CloudEvents(mode), .. }) => Some(mode),
                Ok(other) => panic!("{types:?}: {other:?}"),
                Err(problem) => {
                    assert_eq!(problem.code(), Code::UnsupportedMediaType, "{types:?}");
                    None
                }
            }
        };
        let structured = |form| Some(CloudEventMode::Structured(form));
        for is_binary in [false, true] {
            let one = mode(&["application/CloudEvents+json; charset=UTF-8"], is_binary);
            assert_eq!(one, structured(CloudEventForm::One));
            let batch = mode(&["application/cloudevents-batch+json"], is_binary);
            assert_eq!(batch, structured(CloudEventForm::Batch));
            assert_eq!(mode(&["application/cloudevents+xml"], is_binary), None);
            assert_eq!(mode(&["application/cloudevents+json; charset=latin1"], is_binary), None);
        }
        for types in [&["application/json"][..], &["text/plain; charset=latin1"], &["image/png"], &[]] {
            assert_eq!(mode(types, true), Some(CloudEventMode::Binary), "{types:?}");
        }
        assert_eq!(mode(&["application/json", "text/plain"], true), None);
    }

    #[test]
    fn one_coding_of_those_that_can_be_expanded_is_accepted() {
        let coded = |codings: &[&str]| {
            let mut headers = with("content-encoding", codings);
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            check_content(&headers).map(|content| content.coding)
        };
        for (codings, expected) in [
            (&[][..], None),
            (&["identity"], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["X-GZip"], Some(Coding::Gzip)),
            (&["zstd"], Some(Coding::Zstd)),
        ] {
            assert_eq!(coded(codings).unwrap(), expected, "{codings:?}");
        }
        for codings in [&["br"][..], &[""], &["deflate"], &["gzip, zstd"], &["gzip", "gzip"], &["gzip", "identity"]] {
            assert_eq!(coded(codings).unwrap_err().code(), Code::UnsupportedMediaType, "{codings:?}");
        }
    }

    #[test]
    fn partial_is_true_or_false_and_other_parameters_are_ignored() {
        let partial = |query: &str| is_partial(&format!("/publish{query}").parse().unwrap());
        for (query, expected) in
            [("", false), ("?", false), ("?a=b", false), ("?partial=true", true), ("?a=b&partial=false&c", false)]
        {
            assert_eq!(partial(query).unwrap(), expected, "{query}");
        }
        for query in ["?partial=", "?partial=1", "?partial=true&partial=true"] {
            let problem = serde_json::to_value(partial(query).unwrap_err()).unwrap();
            assert_eq!((&problem["code"], &problem["field"]), (&"invalid_query".into(), &"partial".into()), "{query}");
        }
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
