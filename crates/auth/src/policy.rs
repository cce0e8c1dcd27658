//! What each route needs. Routes that are not in the table need [`Scope::Admin`], so that a new route is closed until
//! somebody decides about it.

use axum::http::Method;

use crate::Scope;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody may ask.
    Nothing,
    /// A token of any scope.
    Token,
    /// A token with this scope.
    Scope(Scope),
}

/// A route, and what it needs.
#[derive(Debug, Clone)]
pub struct Route {
    /// The method; `GET` stands for `HEAD` too.
    pub method: Method,
    /// The path, in which `{name}` stands for one segment.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
}

const fn route(method: Method, path: &'static str, need: Need) -> Route {
    Route { method, path, need }
}

/// Every route of the programs. The most frequent one comes first.
pub const ROUTES: &[Route] = &[
    route(Method::POST, "/publish", Need::Scope(Scope::Publish)),
    route(Method::GET, "/healthz", Need::Nothing),
    route(Method::GET, "/readyz", Need::Nothing),
    route(Method::GET, "/events", Need::Scope(Scope::Read)),
    route(Method::GET, "/events/tail", Need::Scope(Scope::Read)),
    route(Method::GET, "/events/{topic}/{event_id}", Need::Scope(Scope::Read)),
    route(Method::DELETE, "/events/{topic}/{event_id}", Need::Scope(Scope::Admin)),
    route(Method::GET, "/conflicts", Need::Scope(Scope::Read)),
    route(Method::GET, "/outcomes/{receipt}", Need::Scope(Scope::Publish)),
    route(Method::GET, "/topics", Need::Scope(Scope::Read)),
    route(Method::GET, "/overview", Need::Scope(Scope::Read)),
    route(Method::GET, "/stats", Need::Scope(Scope::Read)),
    route(Method::GET, "/stats/series", Need::Scope(Scope::Read)),
    route(Method::GET, "/meters", Need::Scope(Scope::Read)),
    route(Method::POST, "/meters/query", Need::Scope(Scope::Read)),
    route(Method::GET, "/meters/{name}", Need::Scope(Scope::Read)),
    route(Method::PUT, "/meters/{name}", Need::Scope(Scope::Admin)),
    route(Method::DELETE, "/meters/{name}", Need::Scope(Scope::Admin)),
    route(Method::GET, "/schemas", Need::Scope(Scope::Read)),
    route(Method::GET, "/topics/{topic}/schema", Need::Scope(Scope::Read)),
    route(Method::GET, "/topics/{topic}/schema/versions", Need::Scope(Scope::Read)),
    route(Method::PUT, "/topics/{topic}/schema", Need::Scope(Scope::Admin)),
    route(Method::DELETE, "/topics/{topic}/schema", Need::Scope(Scope::Admin)),
    route(Method::GET, "/dead-letters", Need::Scope(Scope::Read)),
    route(Method::DELETE, "/dead-letters/{id}", Need::Scope(Scope::Admin)),
    route(Method::POST, "/dead-letters/replay", Need::Scope(Scope::Admin)),
    route(Method::POST, "/dead-letters/{id}/replay", Need::Scope(Scope::Admin)),
    route(Method::GET, "/openapi.json", Need::Token),
    // The page has no data. It asks for them with the token that its user signs in with.
    route(Method::GET, "/", Need::Nothing),
    route(Method::GET, "/ui/{asset}", Need::Nothing),
    route(Method::GET, "/metrics", Need::Scope(Scope::Admin)),
];

/// Returns what a request needs.
pub fn need(method: &Method, path: &str) -> Need {
    // Which methods a path has is said in the documentation. A token is needed all the same, as for everything but probes.
    if *method == Method::OPTIONS {
        return Need::Token;
    }
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let route = ROUTES.iter().find(|route| route.method == *method && covers(route.path, path));
    route.map_or(Need::Scope(Scope::Admin), |route| route.need)
}

/// Returns whether a path belongs to a route. Nothing is decoded or normalised, because the router does not either.
fn covers(pattern: &str, path: &str) -> bool {
    if !pattern.contains('{') {
        return pattern == path;
    }
    let mut segments = path.split('/');
    let alike = pattern.split('/').all(|expected| {
        segments.next().is_some_and(|segment| (expected.starts_with('{') && !segment.is_empty()) || expected == segment)
    });
    alike && segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PUBLISH: Need = Need::Scope(Scope::Publish);
    const READ: Need = Need::Scope(Scope::Read);
    const ADMIN: Need = Need::Scope(Scope::Admin);

    #[test]
    fn each_route_needs_what_its_row_says_and_everything_else_needs_an_admin() {
        for (method, path, expected) in [
            (Method::POST, "/publish", PUBLISH),
            (Method::GET, "/publish", ADMIN),
            (Method::PUT, "/publish", ADMIN),
            (Method::POST, "/publish/", ADMIN),
            (Method::POST, "//publish", ADMIN),
            (Method::POST, "/PUBLISH", ADMIN),
            (Method::GET, "/events", READ),
            (Method::HEAD, "/events", READ),
            (Method::POST, "/events", ADMIN),
            (Method::GET, "/events/tail", READ),
            (Method::POST, "/events/tail", ADMIN),
            (Method::GET, "/events/a/b", READ),
            (Method::DELETE, "/events/a/b", ADMIN),
            (Method::GET, "/conflicts", READ),
            (Method::GET, "/outcomes/1", PUBLISH),
            (Method::GET, "/events/a%2Fb/c", READ),
            (Method::GET, "/events/a", ADMIN),
            (Method::GET, "/events/a/b/c", ADMIN),
            (Method::GET, "/events/a/", ADMIN),
            (Method::GET, "/dead-letters", READ),
            (Method::GET, "/meters/sales", READ),
            (Method::PUT, "/meters/sales", ADMIN),
            (Method::POST, "/meters/query", READ),
            (Method::GET, "/schemas", READ),
            (Method::GET, "/topics/a%2Fb/schema", READ),
            (Method::GET, "/topics/a/schema/versions", READ),
            (Method::PUT, "/topics/a/schema", ADMIN),
            (Method::DELETE, "/topics/a/schema", ADMIN),
            (Method::DELETE, "/dead-letters/1", ADMIN),
            (Method::POST, "/dead-letters/replay", ADMIN),
            (Method::POST, "/dead-letters/1/replay", ADMIN),
            (Method::GET, "/metrics", ADMIN),
            (Method::GET, "/healthz", Need::Nothing),
            (Method::HEAD, "/readyz", Need::Nothing),
            (Method::POST, "/readyz", ADMIN),
            (Method::GET, "/openapi.json", Need::Token),
            (Method::OPTIONS, "/stats", Need::Token),
            (Method::OPTIONS, "/nowhere", Need::Token),
            (Method::GET, "/", Need::Nothing),
            (Method::POST, "/", ADMIN),
            (Method::GET, "/ui/app.js", Need::Nothing),
            (Method::GET, "/ui", ADMIN),
            (Method::GET, "/ui/", ADMIN),
            (Method::GET, "/ui/a/b", ADMIN),
            (Method::GET, "/overview", READ),
            (Method::GET, "*", ADMIN),
        ] {
            assert_eq!(need(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_table_is_that_of_the_documentation() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/security.md")).unwrap();
        let (_, section) = text.split_once("\n## Authorization\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| {
            let (route, need) = row.split_once("` | ")?;
            let first = need.trim_matches(['|', ' ']).split(';').next()?.trim_matches('`').to_owned();
            route.contains(" /").then(|| (route.to_owned(), first))
        });
        let documented: BTreeMap<_, _> = rows.collect();
        let routes = ROUTES.iter().map(|Route { method, path, need }| {
            let need = match need {
                Need::Nothing => "nothing",
                Need::Token => "any scope",
                Need::Scope(scope) => scope.as_str(),
            };
            (format!("{method} {path}"), need.to_owned())
        });
        assert_eq!(documented, routes.collect());
    }
}
