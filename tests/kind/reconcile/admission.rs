//! Invalid resources and changes: the API server refuses them and names the field.

use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::kubectl_in;
use crate::support::cluster::{blocking, try_kubectl};
use crate::support::objects::event_aggregator;
use crate::support::trial::{NAME, Stage, create};

/// Returns invalid new resources: the name, the spec, and the field that the error must name.
fn new_resources() -> Vec<(String, Value, &'static str)> {
    let long = "a".repeat(41);
    let specs = [
        (json!({ "retention": "a week" }), "spec.retention"),
        (json!({ "retention": "0d" }), "spec.retention"),
        (json!({ "idempotencyTtl": "-1h" }), "spec.idempotencyTtl"),
        (json!({ "idempotencyMemoryPercent": 101 }), "spec.idempotencyMemoryPercent"),
        (json!({ "durability": { "acceptUnknown": ["redis.save"] } }), "spec.durability.acceptUnknown[0]"),
        (json!({ "streams": 0 }), "spec.streams"),
        (json!({ "paused": "yes" }), "spec.paused"),
        (json!({ "deletionPolicy": "Keep" }), "spec.deletionPolicy"),
        (json!({ "dedupFields": [] }), "spec.dedupFields"),
        (json!({ "dedupFields": ["colour"] }), "spec.dedupFields[0]"),
        (json!({ "dedupFields": ["topic", "topic"] }), "spec.dedupFields[1]"),
        (json!({ "images": { "pullPolicy": "Sometimes" } }), "spec.images.pullPolicy"),
        (json!({ "aggregator": { "replicas": -1 } }), "spec.aggregator.replicas"),
        (json!({ "aggregator": { "replicas": 1001 } }), "spec.aggregator.replicas"),
        (json!({ "aggregator": { "replicas": "three" } }), "spec.aggregator.replicas"),
        (json!({ "aggregator": { "workers": 0 } }), "spec.aggregator.workers"),
        (json!({ "aggregator": { "claimAfter": "soon" } }), "spec.aggregator.claimAfter"),
        (json!({ "aggregator": { "autoscaling": {} } }), "spec.aggregator.autoscaling.maxReplicas"),
        (
            json!({ "aggregator": { "autoscaling": { "minReplicas": 3, "maxReplicas": 2 } } }),
            "spec.aggregator.autoscaling.maxReplicas",
        ),
        (json!({ "publisher": { "limits": { "maxEvents": 0 } } }), "spec.publisher.limits.maxEvents"),
        (json!({ "tracing": {} }), "spec.tracing.endpoint"),
        (json!({ "tracing": { "endpoint": "collector:4317" } }), "spec.tracing.endpoint"),
        (json!({ "tracing": { "endpoint": "https://collector" } }), "spec.tracing.caSecret"),
        (json!({ "tracing": { "endpoint": "http://a", "protocol": "zipkin" } }), "spec.tracing.protocol"),
        (json!({ "tracing": { "endpoint": "http://a", "ratio": "2" } }), "spec.tracing.ratio"),
        (json!({ "tracing": { "endpoint": "http://a", "ratio": 0.5 } }), "spec.tracing.ratio"),
        (json!({ "tracing": { "endpoint": "http://a" }, "tls": { "enabled": true } }), "spec.tracing.endpoint"),
        (json!({ "redis": { "managed": { "memory": "1Mi" } } }), "spec.redis.managed.memory"),
        (json!({ "redis": { "managed": { "memory": "lots" } } }), "spec.redis.managed.memory"),
        (json!({ "redis": { "managed": { "memory": "32Gi" } } }), "spec.redis.managed.storage.size"),
        (json!({ "redis": { "external": {} } }), "spec.redis.external.secretRef"),
        (json!({ "postgres": { "managed": { "memory": "1Mi" } } }), "spec.postgres.managed.memory"),
        (json!({ "postgres": { "managed": { "version": 14 } } }), "spec.postgres.managed.version"),
        (json!({ "postgres": { "managed": { "storage": { "size": "0" } } } }), "spec.postgres.managed.storage.size"),
    ];
    let names = [long.as_str(), "2shop", "shop.eu"].map(|name| (name.to_owned(), json!({}), "metadata.name"));
    specs.into_iter().map(|(spec, field)| ("other".to_owned(), spec, field)).chain(names).collect()
}

/// Returns the spec of a stored resource. It is paused, because the test needs no pods.
fn stored() -> Value {
    json!({
        "paused": true,
        "dedupFields": ["event_id"],
        "redis": { "managed": { "storage": { "size": "2Gi", "storageClassName": "slow" } } },
        "postgres": { "managed": { "storage": { "size": "20Gi" } } },
    })
}

/// Returns invalid changes of the stored resource: the merge patch, and the field that the error must name.
fn changes() -> Vec<(Value, &'static str)> {
    let redis = |storage: Value| json!({ "redis": { "managed": { "storage": storage } } });
    let postgres = |managed: Value| json!({ "postgres": { "managed": managed } });
    let external = json!({ "external": { "secretRef": { "name": "somewhere" } } });
    vec![
        (json!({ "dedupFields": ["topic"] }), "spec.dedupFields"),
        (json!({ "dedupFields": null }), "spec.dedupFields"),
        (redis(json!({ "size": "1Gi" })), "spec.redis.managed.storage.size"),
        (redis(json!({ "size": null, "storageClassName": "fast" })), "spec.redis.managed.storage.storageClassName"),
        (redis(json!({ "storageClassName": null })), "spec.redis.managed.storage.storageClassName"),
        (redis(Value::Null), "spec.redis.managed.storage.storageClassName"),
        (json!({ "redis": { "managed": null } }), "spec.redis.managed.storage.storageClassName"),
        (json!({ "redis": null }), "spec.redis.managed.storage.storageClassName"),
        (
            postgres(json!({ "storage": { "storageClassName": "fast" } })),
            "spec.postgres.managed.storage.storageClassName",
        ),
        // Without this field the size is the default, which is smaller.
        (postgres(json!({ "storage": { "size": null } })), "spec.postgres.managed.storage.size"),
        (postgres(json!({ "version": 16 })), "spec.postgres.managed.version"),
        (json!({ "redis": external }), "spec.redis"),
        (json!({ "postgres": external }), "spec.postgres"),
        (json!({ "aggregator": { "replicas": -1 } }), "spec.aggregator.replicas"),
        (json!({ "retention": "for ever" }), "spec.retention"),
    ]
}

/// Asserts that the API server refused a request with status 422 and an error that names `field`.
fn refused<T: std::fmt::Debug>(answer: kube::Result<T>, field: &str, what: &str) {
    match answer {
        Err(kube::Error::Api(status)) => {
            let named = format!("{field}:");
            let is_named = status.message.contains(&named) || status.message.contains(&format!("{field} "));
            assert!(status.code == 422 && is_named, "{what} is refused without naming {field}: {status:?}");
        }
        other => panic!("{what} is not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_by_the_name_of_its_field_and_nothing_is_stored() {
    let stage = Stage::shared("admission").await;
    let namespace = &stage.namespace;
    let api = namespace.resources();
    create(namespace, NAME, stored()).await;
    assert_eq!(namespace.condition(NAME, "Ready", "Unknown").await.0, "Paused");
    let before = namespace.resource(NAME).await;

    for (name, spec, field) in new_resources() {
        let mut resource = DynamicObject::new(&name, &event_aggregator());
        resource.data = json!({ "spec": spec });
        refused(api.create(&PostParams::default(), &resource).await, field, &format!("{name} {spec}"));
    }
    for (change, field) in changes() {
        let patch = Patch::Merge(json!({ "spec": change }));
        refused(api.patch(NAME, &PatchParams::default(), &patch).await, field, &change.to_string());
    }
    refused(
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(json!({ "spec": null }))).await,
        "spec",
        "a resource without a spec",
    );
    for replicas in [-1, 1001] {
        let scaled = api
            .patch_scale(NAME, &PatchParams::default(), &Patch::Merge(json!({ "spec": { "replicas": replicas } })))
            .await;
        refused(scaled, "replicas", &format!("scaling to {replicas}"));
    }
    // This one is sent by kubectl, which requests strict validation. Without it the API server drops unknown
    // fields silently.
    let misspelt = "apiVersion: sluice.dev/v1alpha1\nkind: EventAggregator\nmetadata: {name: other}\nspec: {aggregator: {replica: 3}}\n";
    let own = namespace.name.clone();
    let output = blocking(move || try_kubectl(&["create", "-n", &own, "-f", "-"], misspelt)).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("spec.aggregator.replica\""), "{said}");

    assert_eq!(namespace.resource(NAME).await, before, "a refused change changes nothing");
    let all = api.list(&ListParams::default()).await.expect("resources");
    assert_eq!(all.items.len(), 1, "nothing that was refused is stored: {all:?}");
    let made = kubectl_in(namespace, &["get", "pods,persistentvolumeclaims,secrets,services", "-o", "name"]).await;
    assert_eq!(made, "", "the operator creates nothing for a paused resource");
}
