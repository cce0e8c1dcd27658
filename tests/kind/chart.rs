//! Tests of the chart that need an API server: admission, an upgrade that changes the
//! CustomResourceDefinition, and RBAC permissions that are sufficient and minimal.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::cluster::{blocking, helm, kubectl, kubectl_with, root, try_helm, try_kubectl};
use crate::support::install::{self, NAMESPACE, RELEASE, chart, images, tag};
use crate::support::trial::{OPERATOR, Stage, small};

/// The resource of a test, with its group: another test defines a kind of the same name in another group.
const SHOP: &str = "eventaggregators.sluice.dev/shop";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_everything_rendered_and_restricted_namespaces_admit_it() {
    let stage = Stage::shared("dry-run").await;
    let own = stage.namespace.name.clone();
    blocking(move || {
        // The API server accepts a Deployment whose pods would not be admitted. With this label it at least warns.
        kubectl(&["label", "namespace", &own, "pod-security.kubernetes.io/warn=restricted"]);
        let only = format!("namespaces={{{own}}}");
        let more = "replicas=2,test.resource=shop,labels.team=water,annotations.owner=anna,networkPolicy.enabled=true,\
                    networkPolicy.apiServer.cidrs={10.0.0.1/32},crds.labels.team=water,strategy.type=Recreate,\
                    volumes[0].name=disk,volumeMounts[0].name=disk,volumeMounts[0].mountPath=/disk,\
                    metrics.ipFamilyPolicy=PreferDualStack,dnsConfig.searches={dam.example},\
                    livenessProbe.initialDelaySeconds=5,podSecurityContext.fsGroup=65532";
        for set in ["replicas=1", more, &only] {
            let (chart, version) = (chart().display().to_string(), server_version());
            let version = ["--kube-version", &version];
            let rendered =
                helm(&[&["template", "gate", &chart, "--namespace", &own, "--set", set], version.as_slice()].concat());
            let args = ["apply", "--dry-run=server", "--validate=strict", "-n", &own, "-f", "-"];
            let output = try_kubectl(&args, &rendered);
            let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success(), "--set {set}: {said}{errors}");
            assert!(!errors.contains("would violate"), "--set {set}: {errors}");
            for kind in ["deployment.apps/", "pod/", "service/", "serviceaccount/", "customresourcedefinition"] {
                assert!(said.contains(kind), "--set {set}: no {kind} in {said}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_accepts_the_manifests_for_users_without_helm() {
    let _stage = Stage::shared("manifests").await;
    // Their namespace is that of the operator of all tests, whose fields they would take over.
    let _installed = OPERATOR.read().await;
    blocking(|| {
        let output = Command::new(root().join("scripts/manifests")).output().expect("scripts/manifests");
        let (made, errors) = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8")).into();
        assert!(output.status.success(), "{errors}");
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-"];
        let said = kubectl_with(&args, &made);
        for kind in ["namespace/", "customresourcedefinition", "clusterrole", "deployment.apps/", "service/"] {
            assert!(said.contains(kind), "no {kind} in {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_resource_of_the_notes_can_be_pasted() {
    let _stage = Stage::shared("notes").await;
    let _installed = OPERATOR.read().await;
    blocking(|| {
        let notes = helm(&["get", "notes", RELEASE, "--namespace", NAMESPACE]);
        let manifest = notes.split("<<EOF\n").nth(1).and_then(|rest| rest.split("\nEOF").next()).expect(&notes);
        kubectl_with(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], manifest);
    })
    .await;
}

/// The definition has its own API group, because other tests use the product's group at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_brings_a_changed_definition_and_uninstalling_leaves_it_with_its_resources() {
    let stage = Stage::shared("definition").await;
    let own = stage.namespace.name.clone();
    blocking(move || {
        let definition = Definition { name: format!("eventaggregators.{own}.example") };
        let folder = tempfile::tempdir().expect("a folder");
        let chart = install::copied_chart(folder.path());
        let file = chart.join("files/crd.yaml");
        replace(&file, "sluice.dev", &format!("{own}.example"));

        release("install", "gate", &own, &chart, &[]);
        let resource = format!("apiVersion: {own}.example/v1alpha1\nkind: EventAggregator\nmetadata:\n  name: shop\n");
        let with_news = format!("{resource}spec:\n  news: \"yes\"\n");
        let apply = ["apply", "--validate=strict", "-n", &own, "-f", "-"];
        assert!(!try_kubectl(&apply, &with_news).status.success(), "the old definition has no field `news`");

        let before = "              deletionPolicy:\n";
        replace(&file, before, &format!("              news: {{type: string}}\n{before}"));
        release("upgrade", "gate", &own, &chart, &[]);
        kubectl(&["wait", "--for=condition=Established", "--timeout=10m", "crd", &definition.name]);
        kubectl_with(&apply, &with_news);

        helm(&["uninstall", "gate", "--namespace", &own, "--wait"]);
        let left = kubectl(&["get", &definition.name, "-n", &own, "-o", "jsonpath={.items[*].spec.news}"]);
        assert_eq!(left, "yes", "the resource is not deleted");

        release("install", "weir", &own, &chart, &["--take-ownership"]);
        helm(&["uninstall", "weir", "--namespace", &own, "--wait"]);
        assert_eq!(kubectl(&["get", &definition.name, "-n", &own, "-o", "name"]).lines().count(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_in_one_namespace_suffice_to_look_after_it_and_allow_nothing_elsewhere() {
    let stage = Stage::alone("roles").await;
    let own = stage.namespace.name.clone();
    let release = own.clone();
    // Meanwhile the operator of the other tests must not reconcile this namespace.
    let _defaults = blocking(move || {
        let defaults = install::Restored;
        install::upgrade(&["--set", &format!("namespaces={{{NAMESPACE}}}")]);
        install_for(&release);
        defaults
    })
    .await;
    crate::support::trial::create(&stage.namespace, "shop", small(1)).await;
    stage.namespace.ready("shop").await;

    blocking(move || {
        let log = kubectl(&["logs", "-n", &own, "-l", "app.kubernetes.io/instance=gate", "--tail=-1"]);
        assert!(!log.contains("forbidden"), "{log}");
        let holder = kubectl(&["get", "lease", "gate-sluice", "-n", &own, "-o", "jsonpath={.spec.holderIdentity}"]);
        assert!(holder.starts_with("gate-sluice-"), "{holder}");

        // It can compare the installed definition with its own without any right to read definitions.
        let operators = "app.kubernetes.io/instance=gate,app.kubernetes.io/name=sluice-operator";
        let name = ["get", "pods", "-n", &own, "-l", operators, "-o", "jsonpath={.items[0].metadata.name}"];
        let metrics = format!("/api/v1/namespaces/{own}/pods/{}:8082/proxy/metrics", kubectl(&name));
        let metrics = kubectl(&["get", "--raw", &metrics]);
        assert!(metrics.lines().any(|line| line == "sluice_operator_missing_schema_fields 0"), "{metrics}");

        assert!(may(&own, "patch statefulsets.apps", &own));
        assert!(may(&own, "create secrets", &own));
        for beyond in ["delete eventaggregators.sluice.dev", "delete secrets", "delete persistentvolumeclaims"] {
            assert!(!may(&own, beyond, &own), "{beyond}");
        }
        for beyond in [
            "create pods --subresource=exec",
            "create roles.rbac.authorization.k8s.io",
            "create serviceaccounts --subresource=token",
        ] {
            assert!(!may(&own, beyond, &own), "{beyond}");
        }
        for elsewhere in ["get secrets", "list eventaggregators.sluice.dev", "patch statefulsets.apps", "list nodes"] {
            assert!(!may(&own, elsewhere, "default"), "{elsewhere} in default");
        }

        let said = helm(&["test", "gate", "--namespace", &own, "--timeout=10m"]);
        assert_eq!(said.matches("Succeeded").count(), 2, "{said}");
        let stored = "--for=jsonpath={.status.totals.received}=2";
        kubectl(&["wait", SHOP, "-n", &own, stored, "--timeout=5m"]);

        // Nothing can be published without a publisher, and the test says so.
        kubectl(&["patch", SHOP, "-n", &own, "--type=merge", "-p", WITHOUT_PUBLISHERS]);
        let deployment = "deployment/shop-publisher";
        kubectl(&["wait", deployment, "-n", &own, "--for=jsonpath={.spec.replicas}=0", "--timeout=5m"]);
        // A pod that is stopping is still sent requests while no other one is ready.
        let publishers = "app.kubernetes.io/instance=shop,app.kubernetes.io/component=publisher";
        kubectl(&["wait", "pod", "-n", &own, "-l", publishers, "--for=delete", "--timeout=5m"]);
        let output = try_helm(&["test", "gate", "--namespace", &own, "--timeout=2m"]);
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(!output.status.success(), "the test succeeds though nothing can be published: {said}");
        assert!(said.contains("gate-sluice-test-publish"), "{said}");
        kubectl(&["delete", SHOP, "-n", &own, "--timeout=10m"]);
        helm(&["uninstall", "gate", "--namespace", &own, "--wait"]);
    })
    .await;
}

const WITHOUT_PUBLISHERS: &str = r#"{"spec":{"publisher":{"replicas":0}}}"#;

/// Installs two operators for this namespace only, with their NetworkPolicy. Their `helm test` publishes to the resource `shop`.
fn install_for(namespace: &str) {
    let chart = chart().display().to_string();
    let set = format!(
        "replicas=2,networkPolicy.enabled=true,crds.enabled=false,namespaces={{{namespace}}},test.resource=shop,image.tag={},images.aggregator.tag={},images.publisher.tag={}",
        tag(&images().operator),
        tag(&images().aggregator),
        tag(&images().publisher),
    );
    helm(&["install", "gate", &chart, "--namespace", namespace, "--wait", "--timeout=10m", "--set", &set]);
}

/// Returns whether the operator of the release `gate` in `own` is allowed to do `what` in `namespace`.
fn may(own: &str, what: &str, namespace: &str) -> bool {
    let account = format!("--as=system:serviceaccount:{own}:gate-sluice");
    let mut args = vec!["auth", "can-i", &account, "-n", namespace];
    args.extend(what.split(' '));
    try_kubectl(&args, "").status.success()
}

/// The definition of this test. Helm does not delete it on uninstall, so it is deleted when this is dropped.
struct Definition {
    name: String,
}

impl Drop for Definition {
    fn drop(&mut self) {
        try_kubectl(&["delete", "crd", &self.name, "--wait=false"], "");
    }
}

/// Installs or upgrades a release without operator pods, because the test is about the other objects.
fn release(verb: &str, name: &str, namespace: &str, chart: &Path, more: &[&str]) {
    let chart = chart.display().to_string();
    let args = [verb, name, &chart, "--namespace", namespace, "--set", "replicas=0", "--wait", "--timeout=10m"];
    helm(&[&args, more].concat());
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(from), "{} has no {from:?}", file.display());
    fs::write(file, text.replace(from, to)).expect("a file");
}

/// Returns the version of the API server. Without it Helm renders for the Kubernetes version it was built with.
fn server_version() -> String {
    let version: serde_json::Value =
        serde_json::from_str(&kubectl(&["version", "-o", "json"])).expect("versions as JSON");
    version["serverVersion"]["gitVersion"].as_str().expect("the server's version").to_owned()
}
