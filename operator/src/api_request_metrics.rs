//! Counts the requests that the operator sends to the API server, by verb.

use axum::http::{Method, Request, Uri};
use kube::client::Body;
use tower::util::MapRequestLayer;

/// Counts a request and passes it on unchanged.
pub type Counted = MapRequestLayer<fn(Request<Body>) -> Request<Body>>;

/// The layer of the client that counts requests. A request that the client repeats by itself, after status 429,
/// 503 or 504, counts once.
pub fn counted() -> Counted {
    MapRequestLayer::new(count)
}

fn count(request: Request<Body>) -> Request<Body> {
    metrics::counter!(crate::metrics::API_REQUESTS.name, "verb" => verb(request.method(), request.uri())).increment(1);
    request
}

fn verb(method: &Method, uri: &Uri) -> &'static str {
    match *method {
        Method::GET if is_watch(uri) => "watch",
        Method::GET if names_one(uri) => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Whether the path ends with the name of an object. Such a path is `/api/V` or `/apis/GROUP/V`, then
/// `namespaces/NAMESPACE` if the kind is namespaced, then the kind, and then the name.
fn names_one(uri: &Uri) -> bool {
    let parts: Vec<_> = uri.path().trim_matches('/').split('/').collect();
    let kind = match parts.as_slice() {
        ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
        // A path of the server itself, such as `/version`.
        _ => return true,
    };
    let kind = match kind {
        ["namespaces", _, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    };
    kind.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_under_the_verb_that_rbac_knows_it_by() {
        let pods = "/api/v1/namespaces/a/pods";
        let sets = "/apis/apps/v1/statefulsets";
        for (method, uri, expected) in [
            (Method::GET, pods.to_owned(), "list"),
            (Method::GET, format!("{pods}?labelSelector=a%3Db&limit=500"), "list"),
            (Method::GET, format!("{pods}/x"), "get"),
            (Method::GET, format!("{pods}/x/log"), "get"),
            (Method::GET, sets.to_owned(), "list"),
            (Method::GET, format!("{sets}?labelSelector=a&watch=true&resourceVersion=7"), "watch"),
            (Method::GET, "/api/v1/namespaces".to_owned(), "list"),
            (Method::GET, "/api/v1/namespaces/a".to_owned(), "get"),
            (Method::GET, "/version".to_owned(), "get"),
            (Method::POST, pods.to_owned(), "create"),
            (Method::PUT, format!("{pods}/x"), "update"),
            (Method::PATCH, format!("{pods}/x/status"), "patch"),
            (Method::DELETE, format!("{pods}/x"), "delete"),
            (Method::OPTIONS, pods.to_owned(), "other"),
        ] {
            assert_eq!(verb(&method, &uri.parse().unwrap()), expected, "{method} {uri}");
        }
    }
}
