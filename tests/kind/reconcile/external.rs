//! Redis and PostgreSQL that the operator does not manage.

use kube::api::DeleteParams;
use serde_json::json;
use sluice_tests::StoreReader;
use sluice_tests::store::StoreAddress;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use super::{kubectl_in, says};
use crate::support::cluster::{blocking, kubectl};
use crate::support::forward::Forward;
use crate::support::install;
use crate::support::load::Load;
use crate::support::objects::{Namespace, SOON, apply, is_ready};
use crate::support::operators;
use crate::support::server::Server;
use crate::support::trial::{NAME, OPERATOR, Stage, create, small};

const RIGHT: &str = "opens-the-door";
const WRONG: &str = "never-to-be-shown";

const REDIS: &str = "exec redis-server --dir /data --appendonly yes --requirepass \"$PASSWORD\"";
const POSTGRES: &str = "set -eu
umask 077
printf %s \"$PASSWORD\" > /data/password
initdb -D /data/db -U events --auth=scram-sha-256 --pwfile=/data/password --encoding=UTF8 --locale=C
echo 'host all all all scram-sha-256' >> /data/db/pg_hba.conf
exec postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/data -c fsync=off";

/// Returns the image that the operator would use for a server of this kind.
async fn image(variable: &str) -> String {
    let path = format!("jsonpath={{.spec.template.spec.containers[0].env[?(@.name=='{variable}')].value}}");
    let deployment = format!("deployment/{}", install::RELEASE);
    let image = blocking(move || kubectl(&["-n", install::NAMESPACE, "get", &deployment, "-o", &path])).await;
    image.replace("{version}", "17")
}

async fn set_url(namespace: &Namespace, secret: &str, key: &str, url: &str) {
    let metadata = json!({ "name": secret });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { key: url } });
    apply(namespace, &secret).await;
}

async fn set_redis(namespace: &Namespace, password: &str) {
    set_url(namespace, "cache-url", "url", &format!("redis://:{password}@cache:6379/0")).await;
}

async fn set_postgres(namespace: &Namespace, password: &str) {
    set_url(namespace, "tables", "dsn", &format!("postgres://events:{password}@tables:5432/postgres")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_servers_are_used_and_a_wrong_password_is_said_without_being_shown() {
    let stage = Stage::shared("external").await;
    let namespace = &stage.namespace;
    let _installed = OPERATOR.read().await;
    let env = ("PASSWORD", RIGHT);
    let (redis, postgres) = (image("SLUICE_IMAGE_REDIS").await, image("SLUICE_IMAGE_POSTGRES").await);
    for server in [
        Server { name: "cache", image: &redis, script: REDIS, env, ports: &[6379] },
        Server { name: "tables", image: &postgres, script: POSTGRES, env, ports: &[5432] },
    ] {
        apply(namespace, &server.manifest()).await;
    }
    let mut spec = small(1);
    spec["redis"] = json!({ "external": { "secretRef": { "name": "cache-url" } } });
    spec["postgres"] = json!({ "external": { "secretRef": { "name": "tables", "key": "dsn" } } });
    create(namespace, NAME, spec).await;
    let (reason, message) = says(namespace, "Ready", "False", "cache-url").await;
    assert_eq!(reason, "SecretMissing", "{message}");
    assert!(message.contains("spec.redis.external.secretRef"), "{message}");
    for name in ["cache", "tables"] {
        wait_until(&format!("{name} is ready"), SOON, || async {
            let pod = namespace.pod(name).await;
            holds(is_ready(&pod), || format!("{:?}", pod.status))
        })
        .await;
    }

    set_postgres(namespace, RIGHT).await;
    set_redis(namespace, WRONG).await;
    let (_, message) = says(namespace, "Ready", "False", "authentication failed").await;
    assert!(message.starts_with("RedisReady: the server of Secret cache-url"), "{message}");
    says(namespace, "RedisReady", "False", "NotConfirmed").await;

    set_redis(namespace, RIGHT).await;
    namespace.ready(NAME).await;

    // From here on the password of Postgres is wrong.
    set_postgres(namespace, WRONG).await;
    let (_, message) = says(namespace, "Ready", "False", "password authentication failed").await;
    assert!(message.contains("shop-aggregator-0"), "{message}");
    says(namespace, "PostgresReady", "False", "tables").await;
    nothing_shows_the_wrong_password(namespace).await;

    set_postgres(namespace, RIGHT).await;
    namespace.ready(NAME).await;
    assert_eq!(kubectl_in(namespace, &["get", "persistentvolumeclaims", "-o", "name"]).await, "", "none is managed");
    let load = Load::fast(3_000).start(namespace, NAME, 0).await;
    let report = load.finish(namespace).await;
    assert_eq!((report.verified, report.unique), (Some(true), load.distinct()), "{report:?}");
    let forward = Forward::start(&namespace.client, &namespace.name, "tables", 5432).await;
    let schema = namespace.variable("shop-aggregator", "SLUICE_DATABASE_SCHEMA").await;
    let url = format!("postgres://events:{RIGHT}@{}/postgres", forward.address());
    let mut store = StoreReader::connect(&StoreAddress::Postgres { url, schema }).await.expect("the database");
    let end = store.snapshot().await.expect("its numbers");
    assert_eq!([end.received, end.rows].map(i64::cast_unsigned), [report.accepted, load.distinct()], "{end:?}");

    deleting_the_resource_leaves_the_servers(namespace).await;
}

/// Asserts that no object, event or log contains the password that was refused.
async fn nothing_shows_the_wrong_password(namespace: &Namespace) {
    let shown = kubectl_in(
        namespace,
        &["get", "eventaggregators,pods,events,configmaps,statefulsets,deployments", "-o", "yaml"],
    )
    .await;
    let aggregator = kubectl_in(namespace, &["logs", "shop-aggregator-0", "--tail=-1"]).await;
    let system = operators::system().await;
    let operator = kubectl_in(&system, &["logs", &format!("deployment/{}", install::RELEASE), "--tail=-1"]).await;
    for (what, text) in
        [("an object", &shown), ("the aggregator's log", &aggregator), ("the operator's log", &operator)]
    {
        assert!(
            !text.contains(WRONG),
            "{what} shows the password: {:?}",
            text.lines().find(|line| line.contains(WRONG))
        );
    }
}

/// Asserts that the servers and their Secrets still exist after the resource is deleted.
async fn deleting_the_resource_leaves_the_servers(namespace: &Namespace) {
    namespace.resources().delete(NAME, &DeleteParams::default()).await.expect("deleted");
    super::gone(namespace, "pods,statefulsets,deployments").await;
    let left = kubectl_in(namespace, &["get", "secrets,pods", "-o", "name"]).await;
    for own in ["secret/cache-url", "secret/tables", "pod/cache", "pod/tables"] {
        assert!(left.lines().any(|name| name == own), "{own} is not among\n{left}");
    }
}
