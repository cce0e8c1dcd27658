//! The RBAC rules: permissions, scope, and the comment that justifies each rule.

use serde_json::Value;

use crate::helm::{Objects, Release, text, texts};

#[test]
fn each_rule_says_why() {
    for text in [Release::new().text(), Release::new().set("namespaces={shop}").text()] {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut rules = 0;
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("- apiGroups:")) {
            assert!(lines[number - 1].starts_with("# "), "rule without a comment: {line} {}", lines[number + 1]);
            rules += 1;
        }
        assert!(rules > 10, "only {rules} rules were found");
    }
}

#[test]
fn nothing_is_granted_by_a_wildcard_and_rights_cannot_be_passed_on() {
    let objects = Release::new().objects();
    for rule in rules(&objects) {
        for part in ["apiGroups", "resources", "verbs"] {
            assert!(!texts(&rule[part]).iter().any(|name| name.contains('*')), "{rule}");
        }
        for resource in texts(&rule["resources"]) {
            assert!(!["pods/exec", "nodes", "namespaces"].contains(&resource), "{rule}");
        }
        assert_ne!(rule["apiGroups"], serde_json::json!(["rbac.authorization.k8s.io"]), "{rule}");
        for verb in texts(&rule["verbs"]) {
            assert!(!["bind", "escalate", "impersonate"].contains(&verb), "{rule}");
        }
    }
}

#[test]
fn the_operator_neither_changes_resources_nor_deletes_passwords_and_pods() {
    let kept = ["eventaggregators", "secrets", "pods"];
    for rule in rules(&Release::new().set("rbac.userRoles=false").objects()) {
        let (resources, verbs) = (texts(&rule["resources"]), texts(&rule["verbs"]));
        if resources.iter().any(|resource| kept.contains(resource)) {
            assert!(!verbs.contains(&"delete") && !verbs.contains(&"update"), "{rule}");
        }
        if resources.contains(&"eventaggregators") {
            assert_eq!(verbs, ["list", "watch"], "only users write it");
        }
        if resources.contains(&"jobs") {
            assert!(!verbs.contains(&"patch"), "a restore that has begun stays as it is: {rule}");
        }
        if resources.contains(&"persistentvolumeclaims") {
            // It deletes the volumes of an upgrade of PostgreSQL that is given up, or whose user does not keep them.
            assert!(!verbs.contains(&"update") && !verbs.contains(&"deletecollection"), "{rule}");
        }
    }
}

#[test]
fn with_a_list_of_namespaces_nothing_of_the_cluster_is_touched() {
    let objects = Release::new().set("namespaces={shop,till},crds.enabled=false").objects();
    for object in &objects.0 {
        let namespace = object["metadata"]["namespace"].as_str();
        assert!(namespace.is_some(), "{} is not in a namespace", object["kind"]);
        assert!(["sluice-system", "shop", "till"].contains(&namespace.unwrap()), "{object}");
    }
}

#[test]
fn the_rules_in_a_namespace_are_those_of_the_cluster() {
    let everywhere = Release::new().set("rbac.userRoles=false").objects();
    let here = Release::new().set("namespaces={shop,till}").objects();
    for namespace in ["shop", "till"] {
        let role = here.all("Role").into_iter().find(|role| role["metadata"]["namespace"] == namespace);
        assert_eq!(role.expect("a role")["rules"], everywhere.one("ClusterRole")["rules"]);
    }
}

#[test]
fn each_binding_is_of_a_role_that_exists_to_the_operators_account() {
    for release in [Release::named("gate", "dam"), Release::named("gate", "dam").set("namespaces={shop,till}")] {
        let objects = release.objects();
        let account = &objects.one("ServiceAccount")["metadata"];
        let mut bindings = objects.all("RoleBinding");
        bindings.extend(objects.all("ClusterRoleBinding"));
        assert!(bindings.len() >= 2, "{:?}", objects.names());
        for binding in bindings {
            let role = &binding["roleRef"];
            let bound = objects.all(text(&role["kind"])).into_iter().any(|candidate| {
                candidate["metadata"]["name"] == role["name"]
                    && candidate["metadata"]["namespace"] == binding["metadata"]["namespace"]
            });
            assert!(bound, "{role} does not exist");
            let subject = &binding["subjects"][0];
            assert_eq!((&subject["name"], &subject["namespace"]), (&account["name"], &account["namespace"]));
        }
    }
}

#[test]
fn users_rights_are_added_to_the_clusters_own_roles() {
    let objects = Release::new().objects();
    let roles = objects.all("ClusterRole");
    for (suffix, label) in [("-view", "aggregate-to-view"), ("-edit", "aggregate-to-edit")] {
        let role = roles.iter().find(|role| text(&role["metadata"]["name"]).ends_with(suffix)).expect("a role");
        assert_eq!(role["metadata"]["labels"][format!("rbac.authorization.k8s.io/{label}")], "true");
    }
    let none = Release::new().set("rbac.create=false").objects();
    assert!(none.names().iter().all(|name| !name.contains("Role")), "{:?}", none.names());
}

fn rules(objects: &Objects) -> Vec<Value> {
    let mut roles = objects.all("Role");
    roles.extend(objects.all("ClusterRole"));
    roles.iter().flat_map(|role| role["rules"].as_array().expect("rules").clone()).collect()
}
