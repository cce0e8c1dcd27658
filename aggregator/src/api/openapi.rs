//! `/openapi.json`: describes the whole API, including the publisher's part, because one address serves both.

use axum::Json;
use utoipa::OpenApi;
use utoipa::openapi::Components;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice", description = "Stores and counts every event exactly once."),
    paths(
        super::events::list,
        super::events::one,
        super::erase::erase,
        super::conflicts::list,
        super::tail::stream,
        super::outcomes::read,
        super::topics::list,
        super::stats::read,
        super::series::read,
        super::meters::list,
        super::meters::read,
        super::meters::put,
        super::meters::remove,
        super::meters::query,
        super::dead_letters::list,
        super::dead_letters::discard,
        super::replay::one,
        super::replay::matching,
    ),
    tags(
        (name = "events", description = "The stored events"),
        (name = "statistics", description = "Counts per topic and in total"),
        (name = "meters", description = "Exact aggregates of events over time"),
        (name = "dead letters", description = "Entries and events that could not be stored"),
    )
)]
struct Document;

pub(super) async fn document() -> Json<utoipa::openapi::OpenApi> {
    Json(whole())
}

/// Returns the document of the query API merged with that of the publisher.
fn whole() -> utoipa::openapi::OpenApi {
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

    use sluice_auth::policy;
    use sluice_service::code::Code;

    use super::*;

    /// Codes that do not belong to one operation: any request to any path may get them.
    const OF_ANY_REQUEST: [Code; 9] = [
        Code::BadRequest,
        Code::Unauthorized,
        Code::MissingScope,
        Code::MethodNotAllowed,
        Code::HeaderTimeout,
        Code::Internal,
        Code::KeysUnavailable,
        Code::RateLimited,
        Code::CrossSiteRequest,
    ];
    /// The probes are not part of the document.
    const OF_PROBES: [Code; 1] = [Code::NotReady];

    /// Returns each code that is in backticks in the description of an error response, with the status of
    /// that response.
    fn described() -> BTreeSet<(String, u16)> {
        let document = serde_json::to_value(whole()).unwrap();
        let mut found = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                for (status, response) in operation["responses"].as_object().unwrap() {
                    let status: u16 = status.parse().unwrap();
                    if status < 400 {
                        continue;
                    }
                    let description = response["description"].as_str().unwrap();
                    let codes: Vec<_> = description.split('`').skip(1).step_by(2).collect();
                    assert!(!codes.is_empty(), "{method} {path}: {status} names no code: {description}");
                    found.extend(codes.into_iter().map(|code| (code.to_owned(), status)));
                }
            }
        }
        found
    }

    #[test]
    fn each_code_of_an_operation_is_in_the_document_with_its_status_and_no_other_is() {
        let general: Vec<_> = OF_ANY_REQUEST.into_iter().chain(OF_PROBES).collect();
        let expected = Code::ALL.iter().filter(|code| !general.contains(code));
        let expected = expected.map(|code| (code.as_str().to_owned(), code.status().as_u16())).collect();
        assert_eq!(described(), expected);
    }

    #[test]
    fn what_each_operation_needs_is_decided() {
        let document = serde_json::to_value(whole()).unwrap();
        assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
        assert_eq!(document["security"], serde_json::json!([{}, {"token": []}]));
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let is_it =
                    |route: &&policy::Route| route.path == path && route.method.as_str().eq_ignore_ascii_case(method);
                assert_eq!(policy::ROUTES.iter().filter(is_it).count(), 1, "{method} {path}");
            }
        }
    }

    #[test]
    fn one_event_is_answered_as_an_event_or_as_a_page() {
        let document = serde_json::to_value(whole()).unwrap();
        let answer = &document["paths"]["/events/{topic}/{event_id}"]["get"]["responses"]["200"];
        let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str().unwrap();
        let schema = document.pointer(schema.trim_start_matches('#')).unwrap();
        let variants = schema["oneOf"].as_array().unwrap().iter().map(|variant| variant["$ref"].as_str().unwrap());
        assert_eq!(variants.collect::<Vec<_>>(), ["#/components/schemas/Event", "#/components/schemas/Events"]);
    }
}
