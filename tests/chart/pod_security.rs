//! The level `restricted` of the Pod Security Standards, and stricter settings.

use crate::helm::{Release, texts};

#[test]
fn every_pod_meets_restricted_and_cannot_write_its_root() {
    let objects = Release::new().set("replicas=2,test.resource=shop").objects();
    let pods = objects.pods();
    assert_eq!(pods.len(), 3, "{:?}", objects.names());
    for (name, pod) in pods {
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert!(pod["volumes"].is_null(), "{name} needs no volume");
        for host in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(pod[host].is_null(), "{name}: {host}");
        }
        for container in pod["containers"].as_array().expect("containers") {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(texts(&security["capabilities"]["drop"]), ["ALL"], "{name}");
            assert!(container["resources"]["requests"].is_object(), "{name} has no resource requests");
            assert!(container["command"].is_null(), "{name}: the image has no shell, only its program");
        }
    }
}

#[test]
fn where_the_cluster_assigns_user_ids_no_pod_names_one() {
    let release = Release::new().set("test.resource=shop");
    let with = release.objects();
    assert!(with.pods().iter().all(|(_, pod)| pod["securityContext"]["runAsUser"] == 65_532));
    assert_eq!(with.env("SLUICE_FIXED_USER_IDS"), None);
    let without = Release::new().set("test.resource=shop,fixedUserIds=false").objects();
    assert_eq!(without.pods().len(), 3);
    for (name, pod) in without.pods() {
        let security = &pod["securityContext"];
        assert!(security["runAsUser"].is_null() && security["runAsGroup"].is_null(), "{name}: {security}");
        assert_eq!(security["runAsNonRoot"], true, "{name}");
    }
    assert_eq!(without.env("SLUICE_FIXED_USER_IDS"), Some("false"), "it holds for the pods of resources too");
}

#[test]
fn only_the_operator_gets_a_token() {
    let objects = Release::new().set("test.resource=shop").objects();
    assert_eq!(objects.one("ServiceAccount")["automountServiceAccountToken"], false);
    for (name, pod) in objects.pods() {
        assert_eq!(pod["automountServiceAccountToken"], name.starts_with("Deployment"), "{name}");
    }
}
