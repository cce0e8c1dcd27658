//! `backup` and `backups`.

use serde_json::{Value, json};

use crate::desk::Desk;

const JOBS: &str = "/apis/batch/v1/namespaces/accounts/jobs";

fn put_cron_job(desk: &Desk) {
    desk.api.put(
        "/apis/batch/v1/namespaces/accounts/cronjobs/ledger-backup",
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "metadata": {"name": "ledger-backup", "namespace": "accounts", "uid": "cron-uid"},
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {
                "metadata": {"labels": {"app.kubernetes.io/component": "backup"}},
                "spec": {"backoffLimit": 2, "template": {"spec": {"containers": [{"name": "backup", "image": "x"}]}}}}}
        }),
    );
}

fn put_job(desk: &Desk, name: &str, owner: &str, created: &str, status: Value) {
    desk.api.put(
        &format!("{JOBS}/{name}"),
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": "accounts", "creationTimestamp": created, "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "CronJob", "name": "ledger-backup", "uid": owner}]},
            "status": status
        }),
    );
}

#[tokio::test]
async fn a_backup_is_a_job_of_the_cron_job_as_kubectl_makes_it() {
    let desk = Desk::new();
    put_cron_job(&desk);
    let done = desk.run("backup ledger").await;
    assert_eq!(done.code, 0, "{done:?}");
    let job = desk.api.bodies("CREATE jobs").pop().unwrap();
    let name = job["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("ledger-backup-") && done.out.contains(name), "{done:?}");
    assert_eq!(job["metadata"]["ownerReferences"][0]["uid"], "cron-uid");
    assert_eq!(job["metadata"]["annotations"]["cronjob.kubernetes.io/instantiate"], "manual");
    assert_eq!(job["metadata"]["labels"]["app.kubernetes.io/component"], "backup");
    assert_eq!(job["spec"]["backoffLimit"], 2);
}

#[tokio::test]
async fn waiting_for_a_backup_has_a_deadline() {
    let desk = Desk::new();
    put_cron_job(&desk);
    let done = desk.run("backup ledger --wait --timeout 1s").await;
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.err.contains("did not end within 1s; it goes on"), "{}", done.err);
}

#[tokio::test]
async fn the_jobs_of_the_resource_are_listed_newest_first_and_no_others() {
    let desk = Desk::new();
    put_cron_job(&desk);
    let failed = json!([{"type": "Failed", "status": "True", "message": "the bucket does not exist"}]);
    let complete = json!([{"type": "Complete", "status": "True"}]);
    let times = json!({"startTime": "2026-01-01T03:00:00Z", "completionTime": "2026-01-01T03:05:00Z",
        "conditions": complete});
    put_job(&desk, "ledger-backup-1", "cron-uid", "2026-01-01T03:00:00Z", times);
    put_job(&desk, "ledger-backup-2", "cron-uid", "2026-01-02T03:00:00Z", json!({"conditions": failed}));
    put_job(&desk, "other-backup-1", "other-uid", "2026-01-03T03:00:00Z", json!({}));
    let done = desk.run("backups ledger").await;
    let lines: Vec<_> = done.out.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{}", done.out);
    assert!(lines[0].starts_with("ledger-backup-2  Failed") && lines[0].ends_with("the bucket does not exist"));
    assert!(lines[1].starts_with("ledger-backup-1  Complete") && lines[1].ends_with("5m"), "{}", done.out);
}

#[tokio::test]
async fn a_resource_without_backups_says_so() {
    let desk = Desk::new();
    for line in ["backup ledger", "backups ledger"] {
        let done = desk.run(line).await;
        assert!(
            done.code == 1 && done.err.contains("it has no backups: CronJob ledger-backup does not exist"),
            "{done:?}"
        );
    }
}
