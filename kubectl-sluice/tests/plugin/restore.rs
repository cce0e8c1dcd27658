//! `restore`.

use serde_json::json;

use crate::desk::{Desk, condition, path};

const BACKUP: &str = "20260102-030405-678";

#[tokio::test]
async fn a_restore_must_be_confirmed_and_is_asked_for_by_a_new_id() {
    let desk = Desk::new();
    let done = desk.run(&format!("restore ledger --backup {BACKUP}")).await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("--yes"), "{}", done.err);
    assert_eq!(desk.api.bodies("MERGE eventaggregators/ledger").len(), 0, "nothing is changed");

    for _ in 0..2 {
        let done = desk.run(&format!("restore ledger --backup {BACKUP} --yes")).await;
        assert_eq!(done.code, 0, "{done:?}");
    }
    let bodies = desk.api.bodies("MERGE eventaggregators/ledger");
    let restores: Vec<_> = bodies.iter().map(|body| body["spec"]["postgres"]["managed"]["restore"].clone()).collect();
    assert_eq!(restores[0]["backup"], BACKUP);
    assert_ne!(restores[0]["id"], restores[1]["id"], "the second command restores again");
}

#[tokio::test]
async fn the_last_backup_is_that_of_the_status() {
    let desk = Desk::new();
    let done = desk.run("restore ledger --backup last --yes").await;
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.err.contains("names no backup"), "{}", done.err);
    desk.change(|resource| resource["status"]["backup"] = json!({"last": BACKUP}));
    desk.run("restore ledger --backup last --id before-friday --yes").await;
    let restore = &desk.api.get(&path("ledger")).unwrap()["spec"]["postgres"]["managed"]["restore"];
    assert_eq!(restore, &json!({"backup": BACKUP, "id": "before-friday"}));
}

#[tokio::test]
async fn waiting_tells_a_restore_that_failed_from_one_that_is_done() {
    let desk = Desk::new();
    let line = format!("restore ledger --backup {BACKUP} --yes --wait --timeout 1s");
    for (status, reason, code) in
        [("True", "RestoreComplete", 0), ("False", "RestoreFailed", 3), ("False", "Restoring", 5)]
    {
        desk.change(|resource| {
            resource["status"]["conditions"] = json!([condition("Restored", status, reason, "in words")]);
        });
        let done = desk.run(&line).await;
        assert_eq!(done.code, code, "{reason}: {done:?}");
        assert!(code == 5 || done.out.contains(&format!("{reason}: in words")), "{done:?}");
    }
}
