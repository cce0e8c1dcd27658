//! `pause`, `resume`, `hibernate` and `wake`.

use serde_json::json;

use crate::desk::{Desk, condition, path};

#[tokio::test]
async fn each_command_sets_its_field_of_the_spec_alone_and_strictly() {
    let desk = Desk::new();
    for (line, patch, said) in [
        ("pause ledger", json!({"paused": true}), "paused"),
        ("resume ledger", json!({"paused": null}), "resumed"),
        ("hibernate ledger", json!({"hibernated": true}), "hibernated"),
        ("wake ledger", json!({"hibernated": null}), "woken"),
    ] {
        let done = desk.run(line).await;
        assert_eq!((done.code, done.out), (0, format!("eventaggregator accounts/ledger {said}\n")), "{line}");
        let bodies = desk.api.bodies("MERGE eventaggregators/ledger");
        assert_eq!(bodies.last().unwrap(), &json!({"spec": patch}), "{line}");
    }
    let spec = &desk.api.get(&path("ledger")).unwrap()["spec"];
    assert_eq!(spec, &json!({"aggregator": {"autoscaling": {"minReplicas": 1, "maxReplicas": 5}}}));
}

#[tokio::test]
async fn waiting_ends_when_the_operator_reports_the_state_for_this_spec() {
    let desk = Desk::new();
    desk.change(|resource| resource["status"]["conditions"] = json!([condition("Ready", "Unknown", "Paused", "")]));
    let done = desk.run("pause ledger --wait").await;
    assert_eq!(done.code, 0, "{done:?}");
    let done = desk.run("resume ledger --wait --timeout 1s").await;
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.err.contains("it is not resumed within 1s: Ready is Unknown (Paused)"), "{}", done.err);
}

#[tokio::test]
async fn a_change_that_is_refused_is_an_error_with_the_words_of_the_server() {
    let desk = Desk::new();
    desk.api.refuse_saying("MERGE eventaggregators", 422, "unknown field \"spec.hibernated\"");
    let done = desk.run("hibernate ledger").await;
    assert_eq!(done.code, 1);
    let expected = "error: eventaggregator accounts/ledger: cannot change it: unknown field \"spec.hibernated\"";
    assert!(done.err.starts_with(expected), "{}", done.err);
}
