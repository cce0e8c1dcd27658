//! What is refused of a schema before it is compiled, because matching it could take too long or need more than the schema.
//!
//! A schema of a few lines can stand for very many: each of thirty definitions refers twice to the next one. So it is unfolded
//! here, as the validator will do it, and both its size and its depth are bounded.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::invalid::InvalidSchema;

/// The largest unfolded schema, in subschemas.
const MAX_UNFOLDED: u64 = 10_000;
/// The largest number of subschemas in each other.
const MAX_DEPTH: usize = 100;
/// The largest number of patterns: each takes memory.
const MAX_PATTERNS: usize = 64;

/// Keywords whose value is a schema, or an array of them.
const SCHEMAS: [&str; 18] = [
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "prefixItems",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    // Of drafts that have other names for it.
    "disallow",
    "extends",
];
/// Keywords whose value is an object with schemas.
const MAPS: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// The same, of schemas that count only where something refers to them.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
const ANCHORS: [&str; 2] = ["$anchor", "$dynamicAnchor"];

/// Checks a schema.
///
/// # Errors
/// What is too large, or refers to something else, and where.
pub(crate) fn check(schema: &Value) -> Result<(), InvalidSchema> {
    let mut found = Found::default();
    found.visit(schema, "", true, 0)?;
    if found.patterns > MAX_PATTERNS {
        return Err(InvalidSchema::at("", format!("must have at most {MAX_PATTERNS} patterns")));
    }
    let id = schema.get("$id").and_then(Value::as_str).map(|id| id.trim_end_matches('#'));
    let mut unfolding = Unfolding { root: schema, id, anchors: found.anchors, known: HashMap::new() };
    unfolding.of(schema, "", 0)?;
    Ok(())
}

/// What all subschemas have, those of definitions too.
#[derive(Default)]
struct Found<'a> {
    anchors: HashMap<&'a str, &'a Value>,
    patterns: usize,
}

impl<'a> Found<'a> {
    fn visit(&mut self, schema: &'a Value, at: &str, is_root: bool, depth: usize) -> Result<(), InvalidSchema> {
        let Some(object) = schema.as_object() else { return Ok(()) };
        check_depth(depth, at)?;
        if !is_root && object.get("$id").is_some_and(Value::is_string) {
            let reason = "must not be there: only the root of a schema can have an `$id`";
            return Err(InvalidSchema::at(format!("{at}/$id"), reason));
        }
        for anchor in ANCHORS.iter().filter_map(|name| object.get(*name)?.as_str()) {
            self.anchors.insert(anchor, schema);
        }
        self.patterns += usize::from(object.contains_key("pattern"));
        self.patterns += object.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
        for (at, schema) in children(object, at, true) {
            self.visit(schema, &at, false, depth + 1)?;
        }
        Ok(())
    }
}

fn check_depth(depth: usize, at: &str) -> Result<(), InvalidSchema> {
    let reason = || format!("must have at most {MAX_DEPTH} levels of schemas, with those that are referred to");
    if depth > MAX_DEPTH { Err(InvalidSchema::at(at, reason())) } else { Ok(()) }
}

/// Returns the subschemas of a schema with their places.
fn children<'a>(object: &'a Map<String, Value>, at: &str, with_definitions: bool) -> Vec<(String, &'a Value)> {
    let mut children = Vec::new();
    for name in SCHEMAS {
        match object.get(name) {
            Some(Value::Array(list)) => {
                children
                    .extend(list.iter().enumerate().map(|(index, schema)| (format!("{at}/{name}/{index}"), schema)));
            }
            Some(schema) => children.push((format!("{at}/{name}"), schema)),
            None => {}
        }
    }
    let definitions = DEFINITIONS.iter().filter(|_| with_definitions);
    for name in MAPS.iter().chain(definitions) {
        let members = object.get(*name).and_then(Value::as_object).into_iter().flatten();
        children.extend(members.map(|(key, schema)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            (format!("{at}/{name}/{key}"), schema)
        }));
    }
    children
}

/// The size and the depth of an unfolded schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfolded {
    size: u64,
    depth: usize,
}

struct Unfolding<'a> {
    root: &'a Value,
    /// The `$id` of the root.
    id: Option<&'a str>,
    anchors: HashMap<&'a str, &'a Value>,
    /// What was unfolded; `None` while it is.
    known: HashMap<usize, Option<Unfolded>>,
}

impl<'a> Unfolding<'a> {
    /// Unfolds a schema. One that contains itself is not unfolded again: the validator recognises it for the same part of a
    /// payload, and remembers its result.
    fn of(&mut self, schema: &'a Value, at: &str, above: usize) -> Result<Unfolded, InvalidSchema> {
        let mut unfolded = Unfolded { size: 1, depth: 1 };
        let Some(object) = schema.as_object() else { return Ok(unfolded) };
        let address = std::ptr::from_ref(schema).addr();
        match self.known.get(&address) {
            Some(Some(known)) => {
                check_depth(above + known.depth, at)?;
                return Ok(*known);
            }
            Some(None) => return Ok(unfolded),
            None => {}
        }
        check_depth(above, at)?;
        self.known.insert(address, None);
        let mut parts = children(object, at, false);
        for name in REFERENCES {
            if let Some(reference) = object.get(name).and_then(Value::as_str) {
                let at = format!("{at}/{name}");
                let target = self.target(reference).map_err(|reason| InvalidSchema::at(at.as_str(), reason))?;
                parts.push((at, target));
            }
        }
        for (at, part) in parts {
            let part = self.of(part, &at, above + 1)?;
            unfolded.size = unfolded.size.saturating_add(part.size);
            unfolded.depth = unfolded.depth.max(part.depth + 1);
            if unfolded.size > MAX_UNFOLDED {
                let reason = format!("stands for more than {MAX_UNFOLDED} subschemas when all references are unfolded");
                return Err(InvalidSchema::at(at, reason));
            }
        }
        self.known.insert(address, Some(unfolded));
        Ok(unfolded)
    }

    /// Returns what a reference refers to.
    fn target(&self, reference: &str) -> Result<&'a Value, String> {
        let fragment = reference.strip_prefix('#').or_else(|| self.id.and_then(|id| reference.strip_prefix(id)));
        let fragment = fragment.map(|fragment| fragment.trim_start_matches('#'));
        let local = fragment.filter(|fragment| fragment.is_empty() || reference.contains('#'));
        let Some(fragment) = local else {
            return Err("must begin with `#`: references to other documents are not followed".to_owned());
        };
        let found = match fragment {
            "" => Some(self.root),
            pointer if pointer.starts_with('/') => self.root.pointer(&decoded(pointer)),
            anchor => self.anchors.get(anchor).copied(),
        };
        found.ok_or_else(|| "refers to nothing in this schema".to_owned())
    }
}

/// Decodes what is percent-encoded in a fragment. What is not valid stays, and then refers to nothing.
fn decoded(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| fragment.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        check(schema).expect_err("it is refused").to_string()
    }

    /// Each of `count` definitions refers twice to the next one.
    fn doubling(count: usize) -> Value {
        let mut definitions = Map::new();
        for index in 0..count {
            let next = json!({"$ref": format!("#/$defs/d{}", index + 1)});
            definitions.insert(format!("d{index}"), json!({"anyOf": [next, next]}));
        }
        definitions.insert(format!("d{count}"), json!({"type": "string"}));
        json!({"$defs": definitions, "$ref": "#/$defs/d0"})
    }

    #[test]
    fn a_schema_that_stands_for_too_many_is_refused() {
        assert_eq!(check(&doubling(8)), Ok(()));
        assert!(refused(&doubling(40)).contains("stands for more than 10000 subschemas"), "{}", refused(&doubling(40)));
        // Not used, so it costs nothing.
        let mut unused = doubling(40);
        unused["$ref"] = json!("#/$defs/d40");
        assert_eq!(check(&unused), Ok(()));
    }

    #[test]
    fn a_chain_of_references_has_a_bounded_depth_wherever_it_is_entered() {
        let chain = |length: usize, first: Value| {
            let mut definitions = Map::new();
            for index in 0..length {
                definitions.insert(format!("d{index}"), json!({"items": {"$ref": format!("#/$defs/d{}", index + 1)}}));
            }
            definitions.insert(format!("d{length}"), json!(true));
            json!({"$defs": definitions, "allOf": first})
        };
        assert_eq!(check(&chain(40, json!([{"$ref": "#/$defs/d0"}]))), Ok(()));
        for first in [json!([{"$ref": "#/$defs/d0"}]), json!([{"$ref": "#/$defs/d30"}, {"$ref": "#/$defs/d0"}])] {
            assert!(refused(&chain(70, first)).contains("at most 100 levels"));
        }
    }

    #[test]
    fn recursion_is_allowed() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"properties": {"child": {"$ref": "#"}}}),
            json!({"$dynamicAnchor": "node", "items": {"$dynamicRef": "#node"}}),
            json!({"$id": "https://example.com/tree", "items": {"$ref": "https://example.com/tree#"}}),
            json!({"$id": "https://example.com/tree", "$defs": {"a": {"$anchor": "a"}}, "items": {"$ref": "#a"}}),
            json!({"definitions": {"a b": true}, "items": {"$ref": "#/definitions/a%20b"}}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn what_refers_to_another_document_or_to_nothing_is_refused_with_its_place() {
        for (schema, says) in [
            (json!({"items": {"$ref": "https://example.com/x"}}), "schema at /items/$ref: must begin with `#`"),
            (json!({"$ref": "file:///etc/passwd"}), "schema at /$ref: must begin with `#`"),
            (json!({"$id": "a", "$ref": "ab"}), "schema at /$ref: must begin with `#`"),
            (json!({"$id": "a", "$ref": "ab#"}), "schema at /$ref: "),
            (json!({"$ref": "#/$defs/a"}), "schema at /$ref: refers to nothing"),
            (json!({"$ref": "#a"}), "schema at /$ref: refers to nothing"),
            (json!({"$defs": {"a/b": {"$id": "x"}}}), "schema at /$defs/a~1b/$id: must not be there"),
        ] {
            assert!(refused(&schema).starts_with(says), "{schema}: {}", refused(&schema));
        }
        // A member of a payload may have this name.
        assert_eq!(check(&json!({"properties": {"$id": {"type": "string"}}})), Ok(()));
    }

    #[test]
    fn patterns_are_bounded_by_number() {
        let of = |count: usize| {
            let properties: Map<_, _> = (0..count).map(|n| (format!("p{n}"), json!({"pattern": "x"}))).collect();
            json!({"properties": properties, "patternProperties": {"^a": true}})
        };
        assert_eq!(check(&of(63)), Ok(()));
        assert!(refused(&of(64)).contains("at most 64 patterns"));
    }
}
