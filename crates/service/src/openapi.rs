//! What the operations of an OpenAPI document have in common: the problems that any request can be answered with, and
//! the headers of answers.
//!
//! An operation names only its own problems, with [`problem_responses`](crate::problem_responses). [`complete`] adds those
//! of every operation, and writes one response for each status from the codes, so that none of them is written by hand.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Response};

use crate::code::Code;
use crate::event_errors::{EventError, EventErrors};
use crate::problem::{self, MEDIA_TYPE, Problem};

/// Heads that hyper refuses have these statuses, with the code `bad_request`.
const HEAD_STATUSES: [StatusCode; 2] = [StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];

/// Declares types that stand, in the `responses(…)` of an operation, for the problems with the codes of these slices.
#[macro_export]
macro_rules! problem_responses {
    ($($(#[$doc:meta])* $visibility:vis $name:ident: $($codes:expr),+;)+) => {
        $(
            $(#[$doc])*
            $visibility struct $name;

            impl utoipa::IntoResponses for $name {
                fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                    $crate::openapi::responses(&[$(&$codes),+])
                }
            }
        )+
    };
}

/// Returns the responses with these codes, one for each status. Their descriptions name the codes: [`complete`] reads them.
pub fn responses(codes: &[&[Code]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for code in codes.iter().copied().flatten() {
        by_status.entry(code.status().as_str().to_owned()).or_default().push(format!("`{code}`"));
    }
    by_status.into_iter().map(|(status, codes)| (status, Response::new(codes.join(", ")).into())).collect()
}

/// Completes a document. `needs_token` tells of a method and a path whether a server with authentication needs a token
/// there.
pub fn complete(document: &mut Value, needs_token: impl Fn(&str, &str) -> bool) {
    unite(document);
    for (path, operations) in members(document.get_mut("paths")) {
        for (method, operation) in members(Some(operations)) {
            let common = common(method, needs_token(method, path));
            for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
                remove_null(parameter);
            }
            for (_, response) in members(operation.get_mut("responses")) {
                members(response.get_mut("headers")).for_each(|(_, header)| remove_null(header));
            }
            if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
                complete_responses(responses, &common);
            }
        }
    }
    if let Some(components) = document.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("headers".to_owned(), headers());
        components.insert("examples".to_owned(), examples());
    }
}

fn members(object: Option<&mut Value>) -> impl Iterator<Item = (&String, &mut Value)> {
    object.and_then(Value::as_object_mut).into_iter().flatten()
}

/// Unites `allOf` of a schema and of an object with nothing but a default or an example of it, which the macros write for
/// an enum that is in another schema. What they mean is one schema: a text is never an object.
fn unite(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(unite),
        Value::Object(members) => {
            members.values_mut().for_each(unite);
            let parts = members.get("allOf").and_then(Value::as_array);
            if let Some([Value::Object(schema), Value::Object(rest)]) = parts.map(Vec::as_slice)
                && !schema.contains_key("$ref")
                && !rest.contains_key("properties")
            {
                let rest = rest.iter().filter(|(name, _)| *name != "type");
                let mut united: Map<_, _> =
                    schema.iter().chain(rest).map(|(name, part)| (name.clone(), part.clone())).collect();
                members.remove("allOf");
                united.append(members);
                *members = united;
            }
        }
        _ => {}
    }
}

/// A parameter or a header that is not sent is absent, and never null.
fn remove_null(parameter: &mut Value) {
    let Some(schema) = parameter.get_mut("schema") else { return };
    let is_null = |kind: &Value| *kind == "null" || *kind == json!({"type": "null"});
    for of in ["type", "oneOf"] {
        let kinds = schema.get(of).and_then(Value::as_array).into_iter().flatten();
        let others: Vec<_> = kinds.filter(|kind| !is_null(kind)).cloned().collect();
        match <[Value; 1]>::try_from(others) {
            Ok([Value::Object(only)]) => *schema = only.into(),
            Ok([only]) => schema[of] = only,
            Err(_) => {}
        }
    }
}

/// The codes of a response by its status, which those of heads share.
type Codes = BTreeMap<StatusCode, BTreeSet<&'static str>>;

/// Returns what any operation can be answered with.
fn common(method: &str, needs_token: bool) -> Codes {
    let mut codes = vec![Code::BadRequest, Code::MethodNotAllowed, Code::HeaderTimeout, Code::Internal];
    if needs_token {
        codes.extend([
            Code::Unauthorized,
            Code::MissingScope,
            Code::NotFound,
            Code::RateLimited,
            Code::KeysUnavailable,
        ]);
    }
    if method != "get" {
        codes.push(Code::CrossSiteRequest);
    }
    let mut common = Codes::new();
    for code in codes {
        common.entry(code.status()).or_default().insert(code.as_str());
    }
    for status in HEAD_STATUSES {
        common.entry(status).or_default().insert(name_of_head(status));
    }
    common
}

/// Returns the name of the example of a refused head.
fn name_of_head(status: StatusCode) -> &'static str {
    if status == StatusCode::URI_TOO_LONG { "uri_too_long" } else { "headers_too_long" }
}

fn complete_responses(responses: &mut Map<String, Value>, common: &Codes) {
    let mut codes = common.clone();
    responses.retain(|status, response| {
        let status = status.parse::<StatusCode>().unwrap_or(StatusCode::OK);
        let is_problem = status.is_client_error() || status.is_server_error();
        if is_problem {
            codes.entry(status).or_default().extend(named(response));
        }
        !is_problem
    });
    for response in responses.values_mut() {
        if let Some(response) = response.as_object_mut() {
            let headers = response.entry("headers").or_insert_with(|| json!({}));
            headers["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        }
    }
    responses.extend(codes.iter().map(|(status, codes)| (status.as_str().to_owned(), response(*status, codes))));
}

/// Returns the codes that a description names.
fn named(response: &Value) -> impl Iterator<Item = &'static str> {
    let description = response.get("description").and_then(Value::as_str).unwrap_or_default();
    let words: BTreeSet<_> = description.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Code::ALL.iter().map(|code| code.as_str()).filter(move |code| words.contains(*code))
}

/// Returns the response with one of these codes.
fn response(status: StatusCode, codes: &BTreeSet<&'static str>) -> Value {
    let of_code = |name: &&str| Code::ALL.iter().find(|code| code.as_str() == *name);
    let lines = codes.iter().map(|name| match of_code(name) {
        Some(code) => format!("`{name}`: {}", code.meaning()),
        None => format!("`{}`: {}.", Code::BadRequest, problem::of_head(status).detail()),
    });
    let description = lines.collect::<Vec<_>>().join("\n\n");
    let examples =
        codes.iter().map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/examples/{name}")})));
    let examples: Map<_, _> = examples.collect();
    let headers = ["X-Request-Id"].into_iter().chain(codes.iter().filter_map(|name| header_of(*of_code(name)?)));
    let headers: Map<_, _> =
        headers.map(|name| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))).collect();
    json!({
        "description": description,
        "headers": headers,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}},
    })
}

/// Returns the header that a response with this code has, or may have.
fn header_of(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthorized | Code::MissingScope => Some("WWW-Authenticate"),
        Code::MethodNotAllowed => Some("Allow"),
        Code::UnsupportedMediaType => Some("Accept-Encoding"),
        Code::NotReady => None,
        _ => matches!(code.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            .then_some("Retry-After"),
    }
}

/// Returns the headers that responses refer to.
fn headers() -> Value {
    let text = |description: &str, example: &str, required: bool| json!({"description": description, "required": required, "schema": {"type": "string", "examples": [example]}});
    json!({
        "X-Request-Id": {
            "description": "The id of the request: the one that it brought, if that is a UUID. The server's log has it.",
            "required": true,
            "schema": {"type": "string", "format": "uuid", "examples": ["0195f3a0-1111-4222-8333-444455556666"]},
        },
        "Retry-After": {
            "description": "After how many seconds the client may come back.",
            "required": true,
            "schema": {"type": "integer", "minimum": 1, "examples": [2]},
        },
        "Allow": text("The methods that the path has.", "GET, HEAD, OPTIONS", true),
        "WWW-Authenticate": text(
            "How a request must be authenticated. It is missing if a token is not for a topic, and where a page of another \
             site is refused.", "Bearer realm=\"sluice\"", false),
        "Accept-Encoding": text(
            "The content codings that a body may have, if it had another one.", "gzip, zstd", false),
    })
}

/// Returns an example of each problem.
fn examples() -> Value {
    let codes = Code::ALL.iter().map(|code| (code.as_str(), example(*code)));
    let heads = HEAD_STATUSES.map(|status| (name_of_head(status), problem::of_head(status)));
    codes.chain(heads).map(|(name, problem)| (name.to_owned(), json!({"value": problem}))).collect::<Map<_, _>>().into()
}

fn example(code: Code) -> Problem {
    let problem = Problem::new(code, code.meaning());
    match code {
        Code::InvalidEvent => {
            let detail = "events[1].event_id: must not be blank".to_owned();
            let error = EventError::new(code, Some(1), Some("event_id"), detail.clone());
            let errors = EventErrors { first: vec![error], count: 1 };
            Problem::new(code, detail).at(Some(1), Some("event_id")).errors(errors)
        }
        Code::InvalidQuery => {
            Problem::new(code, "limit: must be a whole number from 1 to 1000").at(None, Some("limit"))
        }
        Code::InvalidMeter => Problem::new(code, "value: is needed for `sum`").at(None, Some("value")),
        _ => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed() -> Value {
        let mut document = json!({"components": {}, "paths": {"/things": {
            "get": {
                "parameters": [{"schema": {"type": ["string", "null"], "maxLength": 5}}, {"schema": {"type": "integer"}},
                    {"schema": {"oneOf": [{"enum": ["a", "b"]}, {"type": "null"}]}}],
                "responses": {
                    "200": {"description": "A `thing`"},
                    "403": {"description": "`topic_not_allowed`"},
                    "503": {"description": "`store_unavailable`, by hand"},
                },
            },
            "post": {"responses": {}},
        }, "/open": {"get": {"responses": {"503": {"description": "`not_ready`"}}}}}});
        complete(&mut document, |_, path| path != "/open");
        document
    }

    fn codes(response: &Value) -> Vec<&str> {
        response["content"][MEDIA_TYPE]["examples"].as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn an_operation_has_its_own_problems_and_those_of_every_operation() {
        let document = completed();
        let responses = &document["paths"]["/things"]["get"]["responses"];
        let statuses: Vec<_> = responses.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(statuses, ["200", "400", "401", "403", "404", "405", "408", "414", "429", "431", "500", "503"]);
        assert_eq!(codes(&responses["403"]), ["missing_scope", "topic_not_allowed"]);
        assert_eq!(codes(&responses["503"]), ["keys_unavailable", "store_unavailable"]);
        assert_eq!(codes(&responses["414"]), ["uri_too_long"]);
        let description = responses["503"]["description"].as_str().unwrap();
        assert!(description.contains("\n\n`store_unavailable`: the store does not answer."), "{description}");
        let post = &document["paths"]["/things"]["post"]["responses"];
        assert_eq!(codes(&post["403"]), ["cross_site_request", "missing_scope"]);
        let open = &document["paths"]["/open"]["get"]["responses"];
        assert!(open.get("401").is_none() && open.get("429").is_none(), "{open}");
        assert_eq!(codes(&open["503"]), ["not_ready"]);
    }

    #[test]
    fn each_response_has_the_headers_that_its_codes_have() {
        let document = completed();
        let operation = &document["paths"]["/things"]["get"];
        let names = |status: &str| -> Vec<_> {
            operation["responses"][status]["headers"].as_object().unwrap().keys().map(String::as_str).collect()
        };
        for (status, expected) in [
            ("200", &["X-Request-Id"][..]),
            ("401", &["WWW-Authenticate", "X-Request-Id"]),
            ("405", &["Allow", "X-Request-Id"]),
            ("500", &["X-Request-Id"]),
            ("503", &["Retry-After", "X-Request-Id"]),
        ] {
            assert_eq!(names(status), expected, "{status}");
        }
        let open = &document["paths"]["/open"]["get"]["responses"]["503"]["headers"];
        assert!(open.get("Retry-After").is_none(), "{open}");
    }

    #[test]
    fn each_reference_has_a_target_and_each_code_has_an_example_with_its_status() {
        let document = completed();
        for reference in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(pointer.ends_with("/Problem") || document.pointer(pointer).is_some(), "{pointer}");
        }
        for code in Code::ALL {
            let example = &document["components"]["examples"][code.as_str()]["value"];
            assert_eq!((&example["code"], &example["status"]), (&json!(code.as_str()), &json!(code.status().as_u16())));
        }
        assert_eq!(document["components"]["examples"]["headers_too_long"]["value"]["status"], 431);
    }

    #[test]
    fn an_enum_with_a_default_is_one_schema() {
        let of_macro =
            |first: Value| json!({"allOf": [first, {"type": "object", "default": "a"}], "description": "What"});
        let mut schema = json!({"schema": of_macro(json!({"type": "string", "enum": ["a", "b"]}))});
        unite(&mut schema);
        let expected = json!({"type": "string", "enum": ["a", "b"], "default": "a", "description": "What"});
        assert_eq!(schema["schema"], expected);
        let mut referring = of_macro(json!({"$ref": "#/components/schemas/Thing"}));
        unite(&mut referring);
        assert!(referring["allOf"].is_array(), "{referring}");
    }

    #[test]
    fn a_parameter_is_never_null() {
        let document = completed();
        let parameters = &document["paths"]["/things"]["get"]["parameters"];
        assert_eq!(parameters[0]["schema"], json!({"type": "string", "maxLength": 5}));
        assert_eq!(parameters[1]["schema"], json!({"type": "integer"}));
        assert_eq!(parameters[2]["schema"], json!({"enum": ["a", "b"]}));
    }
}
