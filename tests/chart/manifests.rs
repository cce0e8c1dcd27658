//! The text that `make manifests` writes, for users without Helm.

use std::process::Command;

use serde_json::Value;

use crate::helm::{Objects, Release, objects_in, root, text};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

#[test]
fn the_manifests_are_what_the_chart_renders_and_the_namespace() {
    let Objects(mut made) = manifests(&[]);
    assert_eq!(made[0]["kind"], "Namespace");
    let namespace = made.remove(0);
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
    let mut rendered = Release::new().on("1.30.0").objects();
    for object in &rendered.0 {
        let namespaces = [Value::Null, namespace["metadata"]["name"].clone()];
        assert!(namespaces.contains(&object["metadata"]["namespace"]), "{object}");
    }
    // `kubectl` has no tests, and the objects are not those of a release.
    rendered.0.retain(|object| object["kind"] != "Pod");
    for object in &mut rendered.0 {
        if let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            assert_eq!(labels.remove(MANAGED_BY), Some(Value::from("Helm")));
        }
    }
    let names = rendered.names();
    assert!(made == rendered.0, "{:?} and {names:?}", Objects(made).names());
}

#[test]
fn the_manifests_take_values_of_the_chart() {
    let objects = manifests(&["--set", "imageRegistry=mirror.example"]);
    assert!(text(&objects.container()["image"]).starts_with("mirror.example/"));
}

fn manifests(args: &[&str]) -> Objects {
    let output = Command::new(root().join("scripts/manifests")).args(args).output().expect("scripts/manifests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    objects_in(&String::from_utf8(output.stdout).expect("UTF-8"))
}
