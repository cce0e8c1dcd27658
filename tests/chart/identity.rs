//! Names, labels and annotations: those that the chart sets, and those that the user adds.

use std::collections::BTreeSet;

use serde_json::json;

use crate::helm::{Release, text};

#[test]
fn two_releases_share_no_object() {
    let of = |release: Release| -> BTreeSet<String> {
        let objects = release.set("crds.enabled=false,replicas=2,test.resource=shop").objects();
        let keys = objects.0.iter().map(|object| {
            let metadata = &object["metadata"];
            format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
        });
        keys.collect()
    };
    let first = of(Release::named("gate", "dam"));
    for other in [Release::named("gate", "lock"), Release::named("weir", "dam")] {
        let shared: Vec<String> = first.intersection(&of(other)).cloned().collect();
        assert_eq!(shared, Vec::<String>::new());
    }
}

#[test]
fn two_releases_of_one_namespace_select_their_own_pods() {
    let selector = |name| Release::named(name, "dam").objects().one("Service")["spec"]["selector"].clone();
    assert_ne!(selector("gate"), selector("weir"));
}

#[test]
fn the_service_and_the_budget_select_the_operators_pods_and_not_the_tests() {
    let objects = Release::named("gate", "dam").set("replicas=2").objects();
    let deployment = objects.one("Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let tests = &objects.one("Pod")["metadata"]["labels"];
    let selectors = [
        &deployment["spec"]["selector"]["matchLabels"],
        &objects.one("Service")["spec"]["selector"],
        &objects.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ];
    for selector in selectors {
        let selector = selector.as_object().expect("a selector");
        assert!(selector.iter().all(|(name, value)| labels[name] == *value), "{selector:?} and {labels}");
        assert!(selector.iter().any(|(name, value)| tests[name] != *value), "{selector:?} and {tests}");
    }
}

#[test]
fn users_labels_and_annotations_are_on_every_object_and_cannot_break_selection() {
    let release =
        Release::new().set("replicas=2,labels.team=till,annotations.owner=anna,metrics.serviceMonitor.enabled=true");
    let objects =
        release.set_json(r#"podLabels={"app.kubernetes.io/name":"other"}"#).set("networkPolicy.enabled=true").objects();
    for (object, name) in objects.0.iter().zip(objects.names()) {
        assert_eq!(object["metadata"]["labels"]["team"], "till", "{name}");
        assert_eq!(object["metadata"]["annotations"]["owner"], "anna", "{name}");
    }
    let template = &objects.one("Deployment")["spec"]["template"]["metadata"];
    assert_eq!(template["labels"]["app.kubernetes.io/name"], "sluice-operator");
    assert_eq!(template["annotations"], json!({"owner": "anna"}));
}

#[test]
fn a_long_release_name_still_makes_valid_names() {
    let name = "an-exceedingly-long-name-of-a-release-that-helm-lets";
    for object in Release::named(name, "dam").objects().0 {
        if object["kind"] != "CustomResourceDefinition" {
            let name = text(&object["metadata"]["name"]);
            assert!(name.len() <= 63 && !name.ends_with('-'), "{name}");
        }
    }
}
