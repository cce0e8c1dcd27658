//! The payload's hash depends on the JSON value, not on how the value is written.

use proptest::prelude::*;
use serde_json::Value;
use sluice_event::canonical;

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[^\u{0}]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[^\u{0}]{0,6}", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// The same value written differently: members reversed, white space, every character escaped.
fn rewritten(value: &Value) -> String {
    let escaped = |text: &str| {
        let units: String = text.encode_utf16().map(|u| format!("\\u{u:04X}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::String(text) => escaped(text),
        Value::Array(items) => format!("[ {}\t]", items.iter().map(rewritten).collect::<Vec<_>>().join(" , ")),
        Value::Object(members) => {
            let members: Vec<_> =
                members.iter().rev().map(|(k, v)| format!("{}\n: {}", escaped(k), rewritten(v))).collect();
            format!("{{ {} }}", members.join(","))
        }
        other => format!(" {other} "),
    }
}

proptest! {
    #[test]
    fn the_same_value_written_differently_has_the_same_hash(value in values()) {
        prop_assert_eq!(canonical::hash(&value.to_string(), 64), canonical::hash(&rewritten(&value), 64));
    }

    #[test]
    fn different_values_have_different_hashes(a in values(), b in values()) {
        let same = canonical::hash(&a.to_string(), 64) == canonical::hash(&b.to_string(), 64);
        prop_assert_eq!(same, a == b);
    }

    #[test]
    fn any_text_is_hashed_or_refused_without_a_panic(text in ".{0,100}") {
        let _ = canonical::hash(&text, 8);
    }
}
