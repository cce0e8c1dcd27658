//! The CustomResourceDefinition in the chart.

use serde_json::Value;

use crate::helm::{Release, read};

#[test]
fn the_definition_is_the_very_text_that_the_operator_prints() {
    assert!(
        read("charts/sluice/files/crd.yaml") == read("operator/crd.yaml"),
        "charts/sluice/files/crd.yaml differs from operator/crd.yaml: copy it"
    );
}

#[test]
fn the_rendered_definition_differs_only_by_staying_on_uninstall() {
    let objects = Release::new().objects();
    let mut rendered = objects.one("CustomResourceDefinition").clone();
    let annotations = rendered["metadata"].as_object_mut().expect("metadata").remove("annotations");
    assert_eq!(annotations, Some(serde_json::json!({"helm.sh/resource-policy": "keep"})));
    let printed: Value = serde_yaml::from_str(&read("operator/crd.yaml")).expect("YAML");
    assert!(rendered == printed, "rendered:\n{}", serde_yaml::to_string(&rendered).expect("YAML"));
}

#[test]
fn a_second_release_leaves_the_definition_out() {
    let objects = Release::new().set("crds.enabled=false").objects();
    assert!(objects.all("CustomResourceDefinition").is_empty());
}

#[test]
fn the_definition_stays_on_uninstall_unless_the_user_says_otherwise() {
    let objects = Release::new().set("crds.keep=false").objects();
    assert!(objects.one("CustomResourceDefinition")["metadata"]["annotations"].is_null());
    // An annotation of the user does not replace the one that keeps it.
    let objects = Release::new().set_json(r#"crds.annotations={"helm.sh/resource-policy":"other"}"#).objects();
    assert_eq!(objects.one("CustomResourceDefinition")["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}
