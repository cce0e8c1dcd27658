//! Requests that a page of another site makes in the browser of somebody who can reach the server.
//!
//! Such a request must not change anything, unless the origin of the page is named by a setting. Browsers say where a
//! request comes from by the headers `Sec-Fetch-Site` and `Origin`, which no page can change; other clients send
//! neither. For the origins that are named, the responses have the headers of CORS, with which pages can read them.

use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;

use crate::code::Code;
use crate::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Headers by which browsers say where a request comes from. A server that has checked them does not forward them.
pub const ORIGIN_HEADERS: [HeaderName; 2] = [header::ORIGIN, SEC_FETCH_SITE];

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Encoding, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id",
);
const RESPONSE_HEADERS: HeaderValue = HeaderValue::from_static(
    "Accept-Encoding, Allow, Retry-After, WWW-Authenticate, X-More, X-Next-Cursor, X-Repeated-From, X-Request-Id",
);
/// How long a browser may remember the answer to a preflight request, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of pages, such as `https://app.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "use https://HOST or https://HOST:PORT in lower case, without a path";
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or(WRONG)?;
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]_".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_part) {
            return Err(WRONG);
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| WRONG)
    }
}

/// The origins whose pages may use a server. Without one, pages may use it that come from itself.
#[derive(Debug, Clone, Default)]
pub struct Origins(Arc<[Origin]>);

impl From<Vec<Origin>> for Origins {
    fn from(origins: Vec<Origin>) -> Self {
        Self(origins.into())
    }
}

/// What is done with a request because of where it comes from.
pub(crate) enum Verdict {
    /// It is handled.
    Handle,
    /// It is handled, and the response is for a page of this origin.
    HandleFor(HeaderValue),
    /// It is a preflight request of a page of this origin.
    Preflight(HeaderValue),
    /// It is refused.
    Refuse(Problem),
}

impl Origins {
    /// Decides about a request.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Verdict {
        let headers = request.headers();
        if !self.0.is_empty()
            && let Some(origin) = headers.get(header::ORIGIN)
            && self.0.iter().any(|named| named.0 == *origin)
        {
            let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
            return match *request.method() {
                Method::OPTIONS if asks => Verdict::Preflight(origin.clone()),
                _ => Verdict::HandleFor(origin.clone()),
            };
        }
        let changes_nothing = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if changes_nothing || !comes_from_elsewhere(headers) {
            return Verdict::Handle;
        }
        let detail = "this request comes from a page of another site, whose origin is not named by --cors-origins";
        Verdict::Refuse(Problem::new(Code::CrossSiteRequest, detail))
    }
}

/// Returns whether a browser says that the page of a request comes from another origin.
fn comes_from_elsewhere(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    // Older browsers, and all on connections without TLS, send only the origin. The scheme is left out, because TLS may
    // end at a proxy.
    headers.get(header::ORIGIN).is_some_and(|origin| {
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        host.is_none() || host.map(str::as_bytes) != headers.get(header::HOST).map(HeaderValue::as_bytes)
    })
}

/// Returns the response to a preflight request.
pub(crate) fn preflight(origin: HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    open(&mut response, origin);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Lets pages of an origin read a response.
pub(crate) fn open(response: &mut Response, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE_HEADERS);
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(origins: &Origins, method: Method, headers: &[(&str, &str)]) -> &'static str {
        let mut request = Request::builder().method(method).uri("/publish").header("Host", "sluice.example:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match origins.check(&request.body(()).unwrap()) {
            Verdict::Handle => "handle",
            Verdict::HandleFor(_) => "handle for",
            Verdict::Preflight(_) => "preflight",
            Verdict::Refuse(_) => "refuse",
        }
    }

    #[test]
    fn a_request_that_changes_something_is_refused_if_its_page_is_of_another_origin() {
        let nobody = Origins::default();
        let other = ("Origin", "https://evil.example");
        let own = ("Origin", "http://sluice.example:8080");
        for (headers, expected) in [
            (&[][..], "handle"),
            (&[("Sec-Fetch-Site", "same-origin"), own], "handle"),
            (&[("Sec-Fetch-Site", "none")], "handle"),
            (&[("Sec-Fetch-Site", "cross-site")], "refuse"),
            (&[("Sec-Fetch-Site", "cross-site"), own], "refuse"),
            (&[("Sec-Fetch-Site", "same-site"), ("Origin", "https://other.sluice.example")], "refuse"),
            (&[("Sec-Fetch-Site", "new-word")], "refuse"),
            (&[own], "handle"),
            (&[("Origin", "https://sluice.example:8080")], "handle"),
            (&[("Origin", "http://sluice.example")], "refuse"),
            (&[("Origin", "null")], "refuse"),
            (&[other], "refuse"),
        ] {
            for method in [Method::POST, Method::DELETE, Method::PUT] {
                assert_eq!(verdict(&nobody, method, headers), expected, "{headers:?}");
            }
            // A page of another origin cannot read the answer.
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert_eq!(verdict(&nobody, method, headers), "handle", "{headers:?}");
            }
        }
    }

    #[test]
    fn an_origin_that_is_named_may_do_everything_and_no_other_may() {
        let origins = Origins::from(vec!["https://app.example".parse().unwrap(), "http://a:1".parse().unwrap()]);
        let (app, cross) = (("Origin", "https://app.example"), ("Sec-Fetch-Site", "cross-site"));
        let asks = ("Access-Control-Request-Method", "POST");
        for (method, headers, expected) in [
            (Method::POST, &[app, cross][..], "handle for"),
            (Method::GET, &[app], "handle for"),
            (Method::OPTIONS, &[app, cross, asks], "preflight"),
            (Method::OPTIONS, &[app], "handle for"),
            (Method::POST, &[("Origin", "http://a:1")], "handle for"),
            (Method::POST, &[("Origin", "https://app.example.evil"), cross], "refuse"),
            (Method::POST, &[("Origin", "http://app.example"), cross], "refuse"),
            (Method::OPTIONS, &[("Origin", "https://evil.example"), cross, asks], "handle"),
            (Method::POST, &[cross], "refuse"),
            (Method::POST, &[], "handle"),
        ] {
            assert_eq!(verdict(&origins, method.clone(), headers), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_and_a_host_and_nothing_more() {
        for text in ["https://app.example", "http://localhost:3000", "https://[::1]:1", "http://10.0.0.1"] {
            assert!(text.parse::<Origin>().is_ok(), "{text}");
        }
        for text in
            ["", "*", "app.example", "https://", "https://app.example/", "https://App.example", "null", "ftp://a"]
        {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
