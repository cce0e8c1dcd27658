//! Chart.yaml: what Helm and Artifact Hub show of the chart.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::helm::{Release, read, text};

#[test]
fn the_icon_is_the_file_in_the_chart() {
    let chart = chart();
    let icon = text(&chart["icon"]).strip_prefix("data:image/svg+xml;base64,").expect("an SVG").to_owned();
    let decoded = BASE64_STANDARD.decode(icon).expect("base64");
    assert!(decoded == read("charts/sluice/icon.svg").as_bytes(), "the icon is not charts/sluice/icon.svg");
}

#[test]
fn the_examples_of_the_definition_are_samples() {
    let samples: Vec<Value> = ["minimal", "production"]
        .into_iter()
        .map(|name| serde_yaml::from_str(&read(&format!("samples/{name}.yaml"))).expect("YAML"))
        .collect();
    let shown = annotation("crdsExamples");
    assert!(
        shown == Value::from(samples.clone()),
        "artifacthub.io/crdsExamples differs from the samples:\n{}",
        serde_yaml::to_string(&samples).expect("YAML")
    );
}

#[test]
fn the_definition_that_is_shown_is_the_one_that_is_installed() {
    let objects = Release::new().objects();
    let definition = objects.one("CustomResourceDefinition");
    let shown = annotation("crds");
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    assert_eq!(shown[0]["name"], definition["metadata"]["name"]);
    assert_eq!(shown[0]["kind"], definition["spec"]["names"]["kind"]);
    assert_eq!(shown[0]["version"], definition["spec"]["versions"][0]["name"]);
}

#[test]
fn the_images_that_are_shown_are_those_that_the_defaults_pull() {
    let objects = Release::new().objects();
    let schema = objects.one("CustomResourceDefinition")["spec"]["versions"][0]["schema"].clone();
    let postgres = &schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["postgres"]["properties"];
    let version = postgres["managed"]["properties"]["version"]["default"].to_string();
    let mut pulled = vec![json!({"name": "operator", "image": objects.container()["image"]})];
    for name in ["aggregator", "publisher", "redis", "postgres"] {
        let image = objects.env(&format!("SLUICE_IMAGE_{}", name.to_uppercase())).expect("an image");
        pulled.push(json!({"name": name, "image": image.replace("{version}", &version)}));
    }
    assert_eq!(annotation("images"), Value::from(pulled));
}

#[test]
fn chart_and_programs_have_one_version_and_one_licence() {
    let chart = chart();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(env!("CARGO_PKG_VERSION")), &json!(env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(chart["annotations"]["artifacthub.io/license"], env!("CARGO_PKG_LICENSE"));
}

fn chart() -> Value {
    serde_yaml::from_str(&read("charts/sluice/Chart.yaml")).expect("YAML")
}

/// Returns an annotation of Artifact Hub, whose text is YAML.
fn annotation(name: &str) -> Value {
    let chart = chart();
    serde_yaml::from_str(text(&chart["annotations"][format!("artifacthub.io/{name}")])).expect("YAML")
}
