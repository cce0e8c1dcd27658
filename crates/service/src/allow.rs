//! The methods of a path: `OPTIONS` asks for them, and a response to a method that a path does not have names them.
//!
//! The router knows which methods each path has. It answers any other, `OPTIONS` among them, with 405, and writes the
//! methods that the path has into the header `Allow` after all layers.

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;

/// The path of a request that concerns the server and none of its paths (RFC 9110, section 9.3.7).
pub(crate) const SERVER: &str = "*";

/// Returns the response to a request: that to `OPTIONS` of a path without a handler for it has the status 204.
pub(crate) fn to_options(method: &'static str, response: Response) -> Response {
    if method != Method::OPTIONS.as_str() || response.status() != StatusCode::METHOD_NOT_ALLOWED {
        return response;
    }
    let mut empty = no_content();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        empty.headers_mut().insert(header::ALLOW, allow.clone());
    }
    empty
}

/// Returns a response without content.
pub(crate) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Adds `OPTIONS`, which every path has, to the methods in `Allow`.
pub(crate) fn complete(response: &mut Response) {
    let headers = response.headers_mut();
    let Some(methods) = headers.get(header::ALLOW).and_then(|allow| allow.to_str().ok()) else { return };
    let mut methods: Vec<_> = methods.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
    if !methods.contains(&Method::OPTIONS.as_str()) {
        methods.push(Method::OPTIONS.as_str());
    }
    if let Ok(allow) = HeaderValue::from_str(&methods.join(", ")) {
        headers.insert(header::ALLOW, allow);
    }
    if response.status() == StatusCode::NO_CONTENT {
        // The router adds it for an empty body. A response of this status must not have it (RFC 9110, section 8.6).
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(allow: &'static str) -> String {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        complete(&mut response);
        response.headers()[header::ALLOW].to_str().unwrap().to_owned()
    }

    #[test]
    fn every_path_that_has_methods_has_options_too() {
        assert_eq!(completed("GET,HEAD"), "GET, HEAD, OPTIONS");
        assert_eq!(completed("POST"), "POST, OPTIONS");
        // A publisher passes on what an aggregator has completed.
        assert_eq!(completed("GET, HEAD, OPTIONS"), "GET, HEAD, OPTIONS");
        assert_eq!(completed(""), "OPTIONS");
        let mut response = Response::new(Body::empty());
        complete(&mut response);
        assert!(response.headers().is_empty());
    }

    #[test]
    fn only_a_405_to_options_becomes_a_204() {
        for (method, status, expected) in
            [("OPTIONS", 405, 204), ("OPTIONS", 404, 404), ("OPTIONS", 200, 200), ("POST", 405, 405)]
        {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            let response = to_options(method, response);
            assert_eq!(response.status().as_u16(), expected, "{method} {status}");
            assert_eq!(response.headers()[header::ALLOW], "GET", "{method} {status}");
        }
    }
}
