//! Tests of the chart that need an API server: admission, and an upgrade that changes the CustomResourceDefinition.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::cluster::{blocking, helm, kubectl, kubectl_with, root, try_kubectl};
use crate::support::install::{self, NAMESPACE, RELEASE, chart};
use crate::support::trial::{OPERATOR, Stage};

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
