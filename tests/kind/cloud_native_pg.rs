//! A PostgreSQL that CloudNativePG runs. CloudNativePG is not in the cluster: the API server has its definitions, and the
//! test plays its part, with a server that speaks TLS in place of the primary.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_tests::certificates::Authority;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::support::cluster::{blocking, kubectl, root, try_kubectl};
use crate::support::objects::{Namespace, SOON, apply, is_ready, kubectl_in};
use crate::support::trial::{NAME, Stage, create, small};
use crate::support::{definitions, install, objects};

/// The variable that names a folder with the definitions of CloudNativePG: a file for each kind.
const DEFINITIONS: &str = "SLUICE_CNPG_CRDS";
const PASSWORD: &str = "opensTheDoor";
/// Starts a server with the user and the database that the Cluster asks for.
const SERVER: &str = "set -eu
umask 077
printf %s \"$PGPASSWORD\" > /data/password
initdb -D /data/db -U sluice --auth=scram-sha-256 --pwfile=/data/password --encoding=UTF8 --locale=C
pg_ctl -D /data/db -o '-c listen_addresses= -c unix_socket_directories=/data' -w start
createdb -h /data -U sluice sluice
pg_ctl -D /data/db -w stop
echo 'hostssl all all all scram-sha-256' >> /data/db/pg_hba.conf
cp /tls/tls.crt /tls/tls.key /data
exec postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/data -c ssl=on \\
  -c ssl_cert_file=/data/tls.crt -c ssl_key_file=/data/tls.key";
/// The kinds.
const KINDS: [&str; 3] = ["clusters", "scheduledbackups", "backups"];

/// Removes the definitions, with all their objects.
struct Installed;

impl Installed {
    fn remove() {
        let names = KINDS.map(|kind| format!("crd/{kind}.postgresql.cnpg.io"));
        let mut args = vec!["delete", "--ignore-not-found", "--timeout=120s"];
        args.extend(names.iter().map(String::as_str));
        try_kubectl(&args, "");
    }

    async fn new(folder: &Path) -> Self {
        let installed = Self;
        for kind in KINDS {
            definitions::install(folder.join(format!("{kind}.yaml")).display().to_string()).await;
        }
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        Self::remove();
    }
}

/// Returns a spec without pods beside those of aggregators.
fn spec(cluster: Value) -> Value {
    json!({
        "aggregator": { "replicas": 1, "resources": { "requests": { "cpu": "20m", "memory": "32Mi" } } },
        "publisher": { "replicas": 0 },
        "redis": { "external": { "secretRef": { "name": "cache" } } },
        "postgres": { "cloudNativePG": cluster },
    })
}

/// Returns Clusters that have all fields between them, by the name of their resource.
fn variants() -> Vec<(&'static str, Value)> {
    let text = std::fs::read_to_string(root().join("operator/tests/fixtures/harbor.yaml")).expect("the fixture");
    let full: Value = serde_yaml::from_str(&text).expect("YAML");
    let sample = std::fs::read_to_string(root().join("samples/cloudnativepg.yaml")).expect("the sample");
    let sample: Value = serde_yaml::from_str(&sample).expect("YAML");
    let of = |resource: &Value| resource["spec"]["postgres"]["cloudNativePG"].clone();
    vec![
        ("full", of(&full)),
        ("sample", of(&sample)),
        ("single", json!({ "instances": 1, "image": "postgres:17" })),
        (
            "snapshots",
            json!({ "backup": { "schedule": "0 3 * * *", "suspend": true, "volumeSnapshot": { "className": "fast" } },
                "synchronous": { "dataDurability": "preferred" } }),
        ),
        (
            "plugin",
            json!({ "backup": { "schedule": "0 3 * * 0", "plugin": { "name": "barman-cloud.cloudnative-pg.io",
                "parameters": { "barmanObjectName": "store" } } }, "synchronous": { "enabled": false } }),
        ),
    ]
}

async fn object(namespace: &Namespace, kind: &str, name: &str) -> Value {
    objects::object(namespace, &format!("{kind}.postgresql.cnpg.io"), name).await
}

/// Does what CloudNativePG does: Secrets, an instance with its Service, and a status.
async fn play(namespace: &Namespace) {
    let host = format!("{NAME}-postgres-rw.{}.svc", namespace.name);
    let authority = Authority::new();
    let identity = authority.issue(&host);
    let text = |path: &Path| std::fs::read_to_string(path).expect("a file");
    for (name, data) in [
        ("app", json!({ "password": PASSWORD })),
        ("ca", json!({ "ca.crt": text(authority.ca()) })),
        ("server", json!({ "tls.crt": text(&identity.cert), "tls.key": text(&identity.key) })),
    ] {
        let name = format!("{NAME}-postgres-{name}");
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
        apply(namespace, &secret).await;
    }
    apply(namespace, &instance(&image().await)).await;
    report(namespace, json!({ "phase": "Setting up primary", "instances": 1, "readyInstances": 0 })).await;
    wait_until("the instance is ready", SOON, || async {
        let pod = namespace.pod(&format!("{NAME}-postgres-1")).await;
        holds(is_ready(&pod), || format!("{:?}", pod.status))
    })
    .await;
    assert_eq!(aggregators(namespace).await, 0);
    report(namespace, json!({ "phase": "Cluster in healthy state", "instances": 3, "readyInstances": 3 })).await;
}

/// Returns a PostgreSQL that speaks TLS alone, in a pod with the label of an instance, behind the Service of the primary.
fn instance(image: &str) -> Value {
    let name = format!("{NAME}-postgres");
    let labels = json!({ "cnpg.io/cluster": name, "app.kubernetes.io/name": "postgresql" });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": format!("{name}-1"), "labels": labels },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 999, "runAsGroup": 999, "fsGroup": 999,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [{
                "name": "postgres", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", SERVER],
                "env": [{ "name": "PGPASSWORD", "value": PASSWORD }],
                "ports": [{ "containerPort": 5432 }],
                "readinessProbe": { "tcpSocket": { "port": 5432 }, "periodSeconds": 1 },
                "resources": { "requests": { "cpu": "20m", "memory": "64Mi" } },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [{ "name": "data", "mountPath": "/data" }, { "name": "tls", "mountPath": "/tls" }],
            }],
            "volumes": [
                { "name": "data", "emptyDir": {} },
                { "name": "tls", "secret": { "secretName": format!("{name}-server"), "defaultMode": 0o440 } },
            ],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": format!("{name}-rw") },
        "spec": { "selector": labels, "ports": [{ "port": 5432 }] },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [pod, service] })
}

/// Returns the image of PostgreSQL that the operator would use.
async fn image() -> String {
    let path = "jsonpath={.spec.template.spec.containers[0].env[?(@.name=='SLUICE_IMAGE_POSTGRES')].value}";
    let deployment = format!("deployment/{}", install::RELEASE);
    let image = blocking(move || kubectl(&["-n", install::NAMESPACE, "get", &deployment, "-o", path])).await;
    image.replace("{version}", "17")
}

async fn report(namespace: &Namespace, status: Value) {
    let patch = json!({ "status": status }).to_string();
    let cluster = format!("clusters.postgresql.cnpg.io/{NAME}-postgres");
    kubectl_in(namespace, &["patch", &cluster, "--subresource=status", "--type=merge", "-p", &patch]).await;
}

async fn aggregators(namespace: &Namespace) -> Value {
    let set = format!("{NAME}-aggregator");
    let json = kubectl_in(namespace, &["get", "statefulset", &set, "-o", "json"]).await;
    serde_json::from_str::<Value>(&json).expect("JSON")["spec"]["replicas"].clone()
}

/// The API server refuses to apply fields that the definitions do not have, so a Cluster that exists fits them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "SLUICE_CNPG_CRDS must name a folder with the definitions of CloudNativePG"]
async fn what_cloud_native_pg_is_told_fits_its_definitions() {
    let folder = PathBuf::from(std::env::var_os(DEFINITIONS).expect("SLUICE_CNPG_CRDS names a folder"));
    blocking(Installed::remove).await;
    let stage = Stage::shared("cnpg").await;
    let namespace = &stage.namespace;
    let url = json!({ "url": "redis://:secret@cache:6379/0" });
    apply(
        namespace,
        &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "cache" }, "stringData": url }),
    )
    .await;
    let mut main = spec(json!({}));
    main["redis"] = small(1)["redis"].clone();
    create(namespace, NAME, main).await;
    assert_eq!(namespace.condition(NAME, "Ready", "False").await.0, "CloudNativePGMissing");

    let _installed = Installed::new(&folder).await;
    let (reason, message) = namespace.condition(NAME, "PostgresReady", "False").await;
    assert_eq!((reason.as_str(), message.contains("has no status yet")), ("Starting", true), "{message}");
    for (name, cluster) in variants() {
        let mut spec = spec(cluster);
        spec["redis"]["replicas"] = json!(1);
        create(namespace, name, spec).await;
    }
    for (name, cluster) in variants() {
        let (reason, message) = namespace.condition(name, "PostgresReady", "False").await;
        assert_eq!(reason, "Starting", "{name}: {message}");
        let made = object(namespace, "clusters", &format!("{name}-postgres")).await;
        assert_eq!(made["spec"]["bootstrap"]["initdb"]["database"], "sluice", "{name}: {made}");
        let schedule = object(namespace, "scheduledbackups", &format!("{name}-postgres")).await;
        assert_eq!(schedule.is_null(), cluster["backup"].is_null(), "{name}: {schedule}");
    }
    a_misfit_is_refused(namespace).await;
    waits_and_starts(namespace).await;
    stays_and_is_put_right(namespace).await;
    is_deleted_as_the_policy_says(namespace).await;
}

/// A field of the user's that the definitions do not have is named.
async fn a_misfit_is_refused(namespace: &Namespace) {
    let store = json!({ "destinationPath": "s3://b/", "notAField": 1 });
    let cluster = json!({ "backup": { "schedule": "0 3 * * *", "barmanObjectStore": store } });
    create(namespace, "misfit", spec(cluster)).await;
    let (reason, message) = namespace.condition("misfit", "Ready", "False").await;
    assert_eq!((reason.as_str(), message.contains("notAField")), ("Rejected", true), "{message}");
}

async fn waits_and_starts(namespace: &Namespace) {
    assert_eq!(namespace.condition(NAME, "AggregatorReady", "False").await.0, "WaitingForPostgres");
    play(namespace).await;
    assert_eq!(namespace.condition(NAME, "PostgresReady", "True").await.0, "Ready");
    // An aggregator is ready when it has prepared its tables, over a connection that checks the name of the primary.
    namespace.ready(NAME).await;
    assert_eq!(aggregators(namespace).await, 1);
    assert_eq!(namespace.condition(NAME, "Durable", "False").await.0, "SingleNode", "its Redis is managed");
    assert_eq!(namespace.condition("sample", "Durable", "True").await.0, "SynchronousStandby");
}

/// What the API server adds to a Cluster is no drift, and what somebody changes is.
async fn stays_and_is_put_right(namespace: &Namespace) {
    let (name, label) = (format!("{NAME}-postgres"), format!("eventaggregator.sluice.dev/{NAME}"));
    let before = object(namespace, "clusters", &name).await["metadata"]["resourceVersion"].clone();
    kubectl_in(namespace, &["label", &label, "touched=yes"]).await;
    namespace.patch(NAME, json!({ "spec": { "aggregator": { "replicas": 2 } } })).await;
    wait_until("the resource is reconciled", SOON, || async {
        let replicas = aggregators(namespace).await;
        holds(replicas == 2, || replicas.to_string())
    })
    .await;
    assert_eq!(
        object(namespace, "clusters", &name).await["metadata"]["resourceVersion"],
        before,
        "nothing was written"
    );
    let change = json!({ "spec": { "instances": 1, "logLevel": "debug" } }).to_string();
    let cluster = format!("clusters.postgresql.cnpg.io/{name}");
    kubectl_in(namespace, &["patch", &cluster, "--type=merge", "-p", &change]).await;
    wait_until("the Cluster is put right", SOON, || async {
        let spec = object(namespace, "clusters", &name).await["spec"].clone();
        holds(spec["instances"] == 3 && spec["logLevel"] == "debug", || spec.to_string())
    })
    .await;
}

async fn is_deleted_as_the_policy_says(namespace: &Namespace) {
    namespace.patch("single", json!({ "spec": { "deletionPolicy": "Delete" } })).await;
    wait_until("the policy is in force", SOON, || async {
        let status = namespace.resource("single").await["status"]["deletionPolicy"].clone();
        holds(status == "Delete", || status.to_string())
    })
    .await;
    kubectl_in(namespace, &["delete", "eventaggregator.sluice.dev", "single", "plugin"]).await;
    wait_until("the Cluster is deleted with its resource", SOON, || async {
        let cluster = object(namespace, "clusters", "single-postgres").await;
        holds(cluster.is_null(), || cluster.to_string())
    })
    .await;
    let retained = object(namespace, "clusters", "plugin-postgres").await;
    assert!(retained["metadata"]["deletionTimestamp"].is_null() && !retained.is_null(), "{retained}");
}
