//! The rules, with times that a test can wait for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Every `for` becomes this long.
const FOR: &str = "2s";
/// Every window and offset becomes this long, so many times the interval between scrapes, which is a second.
const WINDOW: &str = "10s";
/// Those of more than an hour become this long: an alert about what was there hours ago must not end before its cure.
const LONG_WINDOW: &str = "40s";

/// Returns a file of the repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).canonicalize().unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The files with rules.
pub const FILES: [&str; 2] = ["observability/prometheus/rules.yaml", "observability/prometheus/operator-rules.yaml"];

/// Returns the rules of a file, as they are.
fn rules_of(path: &str) -> Value {
    serde_yaml::from_str(&fs::read_to_string(file(path)).expect("the rules")).expect("YAML")
}

/// Returns the names of all alerts.
pub fn names() -> BTreeSet<String> {
    let rules = FILES.iter().flat_map(|path| rules_of(path)["groups"][0]["rules"].as_array().cloned().expect("rules"));
    rules.map(|rule| rule["alert"].as_str().expect("a name").to_owned()).collect()
}

/// Returns the rules of a file with short times. Thresholds, labels and texts are not changed.
pub fn shortened(path: &str) -> Value {
    let mut all = rules_of(path);
    for rule in all["groups"][0]["rules"].as_array_mut().expect("rules") {
        rule["expr"] = short(rule["expr"].as_str().expect("an expression")).into();
        if rule.get("for").is_some() {
            rule["for"] = FOR.into();
        }
    }
    all
}

/// Returns an expression with short windows and offsets.
pub fn short(expression: &str) -> String {
    let mut made = String::new();
    let mut rest = expression;
    loop {
        let next = ["[", "offset "].into_iter().filter_map(|start| Some((rest.find(start)?, start))).min();
        let Some((at, start)) = next else { return made + rest };
        let (before, from) = rest.split_at(at + start.len());
        let end = from.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(from.len());
        let (number, unit) = from[..end].split_at(end - 1);
        let number: u32 = number.parse().unwrap_or_else(|e| panic!("{expression}: {e}"));
        let is_long = match unit {
            "m" => number > 60,
            "h" => number > 1,
            _ => panic!("{expression} has a time that this test does not know"),
        };
        made = made + before + if is_long { LONG_WINDOW } else { WINDOW };
        rest = &from[end..];
    }
}
