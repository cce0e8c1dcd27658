//! `/openapi.json`: describes the whole API, including the publisher's part, because one address serves both.

use std::sync::LazyLock;

use axum::Json;
use serde_json::Value;
use sluice_auth::policy::{self, Need};
use sluice_service::openapi;
use utoipa::OpenApi;
use utoipa::openapi::Components;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice", description = "Stores and counts every event exactly once.\n\n\
        Each path with `get` has `HEAD` too: the same status and headers, and no body. `OPTIONS` of each path is 204 with its \
        methods in the header `Allow`."),
    paths(
        super::events::list,
        super::events::one,
        super::erase::erase,
        super::conflicts::list,
        super::tail::stream,
        super::outcomes::read,
        super::topics::list,
        super::overview::read,
        super::stats::read,
        super::series::read,
        super::meters::list,
        super::meters::read,
        super::meters::put,
        super::meters::remove,
        super::meters::query,
        super::schemas::list,
        super::schemas::read,
        super::schemas::versions,
        super::schemas::put,
        super::schemas::remove,
        super::dead_letters::list,
        super::dead_letters::discard,
        super::replay::one,
        super::replay::matching,
        super::page::index,
        super::page::asset,
        super::server_paths::healthz,
        super::server_paths::readyz,
        super::server_paths::metrics,
        document,
    ),
    tags(
        (name = "events", description = "The stored events"),
        (name = "statistics", description = "Counts per topic and in total"),
        (name = "meters", description = "Exact aggregates of events over time"),
        (name = "schemas", description = "JSON Schemas of payloads"),
        (name = "dead letters", description = "Entries and events that could not be stored"),
        (name = "server", description = "Probes, metrics, this document, and the page for browsers"),
    )
)]
struct Document;

/// Returns this document.
#[utoipa::path(get, path = "/openapi.json", operation_id = "get_document", tag = "server",
    responses((status = 200, description = "The OpenAPI document", body = Object, content_type = "application/json")))]
pub(super) async fn document() -> Json<&'static Value> {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(whole);
    Json(&DOCUMENT)
}

/// Returns the document of the query API merged with that of the publisher, complete.
fn whole() -> Value {
    let mut document = serde_json::to_value(merged()).unwrap_or_default();
    openapi::complete(&mut document, |method, path| {
        let route = policy::ROUTES
            .iter()
            .find(|route| route.path == path && route.method.as_str().eq_ignore_ascii_case(method));
        route.is_none_or(|route| route.need != Need::Nothing)
    });
    document
}

fn merged() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    document.merge(sluice_publisher::openapi());
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_with(Components::new).add_security_scheme("token", token);
    // The first says that none is needed, which is so for servers without authentication.
    let needs = [SecurityRequirement::default(), SecurityRequirement::new("token", [""; 0])];
    document.security = Some(needs.to_vec());
    document
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sluice_service::code::Code;

    use super::*;

    /// Returns each code of a response, with the status of that response.
    fn described() -> BTreeSet<(String, u16)> {
        let document = whole();
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let responses = operations.flat_map(|operation| operation["responses"].as_object().unwrap());
        let codes = responses.flat_map(|(status, response)| {
            let examples = response["content"]["application/problem+json"]["examples"].as_object();
            examples.into_iter().flatten().map(|(code, _)| (code.clone(), status.parse().unwrap()))
        });
        codes.collect()
    }

    #[test]
    fn each_code_is_in_the_document_with_its_status_and_no_other_is() {
        let codes = Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().as_u16()));
        let heads = [("uri_too_long".to_owned(), 414), ("headers_too_long".to_owned(), 431)];
        assert_eq!(described(), codes.chain(heads).collect());
    }

    #[test]
    fn the_operations_are_the_routes_for_which_it_is_decided_what_they_need() {
        let document = whole();
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        assert_eq!(document["security"], serde_json::json!([{}, {"token": []}]));
        let paths = document["paths"].as_object().unwrap().iter();
        let operations: BTreeSet<_> = paths
            .flat_map(|(path, operations)| {
                operations.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
            })
            .collect();
        let routes = policy::ROUTES.iter().map(|route| format!("{} {}", route.method, route.path));
        assert_eq!(operations, routes.collect());
    }

    #[test]
    fn one_event_is_answered_as_an_event_or_as_a_page() {
        let document = whole();
        let answer = &document["paths"]["/events/{topic}/{event_id}"]["get"]["responses"]["200"];
        let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let schema = document.pointer(schema.trim_start_matches('#')).unwrap();
        let variants = schema["oneOf"].as_array().unwrap().iter().map(|variant| variant["$ref"].as_str().unwrap());
        assert_eq!(variants.collect::<Vec<_>>(), ["#/components/schemas/Event", "#/components/schemas/EventPage"]);
    }
}
