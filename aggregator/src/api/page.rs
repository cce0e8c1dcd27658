//! The page for browsers: `/`, and its assets. They are built by `make ui`, committed in `ui/dist`, and a part of the program.
//! The page asks for its data like every other client, so all that it shows needs a token where authentication is on.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use sluice_service::problem::Problem;

use super::problem_lists::AssetProblems;
use super::problems::not_found;

/// What a browser may do for the page: load its own script and style sheet, and ask the server that it came from. Texts from events
/// cannot become markup: no script may assign one, unless by a policy, and there is none.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// A file of the page.
struct Asset {
    name: &'static str,
    media_type: HeaderValue,
    plain: Bytes,
    gzip: Bytes,
    /// The tags of the two forms: caches must not take one for the other.
    tags: [HeaderValue; 2],
}

/// The page itself has no name.
static ASSETS: LazyLock<[Asset; 4]> = LazyLock::new(|| {
    [
        Asset::new("", "text/html; charset=utf-8", include_bytes!("../../../ui/dist/index.html")),
        Asset::new("app.js", "text/javascript; charset=utf-8", include_bytes!("../../../ui/dist/app.js")),
        Asset::new("app.css", "text/css; charset=utf-8", include_bytes!("../../../ui/dist/app.css")),
        Asset::new("icon.svg", "image/svg+xml", include_bytes!("../../../ui/dist/icon.svg")),
    ]
});

/// Returns the routes of the page.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/", get(index)).route("/ui/{asset}", get(asset))
}

impl Asset {
    fn new(name: &'static str, media_type: &'static str, plain: &'static [u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to a vector cannot fail.
        let gzip = encoder.write_all(plain).and_then(|()| encoder.finish()).unwrap_or_default();
        let hash = sluice_event::key::hash128_of_parts(&[plain]);
        let tag = |form: &str| {
            let tag = format!("\"{}-{form}\"", hex::encode(hash));
            HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
        };
        Self {
            name,
            media_type: HeaderValue::from_static(media_type),
            plain: Bytes::from_static(plain),
            gzip: gzip.into(),
            tags: [tag("plain"), tag("gzip")],
        }
    }

    fn answer(&self, request: &HeaderMap) -> Response {
        let compressed = !self.gzip.is_empty() && accepts_gzip(request);
        let tag = &self.tags[usize::from(compressed)];
        let known = request.get(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, tag));
        let headers = [
            (header::ETAG, tag.clone()),
            // Asked for again each time, so that a page is never older than its server.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (PERMISSIONS_POLICY, HeaderValue::from_static("camera=(), geolocation=(), microphone=()")),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let body = if compressed { self.gzip.clone() } else { self.plain.clone() };
        let mut response = (headers, body).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, self.media_type.clone());
        if compressed {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Returns whether a client takes gzip: it names it, and not with the weight 0.
fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

/// Returns whether a client has the form with this tag already.
fn names(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let Ok(tags) = tags.to_str() else { return false };
    tags.split(',')
        .map(|known| known.trim().trim_start_matches("W/"))
        .any(|known| known == "*" || known.as_bytes() == tag.as_bytes())
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Returns the page for browsers. It needs no token, and has no data.
#[utoipa::path(get, path = "/", operation_id = "get_page", tag = "server",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        AssetProblems,
    ))]
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    find("").map(|asset| asset.answer(&headers)).ok_or_else(missing)
}

/// Returns a file of the page.
#[utoipa::path(get, path = "/ui/{asset}", operation_id = "get_page_asset", tag = "server",
    params(("asset" = String, Path, description = "Its name", example = "app.js")),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/css"), (String = "text/javascript"), (String = "image/svg+xml"))),
        AssetProblems,
    ))]
pub(super) async fn asset(headers: HeaderMap, name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|_| missing())?;
    find(&name).map(|asset| asset.answer(&headers)).ok_or_else(missing)
}

fn missing() -> Problem {
    not_found("the page has no such file")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound that the documentation states.
    const MAX_BYTES: usize = 150 << 10;

    #[test]
    fn the_whole_page_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        assert!((1..MAX_BYTES).contains(&bytes), "{bytes} bytes compressed");
        assert!(ASSETS.iter().all(|asset| !asset.gzip.is_empty() && !asset.plain.is_empty()));
    }

    #[test]
    fn a_client_gets_the_form_that_it_takes_and_nothing_that_it_has() {
        let headers =
            |name: HeaderName, value: &str| HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
        for (accepted, expected) in
            [("gzip", true), ("br, GZIP;q=0.5", true), ("gzip;q=0", false), ("br", false), ("gzip;q=x", false)]
        {
            let answer = find("app.js").unwrap().answer(&headers(header::ACCEPT_ENCODING, accepted));
            assert_eq!(answer.headers().contains_key(header::CONTENT_ENCODING), expected, "{accepted}");
        }
        let asset = find("").unwrap();
        let tag = asset.tags[0].to_str().unwrap();
        for (sent, expected) in [(tag.to_owned(), 304), (format!("\"a\", W/{tag}"), 304), ("\"a\"".to_owned(), 200)] {
            let answer = asset.answer(&headers(header::IF_NONE_MATCH, &sent));
            assert_eq!(answer.status().as_u16(), expected, "{sent}");
            assert_eq!(answer.headers()[header::ETAG], tag);
        }
    }
}
