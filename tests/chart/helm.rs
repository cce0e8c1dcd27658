//! Runs Helm on the chart, and parses its output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

/// The Kubernetes version to render for. A Helm built without a default version assumes a very old one.
const KUBE_VERSION: &str = "1.34.0";

/// Returns the root folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Returns the text of a file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the folder of the chart.
pub fn chart() -> PathBuf {
    root().join("charts/sluice")
}

/// Runs Helm: the one of the test cluster, the one that `scripts/helm` built, or the one on the path.
pub fn helm(args: &[&str]) -> Output {
    let built = ["target/kind/bin/helm", "target/tools/helm/bin/helm"].map(|path| root().join(path));
    let program = built.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("helm"));
    Command::new(&program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; `scripts/helm` installs it", program.display()))
}

/// A release of the chart: its name, namespace and the values set for it.
pub struct Release {
    name: &'static str,
    namespace: &'static str,
    args: Vec<String>,
    chart: PathBuf,
    kube_version: &'static str,
}

impl Release {
    /// Returns the release of the docs: `helm install sluice charts/sluice -n sluice-system`.
    pub fn new() -> Self {
        Self {
            name: "sluice",
            namespace: "sluice-system",
            args: Vec::new(),
            chart: chart(),
            kube_version: KUBE_VERSION,
        }
    }

    /// Returns a release with these names. Names that differ from the product's reveal names that are hard-coded
    /// in a template.
    pub fn named(name: &'static str, namespace: &'static str) -> Self {
        Self { name, namespace, ..Self::new() }
    }

    /// Renders the chart in another folder, such as a changed copy.
    pub fn of(mut self, chart: &Path) -> Self {
        self.chart = chart.to_owned();
        self
    }

    /// Renders for another version of Kubernetes.
    pub fn on(mut self, kube_version: &'static str) -> Self {
        self.kube_version = kube_version;
        self
    }

    /// Adds `--set PAIR`.
    pub fn set(mut self, pair: &str) -> Self {
        self.args.extend(["--set".to_owned(), pair.to_owned()]);
        self
    }

    /// Adds `--set-json PAIR`, for lists and objects.
    pub fn set_json(mut self, pair: &str) -> Self {
        self.args.extend(["--set-json".to_owned(), pair.to_owned()]);
        self
    }

    /// Adds `--values FILE`, a path relative to the root of the repository.
    pub fn values(mut self, file: &str) -> Self {
        self.args.extend(["--values".to_owned(), root().join(file).display().to_string()]);
        self
    }

    fn template(&self) -> Output {
        let chart = self.chart.display().to_string();
        let mut args = vec!["template", self.name, &chart, "--namespace", self.namespace];
        args.extend(["--kube-version", self.kube_version]);
        args.extend(self.args.iter().map(String::as_str));
        helm(&args)
    }

    /// Returns the rendered text. Panics if Helm fails.
    pub fn text(&self) -> String {
        let output = self.template();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm template {:?} failed: {errors}", self.args);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the error with which Helm refuses the values. Panics if Helm accepts them.
    pub fn refusal(&self) -> String {
        let output = self.template();
        assert!(!output.status.success(), "helm template {:?} was not refused", self.args);
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// Returns the rendered objects.
    pub fn objects(&self) -> Objects {
        objects_in(&self.text())
    }
}

/// Returns the objects in a text of several YAML documents.
pub fn objects_in(text: &str) -> Objects {
    let documents = serde_yaml::Deserializer::from_str(text);
    let objects = documents
        // `serde_yaml::Value` refuses duplicate keys, which `serde_json::Value` would accept.
        .map(|document| serde_yaml::Value::deserialize(document).unwrap_or_else(|error| panic!("{error}:\n{text}")))
        .filter(|document| !document.is_null())
        .map(|document| serde_json::to_value(document).expect("YAML that is also JSON"))
        .collect();
    Objects(objects)
}

/// All objects of a rendered release.
#[derive(Debug)]
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// Returns the objects of a kind.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// Returns the only object of a kind. Panics unless there is exactly one.
    pub fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "objects of kind {kind} in {:?}", self.names());
        all[0]
    }

    /// Returns `Kind/name` of each object, for assertion messages.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|object| format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))).collect()
    }

    /// Returns the pod spec of each Pod and Deployment, with `Kind/name`.
    pub fn pods(&self) -> Vec<(String, &Value)> {
        self.0
            .iter()
            .zip(self.names())
            .filter_map(|(object, name)| match text(&object["kind"]) {
                "Pod" => Some((name, &object["spec"])),
                "Deployment" => Some((name, &object["spec"]["template"]["spec"])),
                _ => None,
            })
            .collect()
    }

    /// Returns the container of the operator.
    pub fn container(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// Returns the value of an environment variable of the operator, or `None` if it is not set.
    pub fn env(&self, name: &str) -> Option<&str> {
        let env = self.container()["env"].as_array().expect("env");
        env.iter().find(|variable| variable["name"] == name).and_then(|variable| variable["value"].as_str())
    }
}

/// Returns the string in a value. Panics if it is not a string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// Returns the strings in a list. Panics if it is not a list of strings.
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list")).iter().map(text).collect()
}

/// Adds the paths of all values that are no mapping with keys.
pub fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(keys) if !keys.is_empty() => {
            for (key, value) in keys {
                leaves(format!("{path}.{key}").trim_start_matches('.'), value, found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}
