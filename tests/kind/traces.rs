//! The traces of a resource, sent to a real OpenTelemetry Collector that runs in the cluster.

use serde_json::json;
use sluice_tests::collector::PROGRAM;
use sluice_tests::span::{Span, of_line};
use sluice_tests::wait::holds;
use sluice_tests::{Client, wait_until};

use crate::support::cluster::blocking;
use crate::support::forward::Forward;
use crate::support::objects::{Namespace, SOON, apply, is_ready, kubectl_in};
use crate::support::server::Server;
use crate::support::trial::{NAME, Stage, create, small};

const COLLECTOR: &str = "collector";
const GRPC: u16 = 4317;
const HTTP: u16 = 4318;
/// What the Collector demands of each request.
const TOKEN: &str = "opens-the-door";

/// Starts a Collector that demands a token: a pod, to which its program is copied, and a Service.
async fn start_collector(namespace: &Namespace) {
    let receiver =
        |port: u16| json!({ "endpoint": format!("0.0.0.0:{port}"), "auth": { "authenticator": "bearertokenauth" } });
    let config = json!({
        "extensions": { "bearertokenauth": { "token": TOKEN } },
        "receivers": { "otlp": { "protocols": { "http": receiver(HTTP), "grpc": receiver(GRPC) } } },
        "exporters": { "file": { "path": "/data/spans.json", "flush_interval": "100ms" } },
        "service": {
            "extensions": ["bearertokenauth"],
            "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "warn" } },
            "pipelines": { "traces": { "receivers": ["otlp"], "exporters": ["file"] } },
        },
    });
    let script = "printf %s \"$CONFIG\" > /data/config.yaml; touch /data/spans.json; \
                  until [ -e /data/collector ]; do sleep 0.2; done; exec /data/collector --config=file:/data/config.yaml";
    let (config, ports) = (config.to_string(), [GRPC, HTTP]);
    let server =
        Server { name: COLLECTOR, image: "postgres:17", script, env: ("CONFIG", &config), ports: &ports }.manifest();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "traces" },
        "stringData": { "headers": format!("authorization=Bearer%20{TOKEN}") },
    });
    for object in [server, secret] {
        apply(namespace, &object).await;
    }

    let state = async || namespace.pods().get(COLLECTOR).await.map_err(|error| error.to_string());
    wait_until("the pod of the Collector runs", SOON, || async {
        let pod = state().await?;
        let phase = pod.status.and_then(|status| status.phase);
        holds(phase.as_deref() == Some("Running"), || format!("{phase:?}"))
    })
    .await;
    let program = blocking(|| PROGRAM.display().to_string()).await;
    kubectl_in(namespace, &["cp", &program, &format!("{COLLECTOR}:/data/copied")]).await;
    kubectl_in(namespace, &["exec", COLLECTOR, "--", "mv", "/data/copied", "/data/collector"]).await;
    wait_until("the Collector listens", SOON, || async {
        let pod = state().await?;
        holds(is_ready(&pod), || format!("{:?}", pod.status))
    })
    .await;
}

/// Publishes an event in a trace that its client began.
async fn publish(namespace: &Namespace, trace: &str, id: &str) {
    let publisher = namespace.pods_of(NAME, "publisher").await.remove(0).metadata.name.expect("its name");
    let forward = Forward::start(&namespace.client, &namespace.name, &publisher, 8080).await;
    let client = Client::new(&format!("http://{}", forward.address()));
    let context = format!("00-{trace}-b7ad6b7169203331-01");
    let event = json!({ "topic": "orders", "event_id": id, "payload": 1 });
    let request = client.request("POST", "/publish").header("content-type", "application/json");
    client.send(request.header("traceparent", context).body(event.to_string())).await.assert_status(202);
}

/// Waits until the Collector has the whole trace, and returns its spans.
async fn arrived(namespace: &Namespace, trace: &str) -> Vec<Span> {
    let expected = ["POST /publish", "append", "commit", "read"];
    wait_until(&format!("the Collector has the trace {trace}"), SOON, || async {
        let text = kubectl_in(namespace, &["exec", COLLECTOR, "--", "cat", "/data/spans.json"]).await;
        // The last line may be incomplete.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut spans: Vec<_> = complete.lines().flat_map(of_line).filter(|span| span.trace == trace).collect();
        spans.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        holds(names == expected, || format!("{names:?}")).map(|()| spans)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_traces_of_a_resource_arrive_at_a_collector_that_demands_a_token() {
    let stage = Stage::shared("traces").await;
    let namespace = &stage.namespace;
    start_collector(namespace).await;
    let endpoint = |port: u16| format!("http://{COLLECTOR}.{}.svc:{port}", namespace.name);
    let mut spec = small(2);
    spec["tracing"] = json!({
        "endpoint": endpoint(GRPC), "protocol": "grpc", "ratio": "0", "headersSecret": { "name": "traces" },
    });
    create(namespace, NAME, spec).await;
    namespace.ready(NAME).await;
    let over_grpc = "0af7651916cd43dd8448eb211c80319c";
    publish(namespace, over_grpc, "evt-1").await;
    let spans = arrived(namespace, over_grpc).await;
    let services: Vec<_> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, ["sluice-publisher", "sluice-publisher", "sluice-aggregator", "sluice-aggregator"]);

    let change = json!({ "endpoint": endpoint(HTTP), "protocol": "http/protobuf" });
    namespace.patch(NAME, json!({ "spec": { "tracing": change } })).await;
    namespace.ready(NAME).await;
    let over_http = "1af7651916cd43dd8448eb211c80319c";
    publish(namespace, over_http, "evt-2").await;
    arrived(namespace, over_http).await;
}
