//! Turns a CloudEvent in the binary mode of HTTP, whose attributes are headers, into its JSON format.
//!
//! [HTTP protocol binding of CloudEvents 1.0.2](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md),
//! section 3.1.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::value::RawValue;

use crate::parse::{ErrorKind, ParseError, Refused};

/// The beginning of the name of a header that is an attribute.
pub const PREFIX: &str = "ce-";

/// Returns the JSON text of a CloudEvent. `attributes` are the headers that begin with [`PREFIX`], without it, in lower case.
/// A body that is JSON by its `content_type` becomes `data` as it is, another text in UTF-8 a string, and anything else
/// `data_base64`. Without a type it is JSON, or else `data_base64`. An empty body is no data. Whether the attributes are those of a
/// CloudEvent is checked when the text is parsed.
///
/// # Errors
/// The fault of an attribute that is no text, is given twice or has a name that is not allowed, or of a body that is no JSON.
pub fn structured<'h>(
    attributes: impl Iterator<Item = (&'h str, &'h [u8])>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<String, Box<Refused<'static>>> {
    let mut members = Vec::<(&str, Cow<'_, str>)>::new();
    for (name, value) in attributes {
        if matches!(name, "data" | "data_base64" | "datacontenttype") {
            return Err(invalid(format!("the header {PREFIX}{name} is no attribute: the body is the data")));
        }
        if members.iter().any(|(known, _)| *known == name) {
            return Err(invalid(format!("the header {PREFIX}{name} is given twice")));
        }
        let value = decoded(value).ok_or_else(|| invalid(format!("the header {PREFIX}{name} is not UTF-8")))?;
        members.push((name, value));
    }
    // A repeated request gets the same text, in whatever order its headers come.
    members.sort_unstable_by_key(|(name, _)| *name);
    members.extend(content_type.map(|content_type| ("datacontenttype", content_type.into())));
    let mut out = String::with_capacity(body.len() + 64 * members.len() + 32);
    for (name, value) in members {
        member(&mut out, name, &as_json(&value));
    }
    if !body.is_empty() {
        data(&mut out, content_type, body)?;
    }
    out.push('}');
    Ok(out)
}

fn data(out: &mut String, content_type: Option<&str>, body: &[u8]) -> Result<(), Box<Refused<'static>>> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string());
    let json = text.clone().and_then(|text| serde_json::from_str::<&RawValue>(text).map_err(|error| error.to_string()));
    match content_type {
        None => match json {
            Ok(json) => member(out, "data", json.get()),
            Err(_) => bytes(out, body),
        },
        Some(content_type) if !is_utf_8(content_type) => bytes(out, body),
        Some(content_type) if is_json(content_type) => {
            let malformed = |reason| refused(ErrorKind::Malformed, None, format!("the data is not JSON: {reason}"));
            member(out, "data", json.map_err(malformed)?.get());
        }
        Some(content_type) => match text {
            // A text with NUL could not be stored.
            Ok(text) if is_text(content_type) && !text.contains('\0') => member(out, "data", &as_json(text)),
            _ => bytes(out, body),
        },
    }
    Ok(())
}

fn bytes(out: &mut String, body: &[u8]) {
    member(out, "data_base64", &as_json(&BASE64_STANDARD.encode(body)));
}

fn member(out: &mut String, name: &str, value: &str) {
    out.push(if out.is_empty() { '{' } else { ',' });
    out.push_str(&as_json(name));
    out.push(':');
    out.push_str(value);
}

/// Returns a text as JSON.
fn as_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Decodes the value of a header: it may be in double quotes, and some characters may be percent-encoded (section 3.1.3.2).
fn decoded(value: &[u8]) -> Option<Cow<'_, str>> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")) else {
        return percent_encoding::percent_decode(value).decode_utf8().ok();
    };
    let mut unquoted = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        unquoted.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
    }
    percent_encoding::percent_decode(&unquoted).decode_utf8().ok().map(|text| Cow::Owned(text.into_owned()))
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Returns whether a media type is JSON (JSON format of CloudEvents, section 3.1).
fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// Returns whether a media type has no other charset than UTF-8, of which US-ASCII is a part.
fn is_utf_8(content_type: &str) -> bool {
    content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset")
            || ["utf-8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

fn is_text(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.starts_with("text/") || essence.ends_with("/xml") || essence.ends_with("+xml")
}

fn invalid(message: String) -> Box<Refused<'static>> {
    refused(ErrorKind::Invalid, Some(0), message)
}

fn refused(kind: ErrorKind, index: Option<usize>, message: String) -> Box<Refused<'static>> {
    Refused::whole(ParseError { kind, index, line: None, field: None, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(attributes: &[(&str, &str)], content_type: Option<&str>, body: &[u8]) -> Result<String, String> {
        let attributes = attributes.iter().map(|(name, value)| (*name, value.as_bytes()));
        structured(attributes, content_type, body).map_err(|refused| refused.first.to_string())
    }

    #[test]
    fn headers_become_attributes_and_the_body_the_data() {
        let attributes = [("specversion", "1.0"), ("id", "1\"")];
        let reversed = [("id", "1\""), ("specversion", "1.0")];
        for (content_type, body, expected) in [
            (
                Some("application/json"),
                &b" {\"a\": 1.50} "[..],
                r#","datacontenttype":"application/json","data":{"a": 1.50}}"#,
            ),
            (
                Some("application/geo+json; charset=utf-8"),
                b"[]",
                r#","datacontenttype":"application/geo+json; charset=utf-8","data":[]}"#,
            ),
            (None, b"null", r#","data":null}"#),
            (None, b"", "}"),
            (Some("Text/Plain"), "a\"ä\n".as_bytes(), r#","datacontenttype":"Text/Plain","data":"a\"ä\n"}"#),
            (Some("application/xml"), b"<a/>", r#","datacontenttype":"application/xml","data":"<a/>"}"#),
            (None, b"\x00\x01\xff", r#","data_base64":"AAH/"}"#),
            (None, b"hello", r#","data_base64":"aGVsbG8="}"#),
            (
                Some("text/plain; charset=iso-8859-1"),
                "ä".as_bytes(),
                r#","datacontenttype":"text/plain; charset=iso-8859-1","data_base64":"w6Q="}"#,
            ),
            (
                Some("application/json; charset=UTF-16"),
                b"1\0",
                r#","datacontenttype":"application/json; charset=UTF-16","data_base64":"MQA="}"#,
            ),
            (
                Some("text/plain;charset=\"US-ASCII\""),
                b"a",
                r#","datacontenttype":"text/plain;charset=\"US-ASCII\"","data":"a"}"#,
            ),
            (Some("text/plain"), b"a\0b", r#","datacontenttype":"text/plain","data_base64":"YQBi"}"#),
            (Some("text/plain"), b"\xff", r#","datacontenttype":"text/plain","data_base64":"/w=="}"#),
            (Some("image/png"), b"ab", r#","datacontenttype":"image/png","data_base64":"YWI="}"#),
        ] {
            let expected = format!("{}{expected}", r#"{"id":"1\"","specversion":"1.0""#);
            assert_eq!(text(&attributes, content_type, body).as_ref(), Ok(&expected), "{content_type:?}");
            assert_eq!(text(&reversed, content_type, body), Ok(expected), "{content_type:?}");
        }
    }

    #[test]
    fn values_are_decoded_from_quotes_and_percent_signs() {
        for (value, expected) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            (r#""a \"b\" \\ %25""#, r#"a "b" \ %"#),
            ("100%", "100%"),
            ("\"", "\""),
        ] {
            assert_eq!(decoded(value.as_bytes()).as_deref(), Some(expected), "{value}");
        }
        assert_eq!(decoded(b"%FF"), None);
        assert_eq!(decoded(br#""a\""#), None, "a quote is missing");
    }

    #[test]
    fn what_cannot_become_a_cloud_event_is_refused_with_the_reason() {
        let json = Some("application/json");
        for (attributes, body, error) in [
            (vec![("id", "1"), ("id", "2")], &b""[..], "events[0]: the header ce-id is given twice"),
            (vec![("id", "%FF")], b"", "events[0]: the header ce-id is not UTF-8"),
            (vec![("data", "1")], b"", "events[0]: the header ce-data is no attribute: the body is the data"),
            (vec![], b"1,\"id\":\"2\"", "the data is not JSON: trailing characters at line 1 column 2"),
            (vec![], b"\"\xff\"", "the data is not JSON: invalid utf-8 sequence of 1 bytes from index 1"),
        ] {
            assert_eq!(text(&attributes, json, body), Err(error.to_owned()), "{attributes:?}");
        }
    }
}
