//! Volumes that grow, that cannot grow, and that have not grown yet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::trial::{PVCS, RESOURCE, SETS, Trial};

const CONFIG: &str = "/api/v1/namespaces/accounts/configmaps/ledger-postgres";

/// Returns a Trial that is Ready, with a volume of 3 GiB for Redis and of 20 GiB for PostgreSQL.
async fn ready() -> Trial {
    let trial = Trial::new();
    trial.reconcile().await.unwrap();
    trial.make_pvc("redis", "3Gi");
    trial.make_pvc("postgres", "20Gi");
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial
}

fn ask(trial: &Trial, size: &str) {
    trial.change_spec(|spec| spec["postgres"]["managed"]["storage"]["size"] = json!(size));
}

/// Returns the size that the PersistentVolumeClaim of PostgreSQL requests.
fn requested(trial: &Trial) -> Value {
    trial.api.get(&format!("{PVCS}/data-ledger-postgres-0")).unwrap()["spec"]["resources"]["requests"]["storage"]
        .clone()
}

/// Sets the size of the volume, as a storage driver does.
fn provide(trial: &Trial, size: &str) {
    trial.api.change(&format!("{PVCS}/data-ledger-postgres-0"), |pvc| {
        pvc["status"] = json!({"phase": "Bound", "capacity": {"storage": size}});
    });
}

fn report(trial: &Trial, condition: &str) {
    trial.api.change(&format!("{PVCS}/data-ledger-postgres-0"), |pvc| {
        pvc["status"]["conditions"] = json!([{"type": condition, "status": "True", "message": "no quota"}]);
    });
}

/// Returns the configuration of PostgreSQL, and the annotations of its pods, which are replaced when one changes.
fn configuration(trial: &Trial) -> (String, Value) {
    let text = trial.api.get(CONFIG).unwrap()["data"]["postgresql.conf"].as_str().unwrap().to_owned();
    let line = text.lines().find(|line| line.starts_with("max_wal_size")).unwrap().to_owned();
    let set = trial.api.get(&format!("{SETS}/ledger-postgres")).unwrap();
    (line, set["spec"]["template"]["metadata"]["annotations"].clone())
}

fn volumes(trial: &Trial) -> Value {
    trial.api.get(RESOURCE).unwrap()["status"]["volumes"].clone()
}

#[tokio::test]
async fn a_volume_grows_by_its_claim_and_its_set_stays_with_what_users_added_to_it() {
    let trial = ready().await;
    let set = format!("{SETS}/ledger-postgres");
    trial.api.change(&set, |set| {
        set["metadata"]["labels"]["team"] = json!("blue");
        set["spec"]["template"]["spec"]["nodeSelector"]["rack"] = json!("7");
    });
    let before = trial.api.get(&set).unwrap();
    ask(&trial, "40Gi");
    trial.reconcile().await.unwrap();
    let writes = trial.api.writes();
    assert_eq!(writes[0], "MERGE persistentvolumeclaims/data-ledger-postgres-0", "{writes:?}");
    assert!(!writes.iter().any(|call| call.contains("statefulsets")), "no set is touched: {writes:?}");
    assert_eq!(requested(&trial), "40Gi");
    assert_eq!(trial.api.get(&set).unwrap(), before, "labels and scheduling fields of users stay");

    provide(&trial, "40Gi");
    trial.reconcile().await.unwrap();
    let templates = "/spec/volumeClaimTemplates";
    let after = trial.api.get(&set).unwrap();
    assert!(after.pointer(templates).is_some() && after.pointer(templates) == before.pointer(templates), "{after:#}");
    assert_eq!(volumes(&trial), json!({"redis": "3Gi", "postgres": "40Gi"}));
    assert_eq!(configuration(&trial).0, "max_wal_size = 5120MB");
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);
}

#[tokio::test]
async fn a_claim_that_is_made_again_from_the_former_template_grows_like_any_other() {
    let trial = ready().await;
    ask(&trial, "40Gi");
    trial.reconcile().await.unwrap();
    trial.make_pvc("postgres", "20Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), "40Gi");
}

#[tokio::test]
async fn a_refused_growth_changes_no_pod_and_can_be_taken_back() {
    let trial = ready().await;
    let before = configuration(&trial);
    assert_eq!(before.0, "max_wal_size = 2560MB");
    trial.api.refuse("MERGE persistentvolumeclaims/data-ledger-postgres-0", 403);
    ask(&trial, "64Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["reason"], "VolumeRefused");
    assert_eq!(configuration(&trial), before, "the disk has not grown, so nothing may use more of it");
    assert_eq!(volumes(&trial)["postgres"], "20Gi", "this is what the API server compares a smaller size with");
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.starts_with("APPLY")), "{writes:?}");

    ask(&trial, "20Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    assert_eq!(configuration(&trial), before);
}

#[tokio::test]
async fn the_rest_is_applied_although_a_volume_cannot_grow() {
    let trial = ready().await;
    trial.api.refuse("MERGE persistentvolumeclaims", 422);
    ask(&trial, "64Gi");
    trial.change_spec(|spec| spec["aggregator"]["replicas"] = json!(1));
    trial.reconcile().await.unwrap();
    let writes = trial.api.writes();
    assert!(!writes.iter().any(|call| call.starts_with("DELETE")), "{writes:?}");
    assert!(writes.contains(&"APPLY statefulsets/ledger-aggregator".to_owned()), "the rest is applied: {writes:?}");
    assert!(!writes.contains(&"APPLY statefulsets/ledger-postgres".to_owned()), "{writes:?}");
    assert_eq!(trial.condition("Ready")["reason"], "VolumeRefused");
}

#[tokio::test]
async fn a_resource_is_not_ready_before_its_volumes_have_the_size_that_is_asked_for() {
    let trial = ready().await;
    let before = configuration(&trial);
    ask(&trial, "40Gi");
    for _ in 0..2 {
        trial.reconcile().await.unwrap();
        assert_eq!(trial.condition("Ready")["status"], "False");
        assert_eq!(trial.condition("Ready")["reason"], "VolumeGrowing");
        assert_eq!(trial.condition("Progressing")["status"], "True");
    }
    let message = trial.condition("Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("data-ledger-postgres-0 has 20Gi of 40Gi"), "{message}");
    assert!(message.contains("set the size to 20Gi again"), "it says what to do: {message}");
    assert_eq!(configuration(&trial), before, "the disk has not grown yet");

    report(&trial, "FileSystemResizePending");
    trial.reconcile().await.unwrap();
    let message = trial.condition("Ready")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("kubectl delete pod ledger-postgres-0"), "{message}");

    provide(&trial, "40Gi");
    trial.reconcile().await.unwrap();
    trial.finish_rollouts();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
}

#[tokio::test]
async fn a_growth_that_fails_says_why() {
    let trial = ready().await;
    ask(&trial, "40Gi");
    trial.reconcile().await.unwrap();
    for condition in ["ControllerResizeError", "NodeResizeError", "ModifyVolumeError"] {
        report(&trial, condition);
        trial.reconcile().await.unwrap();
        let ready = trial.condition("Ready");
        assert_eq!(ready["reason"], "VolumeRefused", "{condition}");
        assert!(ready["message"].as_str().unwrap().contains("no quota"), "{ready}");
    }
}

#[tokio::test]
async fn a_growth_that_has_not_begun_can_be_taken_back_or_made_smaller() {
    let trial = ready().await;
    ask(&trial, "64Gi");
    trial.reconcile().await.unwrap();
    // Kubernetes does not let a claim request what it has already, so the request stays.
    ask(&trial, "20Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(trial.condition("Ready")["status"], "True", "{}", trial.condition("Ready"));
    assert_eq!(requested(&trial), "64Gi");
    trial.api.calls();
    trial.reconcile().await.unwrap();
    assert_eq!(trial.api.writes(), [""; 0]);

    ask(&trial, "30Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(requested(&trial), "30Gi");
    assert_eq!(trial.condition("Ready")["reason"], "VolumeGrowing");
}

/// A storage driver may round up.
#[tokio::test]
async fn a_volume_that_is_larger_than_asked_for_changes_nothing() {
    let trial = ready().await;
    let before = configuration(&trial);
    provide(&trial, "32Gi");
    trial.reconcile().await.unwrap();
    assert_eq!(configuration(&trial), before);
    assert_eq!(volumes(&trial)["postgres"], "20Gi");
    assert_eq!(trial.api.writes(), [""; 0]);
}

/// Returns the lines of Redis' configuration that depend on its volume.
fn of_redis(trial: &Trial) -> Vec<String> {
    let config = trial.api.get("/api/v1/namespaces/accounts/configmaps/ledger-redis").unwrap();
    let lines = config["data"]["redis.conf"].as_str().unwrap().lines();
    let lines = lines.filter(|line| line.starts_with("auto-aof-rewrite-min-size") || line.starts_with("maxmemory "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn redis_rewrites_its_file_before_it_fills_the_volume() {
    for (memory, size, rewrite) in [("64Mi", "128Mi", 16), ("256Mi", "1Gi", 128), ("1Gi", "8Gi", 512)] {
        let trial = Trial::new();
        trial.change_spec(|spec| {
            spec["redis"]["managed"]["memory"] = json!(memory);
            spec["redis"]["managed"]["storage"]["size"] = json!(size);
        });
        trial.reconcile().await.unwrap();
        assert_eq!(of_redis(&trial)[0], format!("auto-aof-rewrite-min-size {rewrite}mb"), "{size}");
    }
}

#[tokio::test]
async fn a_volume_of_redis_that_is_too_small_for_its_memory_is_named() {
    let trial = Trial::new();
    trial.change_spec(|spec| spec["redis"]["managed"]["memory"] = json!("32Gi"));
    let error = trial.reconcile().await.unwrap_err().to_string();
    assert!(error.contains("spec.redis.managed.storage.size") && error.contains("twice"), "{error}");
}

#[tokio::test]
async fn a_refused_growth_does_not_give_redis_more_memory_than_its_volume_can_hold() {
    let trial = ready().await;
    trial.api.refuse("MERGE persistentvolumeclaims/data-ledger-redis-0", 403);
    trial.change_spec(|spec| {
        spec["redis"]["managed"]["memory"] = json!("16Gi");
        spec["redis"]["managed"]["storage"]["size"] = json!("64Gi");
    });
    trial.reconcile().await.unwrap();
    let quarter = (3_i64 << 30) / 4;
    assert_eq!(of_redis(&trial)[1], format!("maxmemory {quarter}"));
}

#[tokio::test]
async fn a_permission_that_the_operator_lacks_is_no_refusal_of_the_volume() {
    let call = "MERGE persistentvolumeclaims/data-ledger-postgres-0";
    for (message, reason) in [
        (
            "persistentvolumeclaims \"data-ledger-postgres-0\" is forbidden: User \"system:serviceaccount:tools:operator\" cannot patch resource \"persistentvolumeclaims\" in API group \"\" in the namespace \"accounts\"",
            "Forbidden",
        ),
        (
            "persistentvolumeclaims \"data-ledger-postgres-0\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            "VolumeRefused",
        ),
        ("persistentvolumeclaims \"data-ledger-postgres-0\" is forbidden: exceeded quota: disks", "VolumeRefused"),
    ] {
        let trial = ready().await;
        trial.api.refuse_saying(call, 403, message);
        ask(&trial, "64Gi");
        let _ = trial.reconcile().await;
        assert_eq!(trial.condition("Ready")["reason"], reason, "{}", trial.condition("Ready"));
    }
}
