//! Runs Helm on the chart and reads what it says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::Deserialize;
use serde_json::Value;

/// A Helm that was not built for a Kubernetes version believes in a very old one.
const KUBE_VERSION: &str = "1.34.0";

/// The top of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// The text of a file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    root().join("charts/sluice")
}

/// Runs Helm: the test cluster's, the one that `scripts/helm` built, or the path's.
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
}

impl Release {
    /// As the docs install it: `helm install sluice charts/sluice -n sluice-system`.
    pub fn new() -> Self {
        Self { name: "sluice", namespace: "sluice-system", args: Vec::new(), chart: chart() }
    }

    /// With names that share no part with the product's, to catch what is written out by hand.
    pub fn named(name: &'static str, namespace: &'static str) -> Self {
        Self { name, namespace, ..Self::new() }
    }

    /// A changed copy of the chart.
    pub fn of(mut self, chart: &Path) -> Self {
        self.chart = chart.to_owned();
        self
    }

    /// `--set PAIR`.
    pub fn set(mut self, pair: &str) -> Self {
        self.args.extend(["--set".to_owned(), pair.to_owned()]);
        self
    }

    /// `--set-json PAIR`, for lists and objects.
    pub fn set_json(mut self, pair: &str) -> Self {
        self.args.extend(["--set-json".to_owned(), pair.to_owned()]);
        self
    }

    /// `--values FILE`, a path inside the repository.
    pub fn values(mut self, file: &str) -> Self {
        self.args.extend(["--values".to_owned(), root().join(file).display().to_string()]);
        self
    }

    fn template(&self) -> Output {
        let chart = self.chart.display().to_string();
        let mut args = vec!["template", self.name, &chart, "--namespace", self.namespace];
        args.extend(["--kube-version", KUBE_VERSION]);
        args.extend(self.args.iter().map(String::as_str));
        helm(&args)
    }

    /// The rendered text.
    pub fn text(&self) -> String {
        let output = self.template();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm template {:?} failed: {errors}", self.args);
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// What Helm says when it refuses the values.
    pub fn refusal(&self) -> String {
        let output = self.template();
        assert!(!output.status.success(), "helm template {:?} was to be refused", self.args);
        String::from_utf8(output.stderr).expect("UTF-8")
    }

    /// The rendered objects.
    pub fn objects(&self) -> Objects {
        let text = self.text();
        let documents = serde_yaml::Deserializer::from_str(&text);
        let objects = documents
            // By way of YAML's own value, which refuses a key that is given twice.
            .map(|document| serde_yaml::Value::deserialize(document).unwrap_or_else(|error| panic!("{error}:\n{text}")))
            .filter(|document| !document.is_null())
            .map(|document| serde_json::to_value(document).expect("YAML that is also JSON"))
            .collect();
        Objects(objects)
    }
}

/// All objects of a rendered release.
#[derive(Debug)]
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// Those of a kind.
    pub fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The only one of a kind.
    pub fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "objects of kind {kind} in {:?}", self.names());
        all[0]
    }

    /// `Kind/name` of each, for messages.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|object| format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))).collect()
    }

    /// The pod template or spec of everything that makes pods.
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

    /// The operator's container.
    pub fn container(&self) -> &Value {
        &self.one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    }

    /// The value of a variable of the operator; `None` when it is not set.
    pub fn env(&self, name: &str) -> Option<&str> {
        let env = self.container()["env"].as_array().expect("env");
        env.iter().find(|variable| variable["name"] == name).and_then(|variable| variable["value"].as_str())
    }
}

/// The string that a value is.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The strings of a list.
pub fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("{value} is not a list")).iter().map(text).collect()
}
