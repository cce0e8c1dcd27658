//! One operator with a thousand resources. They have no pods, because a small machine has no room for them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use sluice_tests::wait::holds;
use sluice_tests::wait_until;

use crate::footprint::{DefaultSettings, Sample, quiet, without_pods};
use crate::support::cluster::{blocking, kubectl_with};
use crate::support::install;
use crate::support::objects::Namespace;
use crate::support::trial::{Stage, create};

/// The number of resources that become Ready.
const MANY: usize = 1_000;
/// The number of further resources that never do.
const FAILING: usize = 100;
/// The number of resources that are changed while these fail.
const CHANGED: usize = 100;
/// The number of requests of the test that are in flight at the same time.
const AT_ONCE: usize = 16;
/// The bound for the operator's resident memory.
const MAX_BYTES: f64 = 64.0 * 1_048_576.0;
/// The bound for the requests of one look at a resource that has not changed.
const MAX_REQUESTS: f64 = 10.0;
/// Longer than the operator takes for all resources.
const LONG: Duration = Duration::from_secs(1_800);
/// What the tests aim at for a change, at the 99th percentile. It is printed and not asserted.
const AIM: Duration = Duration::from_secs(2);

fn name(number: usize) -> String {
    format!("many-{number}")
}

/// Does something for each of these numbers, some at the same time.
async fn each<F: Future<Output = ()>>(numbers: std::ops::Range<usize>, what: impl Fn(usize) -> F) {
    futures::stream::iter(numbers).map(what).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// How long the test waits before it lists all resources again. A list of a thousand keeps the API server busy, and the
/// operator would wait for it.
const PAUSE: Duration = Duration::from_secs(5);

/// Waits until this many resources have this status of Ready, in their current generation.
async fn ready(namespace: &Namespace, status: &str, count: usize) {
    wait_until(&format!("{count} resources with Ready={status}"), LONG, || async {
        let all = namespace.resources().list(&Default::default()).await.map_err(|error| error.to_string())?;
        let has = |resource: &&kube::api::DynamicObject| {
            let conditions = resource.data["status"]["conditions"].as_array();
            let ready = conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
            ready.is_some_and(|ready| {
                ready["status"] == status && ready["observedGeneration"].as_i64() == resource.metadata.generation
            })
        };
        let found = all.items.iter().filter(has).count();
        if found != count {
            tokio::time::sleep(PAUSE).await;
        }
        holds(found == count, || format!("{found}"))
    })
    .await;
}

/// Creates a Secret with the URLs of servers that no pod uses.
async fn make_secret(namespace: &Namespace) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "servers" },
        "stringData": { "redis": "redis://cache.example", "postgres": "postgres://u:p@database.example/events" },
    });
    let own = namespace.name.clone();
    blocking(move || kubectl_with(&["apply", "-n", &own, "-f", "-"], &secret.to_string())).await;
}

/// Creates resources that fail again and again: the name of an object that they need belongs to somebody else.
async fn make_failing(namespace: &Namespace) {
    let accounts =
        kube::Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(namespace.client.clone(), &namespace.name);
    each(MANY..MANY + FAILING, |number| {
        let accounts = &accounts;
        async move {
            let account = json!({ "metadata": { "name": format!("{}-publisher", name(number)) } });
            let account = serde_json::from_value(account).expect("a ServiceAccount");
            accounts.create(&PostParams::default(), &account).await.expect("the account is created");
            create(namespace, &name(number), without_pods()).await;
        }
    })
    .await;
    ready(namespace, "False", FAILING).await;
}

/// Changes a resource, and returns the time until the operator has applied the change.
async fn act(namespace: &Namespace, number: usize) -> Duration {
    let resources = namespace.resources();
    let change = json!({ "spec": { "publisher": { "limits": { "maxEvents": 777 } } } });
    let began = Instant::now();
    let patched = resources.patch(&name(number), &PatchParams::default(), &Patch::Merge(change)).await;
    let generation = patched.expect("the change is accepted").metadata.generation;
    loop {
        let resource = resources.get(&name(number)).await.expect("the resource");
        if resource.data["status"]["observedGeneration"].as_i64() == generation {
            return began.elapsed();
        }
        assert!(began.elapsed() < LONG, "{}", resource.data["status"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes minutes: make test-many"]
async fn an_operator_with_a_thousand_resources_is_small_quiet_and_quick() {
    let stage = Stage::alone("many").await;
    let namespace = &stage.namespace;
    make_secret(namespace).await;
    let began = Instant::now();
    each(0..MANY, |number| async move { create(namespace, &name(number), without_pods()).await }).await;
    ready(namespace, "True", MANY).await;
    println!("{MANY} resources were Ready after {:.0} s", began.elapsed().as_secs_f64());
    quiet().await;

    let _defaults = DefaultSettings;
    blocking(|| install::upgrade(&["--set", "extraArgs={--resync=1m}"])).await;
    // A new operator reads all resources once. Some that are settled by then are looked at again meanwhile.
    wait_until("the new operator has looked at all resources twice", LONG, || async {
        let sample = Sample::take().await?;
        holds(sample.reconciles >= 2.0 * MANY as f64, || format!("{sample:?}"))
    })
    .await;
    let before = Sample::taken().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = Sample::taken().await;
    let looks = after.reconciles - before.reconciles;
    let requests = after.requests.values().sum::<f64>() - before.requests.values().sum::<f64>();
    println!("{looks:.0} looks needed {requests:.0} requests in a minute");
    assert!(looks >= 0.5 * MANY as f64, "the operator looks at each resource once a minute");
    assert!(requests < MAX_REQUESTS * looks, "a look at a resource that has not changed needs too many requests");
    let highest = before.resident.max(after.resident);
    println!("resident memory with {MANY} resources: {:.1} MiB", highest / 1_048_576.0);
    assert!(highest < MAX_BYTES, "the operator uses {highest} bytes");

    make_failing(namespace).await;
    let mut times = Vec::new();
    for number in 0..CHANGED {
        times.push(act(namespace, number).await);
    }
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share).ceil() as usize).max(1) - 1].as_secs_f64();
    println!(
        "a change while {FAILING} resources fail: {:.2} s at the median, {:.2} s at the 99th percentile (aim: {:.0} s)",
        at(0.5),
        at(0.99),
        AIM.as_secs_f64()
    );
}
