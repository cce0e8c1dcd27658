//! The operator, installed once for all tests as a user installs it.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::cluster::{helm, kubectl, kubectl_with, root, try_helm, work};

/// The namespace of the operator that reconciles the resources of all tests.
pub const NAMESPACE: &str = "sluice-system";
/// Its release.
pub const RELEASE: &str = "sluice";
/// Label of all namespaces of tests.
pub const LABEL: &str = "sluice.dev/e2e";

/// The reason why the operator could not be installed is kept, because every test that needs it fails with it.
static INSTALLED: LazyLock<Result<(), String>> =
    LazyLock::new(|| std::panic::catch_unwind(start).map_err(|panic| message(&*panic)));

/// The product's images, as `make images` named them.
#[derive(Debug, Clone, Default)]
pub struct Images {
    /// Image of the operator.
    pub operator: String,
    /// Image of the publisher, which has the simulator.
    pub publisher: String,
    /// Image of the aggregator.
    pub aggregator: String,
}

static IMAGES: LazyLock<Images> = LazyLock::new(|| {
    let path = work().join("images");
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; `make images`", path.display()));
    let named = |program: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{program}:")));
        found.unwrap_or_else(|| panic!("{} has no {program}", path.display())).to_owned()
    };
    Images {
        operator: named("sluice-operator"),
        publisher: named("sluice-publisher"),
        aggregator: named("sluice-aggregator"),
    }
});

/// The images under test.
pub fn images() -> &'static Images {
    &IMAGES
}

/// Installs the operator unless it is installed already. Panics in every test if that failed once.
pub fn ensure() {
    if let Err(reason) = &*INSTALLED {
        panic!("the operator could not be installed: {reason}");
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

/// The chart.
pub fn chart() -> PathBuf {
    root().join("charts/sluice")
}

/// Installs the operator from scratch: what an earlier run left is removed first.
fn start() {
    kubectl(&["delete", "namespace", "-l", LABEL, "--wait=false", "--ignore-not-found"]);
    uninstall();
    make_namespace(NAMESPACE, &[]);
    install(&[]);
}

/// Creates a namespace whose pods must be `restricted`.
pub fn make_namespace(name: &str, labels: &[&str]) {
    let restricted = "pod-security.kubernetes.io/enforce: restricted";
    let labels: String = labels.iter().map(|label| format!("    {label}\n")).collect();
    let namespace =
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels:\n    {restricted}\n{labels}");
    kubectl_with(&["apply", "-f", "-"], &namespace);
}

/// `helm install`, and the wait until the operator runs.
pub fn install(more: &[&str]) {
    release("install", &chart(), more);
}

/// `helm upgrade` to these values.
pub fn upgrade(more: &[&str]) {
    release("upgrade", &chart(), more);
}

/// `helm upgrade` to this chart and these values.
pub fn upgrade_to(chart: &Path, more: &[&str]) {
    release("upgrade", chart, more);
}

/// `helm rollback` to the release before.
pub fn roll_back() {
    helm(&["rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=10m"]);
}

/// Restores the chart and the default values of the operator that all tests share when it is dropped.
pub struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        upgrade(&[]);
    }
}

/// Copies the chart to `folder`, so that a test can change it, and returns the path of the copy.
pub fn copied_chart(folder: &Path) -> PathBuf {
    let copied = Command::new("cp").arg("-R").arg(chart()).arg(folder).status();
    assert!(copied.expect("cp").success());
    folder.join("sluice")
}

fn release(verb: &str, chart: &Path, more: &[&str]) {
    let chart = chart.display().to_string();
    let set = [
        format!("image.tag={}", tag(&images().operator)),
        format!("images.aggregator.tag={}", tag(&images().aggregator)),
        format!("images.publisher.tag={}", tag(&images().publisher)),
    ];
    let mut args = vec![verb, RELEASE, &chart, "--namespace", NAMESPACE, "--wait", "--timeout=10m"];
    set.iter().for_each(|pair| args.extend(["--set", pair]));
    args.extend(more);
    helm(&args);
}

/// `helm uninstall`, where there is a release.
pub fn uninstall() {
    if try_helm(&["status", RELEASE, "--namespace", NAMESPACE]).status.success() {
        helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=10m"]);
    }
}

/// Returns the tag of an image.
pub fn tag(image: &str) -> &str {
    image.rsplit_once(':').map_or("", |(_, tag)| tag)
}
