//! `kubectl sluice` on the programs themselves, at the address that `--url` names.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use sluice_tests::certificates::client_env;
use sluice_tests::{Backend, System, process, program};

use crate::common::{counts, event, system};
use crate::dead_letters::refuse_poison;

on_both_backends!(
    the_plugin_publishes_lines_once_however_often_they_are_repeated,
    the_plugin_names_the_line_that_is_refused_and_how_to_continue,
    the_plugin_shows_counts_and_events_page_by_page,
    the_plugin_lists_shows_replays_and_discards_dead_letters,
);

/// Runs a command of the plugin to its end. Returns its exit code, standard output and standard error.
async fn plugin(system: &System, args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = process::command(&program::find("kubectl-sluice"), None);
    command.args(["--url", &system.base()]).args(args).envs(client_env(&system.base()));
    // Nothing is asked of a cluster.
    command.env("KUBECONFIG", "/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let run = move || {
        let mut child = command.spawn().expect("the plugin starts");
        // The program may end without having read all of its input.
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        child.wait_with_output().expect("the plugin ends")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("the task does not panic");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns so many events as lines.
fn lines(topic: &str, count: u64) -> String {
    (0..count).map(|n| format!("{}\n", event(topic, &format!("evt-{n}")))).collect()
}

async fn the_plugin_publishes_lines_once_however_often_they_are_repeated(backend: Backend) {
    let system = system(backend).await;
    let publish = ["publish", "shop", "--file", "-", "--batch", "100", "--idempotency-key", "once"];
    for _ in 0..2 {
        let (code, out, err) = plugin(&system, &publish, &lines("orders", 250)).await;
        assert_eq!((code, out.as_str()), (Some(0), "accepted 250 events in 3 requests\n"), "{err}");
    }
    system.wait_until_stored(250).await;
    let one = ["publish", "shop", "--topic", "orders", "--id", "evt-0", "--payload", "{\"n\":1.50}"];
    let (code, out, err) = plugin(&system, &one, "").await;
    assert_eq!((code, out.as_str()), (Some(0), "accepted 1 events\n"), "{err}");
    system.wait_until_stored(251).await;
    assert_eq!(counts(&system.client).await, [251, 250, 1], "another key is another request: a duplicate");
}

async fn the_plugin_names_the_line_that_is_refused_and_how_to_continue(backend: Backend) {
    let system = system(backend).await;
    let publish = ["publish", "shop", "-f", "-", "--batch", "2", "--idempotency-key", "mine"];
    let bad = format!("{}\n\n{}", lines("orders", 3).trim_end(), "{\"event_id\":\"\",\"payload\":1}\n");
    let (code, out, err) = plugin(&system, &publish, &bad).await;
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    for expected in [
        "error: eventaggregator default/shop: a request with lines 3 to 5 of standard input cannot be published",
        "2 events before were accepted",
        "--idempotency-key mine",
        "the event of line 5 is refused, and with it its request",
        "invalid_event",
    ] {
        assert!(err.contains(expected), "{expected}: {err}");
    }
    let (code, _, err) = plugin(&system, &publish, &lines("orders", 4)).await;
    assert_eq!(code, Some(0), "{err}");
    system.wait_until_stored(4).await;
    assert_eq!(counts(&system.client).await, [4, 4, 0], "what was accepted before is not counted again");
}

async fn the_plugin_shows_counts_and_events_page_by_page(backend: Backend) {
    let system = system(backend).await;
    let (code, ..) = plugin(&system, &["publish", "shop", "-f", "-"], &lines("orders", 5)).await;
    assert_eq!(code, Some(0));
    system.wait_until_stored(5).await;
    let (code, out, err) = plugin(&system, &["stats", "shop"], "").await;
    assert_eq!(code, Some(0), "{err}");
    assert!(
        out.starts_with("received 5 = stored 5 + duplicates 0 (conflicts 0); dead letters 0; backlog 0\n"),
        "{out}"
    );
    assert!(out.contains("orders  5         5       0           0\n"), "{out}");
    let (_, out, err) = plugin(&system, &["events", "shop", "--topic", "orders", "--limit", "3"], "").await;
    let cursor =
        out.lines().last().and_then(|line| line.split("--cursor ").nth(1)).unwrap_or_else(|| panic!("{out}{err}"));
    assert!(out.contains("evt-4") && out.contains("evt-2") && !out.contains("evt-1"), "{out}");
    let (_, rest, err) = plugin(&system, &["events", "shop", "--topic", "orders", "--cursor", cursor], "").await;
    assert!(rest.contains("evt-1") && rest.contains("evt-0") && !rest.contains("evt-2"), "{rest}{err}");
    let (_, lines, _) = plugin(&system, &["events", "shop", "-o", "json"], "").await;
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 5, "{lines}");
    let (_, one, err) = plugin(&system, &["events", "shop", "--topic", "orders", "--id", "evt-3"], "").await;
    assert!(one.contains("evt-3") && !one.contains("evt-2"), "{one}{err}");
}

async fn the_plugin_lists_shows_replays_and_discards_dead_letters(backend: Backend) {
    let system = system(backend).await;
    refuse_poison(&system, true).await;
    let (code, _, err) = plugin(&system, &["publish", "shop", "-f", "-"], &lines("poison", 2)).await;
    assert_eq!(code, Some(0), "{err}");
    let letters = system.dead_letters(2).await;
    let ids: Vec<_> = letters.iter().map(|letter| letter["id"].to_string()).collect();
    let (_, out, err) = plugin(&system, &["dead-letters", "shop"], "").await;
    assert!(ids.iter().all(|id| out.contains(id)) && out.contains("poison"), "{out}{err}");
    let (_, out, err) = plugin(&system, &["dead-letters", "shop", "show", &ids[0]], "").await;
    let shown: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(shown["content"][0]["topic"], "poison", "{out}");
    let (code, out, _) = plugin(&system, &["dead-letters", "shop", "replay", "--all"], "").await;
    assert_eq!((code, out.as_str()), (Some(3), "2 dead letters matched: 0 replayed, 2 still refused\n"));
    let (code, _, err) = plugin(&system, &["dead-letters", "shop", "discard", &ids[0], "--yes"], "").await;
    assert_eq!(code, Some(0), "{err}");
    refuse_poison(&system, false).await;
    let (code, out, err) = plugin(&system, &["dead-letters", "shop", "replay", &ids[1]], "").await;
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("stored 1, duplicates 0"), "{out}");
    let (_, out, _) = plugin(&system, &["dead-letters", "shop", "list"], "").await;
    assert_eq!(out, "there are no dead letters\n");
}
