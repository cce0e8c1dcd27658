//! A compiled schema, and what it says of a payload.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, ValidationOptions};
use serde_json::Value;

use crate::bounds;
use crate::invalid::InvalidSchema;
use crate::metered::{Metered, Part, within};
use crate::text::shown;

/// The largest compiled pattern, and what its automaton may take in memory, in bytes.
const PATTERN_BYTES: usize = 256 << 10;
/// The steps that each payload may take, and those for each of its bytes. A step takes some tens of nanoseconds.
const STEPS: u64 = 20_000;
const STEPS_PER_BYTE: u64 = 32;

/// A schema that payloads are compared with.
pub struct Validator(jsonschema::Validator<Metered>);

/// Why a payload does not match a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The place in the payload, as a JSON pointer.
    pub pointer: String,
    /// Why, in words, without values of the payload.
    pub reason: String,
}

impl Violation {
    /// Returns it with the place in what contains the payload at this JSON pointer.
    #[must_use]
    pub fn within(self, pointer: &str) -> Self {
        Self { pointer: format!("{pointer}{}", self.pointer), ..self }
    }
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Validator")
    }
}

impl Validator {
    /// Compiles a schema. It says by `$schema` which draft it has; by default it is 2020-12.
    ///
    /// # Errors
    /// What is wrong with the schema, and where.
    pub fn compile(schema: &Value) -> Result<Self, InvalidSchema> {
        bounds::check(schema)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        let options = ValidationOptions::<_, Metered>::default()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            // A payload would decide how long it takes to compile its pattern.
            .with_format("regex", |_: &str| true)
            .offline();
        options.build(schema).map(Self).map_err(|error| invalid(&error))
    }

    /// Checks a payload.
    ///
    /// # Errors
    /// The first place where it does not match. A payload that cannot be checked, because it takes too many steps or has a
    /// number that is no number for the library, does not match either.
    pub fn check(&self, payload: &str) -> Result<(), Violation> {
        let whole = |reason: String| Violation { pointer: String::new(), reason };
        let value: Value =
            serde_json::from_str(payload).map_err(|error| whole(format!("cannot be checked: {error}")))?;
        let part = Part(&value);
        let steps = STEPS + STEPS_PER_BYTE * payload.len() as u64;
        match within(steps, || self.0.is_valid(part)) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => return Err(whole("cannot be checked: comparing it with the schema takes too many steps".into())),
        }
        // Looking for the reason is more work than finding out that there is one.
        let found = within(steps, || self.0.validate(part).err().map(|error| violation(&error))).flatten();
        Err(found.unwrap_or_else(|| whole("does not match the schema".into())))
    }
}

fn violation(error: &ValidationError<'_>) -> Violation {
    let reason = error.masked_with("the value").to_string();
    Violation { pointer: shown(error.instance_path().to_string()), reason: shown(reason) }
}

/// Returns why a schema is none, in words.
fn invalid(error: &ValidationError<'_>) -> InvalidSchema {
    let pointer = error.instance_path().to_string();
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => {
            let reason =
                "is no pattern that can be used: it is malformed, too large, or has a look-around or a back-reference";
            InvalidSchema::at(pointer, reason)
        }
        // For example of the two forms of `type`: what the first of them says.
        ValidationErrorKind::AnyOf { context } => match context.first().and_then(|errors| errors.first()) {
            Some(first) => InvalidSchema::at(first.instance_path().to_string(), first.to_string()),
            None => InvalidSchema::at(pointer, error.to_string()),
        },
        _ => InvalidSchema::at(pointer, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn of(schema: &Value) -> Validator {
        Validator::compile(schema).unwrap_or_else(|error| panic!("{schema}: {error}"))
    }

    fn violates(schema: &Value, payload: &str) -> (String, String) {
        let Violation { pointer, reason } = of(schema).check(payload).expect_err(payload);
        (pointer, reason)
    }

    #[test]
    fn a_violation_has_its_place_and_its_reason_without_the_value() {
        let schema = json!({"properties": {"a/b": {"items": {"type": "string", "maxLength": 3}}}, "required": ["id"]});
        assert_eq!(of(&schema).check(r#"{"id":1,"a/b":["x"]}"#), Ok(()));
        let (pointer, reason) = violates(&schema, r#"{"id":1,"a/b":["x","secret"]}"#);
        assert_eq!((&*pointer, &*reason), ("/a~1b/1", "the value is longer than 3 characters"));
        let (pointer, reason) = violates(&schema, "{}");
        assert_eq!((&*pointer, &*reason), ("", "\"id\" is a required property"));
        let (_, reason) = violates(&json!({"const": "x".repeat(1_000)}), "1");
        assert!(reason.len() < 310 && reason.ends_with('…'), "{reason}");
    }

    #[test]
    fn each_draft_is_read_by_its_own_rules() {
        let schema = |draft: &str| json!({"$schema": draft, "items": [{"type": "integer"}], "additionalItems": false});
        for draft in [
            "http://json-schema.org/draft-04/schema#",
            "http://json-schema.org/draft-06/schema#",
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2019-09/schema",
        ] {
            assert_eq!(of(&schema(draft)).check("[1]"), Ok(()), "{draft}");
            assert!(of(&schema(draft)).check("[1,2]").is_err(), "{draft}");
        }
        let newest = json!({"prefixItems": [{"type": "integer"}], "items": false});
        assert!(of(&newest).check("[1]").is_ok() && of(&newest).check("[1,2]").is_err());
        let error = Validator::compile(&json!({"$schema": "https://example.com/mine"})).unwrap_err();
        assert!(error.reason.contains("https://example.com/mine"), "{error}");
    }

    #[test]
    fn formats_are_checked_in_every_draft() {
        for draft in ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"] {
            let schema = json!({"$schema": draft, "format": "date-time"});
            assert!(of(&schema).check("\"2026-11-29T10:00:00Z\"").is_ok(), "{draft}");
            assert!(of(&schema).check("\"yesterday\"").is_err(), "{draft}");
        }
        assert_eq!(of(&json!({"format": "of-our-own"})).check("\"x\""), Ok(()), "an unknown one says nothing");
        assert_eq!(of(&json!({"format": "regex"})).check("\"(((a{1,99}){1,99}){1,99}){1,99}(\""), Ok(()));
    }

    #[test]
    fn patterns_are_those_of_a_linear_engine() {
        assert!(of(&json!({"pattern": "^[A-Z]{3}-\\d+$"})).check("\"ABC-12\"").is_ok());
        for pattern in ["(?=a)b", "(a)\\1", "(", "((((a{1,100}){1,100}){1,100}){1,100})"] {
            let error = Validator::compile(&json!({"properties": {"a": {"pattern": pattern}}})).unwrap_err();
            assert_eq!(error.pointer.as_deref(), Some("/properties/a/pattern"), "{pattern}");
            assert!(error.reason.contains("no pattern that can be used"), "{pattern}: {error}");
        }
        let pathological = of(&json!({"pattern": "^(a+)+$"}));
        assert!(pathological.check(&format!("\"{}b\"", "a".repeat(50_000))).is_err());
    }

    #[test]
    fn a_payload_that_takes_too_many_steps_does_not_match() {
        let mut branches: Vec<_> = (0..3_000).map(|n| json!({"type": "string", "minLength": n + 100})).collect();
        branches.push(json!({"type": "string"}));
        let schema = of(&json!({"items": {"anyOf": branches}}));
        let payload = format!("[{}\"x\"]", "\"x\",".repeat(2_000));
        let began = Instant::now();
        let violation = schema.check(&payload).unwrap_err();
        assert!(violation.reason.contains("too many steps"), "{violation:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        // The next one has a budget of its own.
        assert_eq!(schema.check("[]"), Ok(()));
    }

    #[test]
    fn recursive_schemas_match_deep_payloads_on_a_small_stack() {
        let branch = json!({"properties": {"a": {"$ref": "#"}}, "required": ["a"]});
        let mut nested = branch.clone();
        for _ in 0..40 {
            nested = json!({"allOf": [nested]});
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(120), "}".repeat(120));
        for schema in
            [json!({"anyOf": [{"type": "integer"}, branch, branch]}), json!({"anyOf": [{"type": "integer"}, nested]})]
        {
            let (schema, deep) = (of(&schema), deep.clone());
            let checked = std::thread::Builder::new().stack_size(2 << 20).spawn(move || schema.check(&deep));
            // Matched, or given up; the process goes on in both cases.
            let _ = checked.unwrap().join().unwrap();
        }
        assert_eq!(of(&json!({"$ref": "#"})).check(&deep), Ok(()));
    }

    #[test]
    fn what_the_library_cannot_read_does_not_match() {
        let (pointer, reason) = violates(&json!(true), "[1e999]");
        assert_eq!(&*pointer, "");
        assert!(reason.starts_with("cannot be checked: number out of range"), "{reason}");
        assert!(violates(&json!(true), &format!("{}{}", "[".repeat(200), "]".repeat(200))).1.contains("recursion"));
        // More digits than 64 bits have: compared as floating point.
        assert!(of(&json!({"maximum": 10})).check("123456789012345678901234567890").is_err());
    }
}
