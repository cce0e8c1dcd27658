//! Payloads are stored as text, and the view that users see casts them to `json`: one row that does not cast would break
//! every query of the view.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use sluice_event::{Event, canonical};

use crate::batches::*;
use crate::stores::{Place, TestStore, direct};

/// The deepest nesting that a publisher can be set to accept.
const MAX_DEPTH: usize = 100;
/// Texts of each kind that are tried.
const TEXTS: usize = 5_000;

/// Parts of JSON, right ones and wrong ones, in any order.
fn nearly_json() -> impl Strategy<Value = String> {
    let parts = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\":",
        " ",
        "\t",
        "\r\n",
        "\u{b}",
        "\u{a0}",
        "\u{feff}",
        "0",
        "-0",
        "00",
        "1e400",
        "-1.5E-999999",
        "1.",
        ".5",
        "+1",
        "0x1",
        "1e",
        "9999999999999999999999999999999",
        "NaN",
        "Infinity",
        "true",
        "false",
        "null",
        "True",
        "\\u0000",
        "\\ud83d\\ude00",
        "\\ud83d",
        "\\ude00\\ud83d",
        "😀",
        "'",
        "//",
        "/**/",
        "\"\\u00e9\\n\\/\\b\\f\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\u{1f}\"",
        "\"\u{7f}\u{85}\u{2028}\"",
    ];
    vec(prop::sample::select(parts), 1..8).prop_map(|parts| parts.concat())
}

/// JSON with any strings, numbers and white space in it.
fn json() -> impl Strategy<Value = String> {
    let characters = vec!["a", "\\\\", "\\\"", "\\u0041", "\\ud83d\\ude00", "\\/", "é", "😀", "\u{7f}", "\u{fffe}"];
    let string = vec(prop::sample::select(characters), 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()));
    let space = || prop::sample::select(vec!["", " ", "\n", "\t\r"]);
    let leaf = prop_oneof![
        string.clone(),
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,6})?",
        prop::sample::select(vec!["null", "true", "false", "{}", "[]"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let array = (vec(inner.clone(), 0..6), space())
            .prop_map(|(values, space)| format!("[{space}{}{space}]", values.join(&format!("{space},{space}"))));
        let object = (vec((string.clone(), inner), 0..6), space()).prop_map(|(members, space)| {
            let members: Vec<_> = members.iter().map(|(key, value)| format!("{key}{space}:{space}{value}")).collect();
            format!("{{{space}{}{space}}}", members.join(","))
        });
        prop_oneof![array, object]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_payload_that_is_accepted_casts_to_json() {
    let mut runner = TestRunner::deterministic();
    let mut texts: Vec<String> = (0..TEXTS).map(|_| json().new_tree(&mut runner).unwrap().current()).collect();
    texts.extend((0..TEXTS).map(|_| nearly_json().new_tree(&mut runner).unwrap().current()));
    texts.push("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH));
    texts.push("{\"a\":".repeat(MAX_DEPTH) + "0" + &"}".repeat(MAX_DEPTH));
    let all = texts.len();
    texts.retain(|text| canonical::hash(text, MAX_DEPTH).is_ok());
    assert!(texts.len() > TEXTS / 2 && texts.len() < all, "{} of {all} are accepted", texts.len());

    let test = TestStore::postgres().await;
    let of = |(id, payload): (usize, &String)| Event {
        payload_hash: canonical::hash(payload, MAX_DEPTH).unwrap(),
        payload: payload.clone().into(),
        ..event("t", id, "0")
    };
    let sent = texts.iter().enumerate().map(of).collect();
    assert_eq!(test.commit(&batch_of(sent)).await.counts.unique, texts.len() as u64);
    let Place::Postgres(settings) = &test.place else { unreachable!("it is in PostgreSQL") };
    let mut connection = direct(settings).await;
    // Text that was cast is the same text.
    let equal = "SELECT count(*) FROM events JOIN unnest($1::text[]) WITH ORDINALITY AS sent (payload, number) \
                 ON events.event_id = (number - 1)::text WHERE events.payload::text = sent.payload";
    let equal: i64 = sqlx::query_scalar(equal).bind(&texts).fetch_one(&mut connection).await.unwrap();
    assert_eq!(equal, texts.len() as i64);
}
