//! Compares every field of all built objects with a file, so that each change of a builder is visible in the diff
//! of that file. `BLESS=1 cargo test -p sluice-operator --test builders` writes the files again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use sluice_operator::contract;
use sluice_operator::controller::build;
use support::{fixture_text, objects};

fn compare(name: &str) {
    let mut built = serde_json::to_value(objects(&format!("{name}.yaml"))).unwrap();
    let plan = support::plan(&format!("{name}.yaml"));
    if let (Some(restore), Some(postgres)) = (&plan.restore, plan.postgres.managed()) {
        // It is created apart from the other objects.
        built["jobs"] = json!([build::backup::restore_job(&plan, postgres, restore)]);
    }
    let file = format!("{name}.objects.yaml");
    if std::env::var_os("BLESS").is_some() {
        let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, serde_yaml::to_string(&built).unwrap()).unwrap();
        return;
    }
    let expected: Value = serde_yaml::from_str(&fixture_text(&file)).unwrap();
    for (kind, objects) in expected.as_object().unwrap() {
        let built = built[kind].as_array().unwrap();
        for (object, built) in objects.as_array().unwrap().iter().zip(built) {
            assert_eq!(built, object, "{kind} {}", object["metadata"]["name"]);
        }
        assert_eq!(built.len(), objects.as_array().unwrap().len(), "{kind}");
    }
    assert_eq!(built, expected);
}

#[test]
fn a_resource_that_says_something_of_everything_is_built_as_recorded() {
    compare("ledger");
}

#[test]
fn a_resource_on_external_servers_is_built_as_recorded() {
    compare("tiny");
}

#[test]
fn a_resource_with_tls_is_built_as_recorded() {
    compare("sealed");
}

#[test]
fn a_resource_with_tls_on_external_servers_is_built_as_recorded() {
    compare("remote");
}

#[test]
fn backups_and_a_restore_are_built_as_recorded() {
    compare("vault");
}

#[test]
fn a_resource_whose_postgresql_cloud_native_pg_runs_is_built_as_recorded() {
    compare("harbor");
}

#[test]
fn pods_of_backups_and_restores_are_restricted_and_have_no_token() {
    let plan = support::plan("vault.yaml");
    let (restore, postgres) = (plan.restore.as_ref().unwrap(), plan.postgres.managed().unwrap());
    let job = build::backup::restore_job(&plan, postgres, restore).spec.unwrap().template;
    let cron_job = objects("vault.yaml").cron_jobs.remove(0).spec.unwrap().job_template.spec.unwrap().template;
    for template in [job, cron_job] {
        let pod = serde_json::to_value(template.spec.unwrap()).unwrap();
        let security = &pod["securityContext"];
        assert_eq!((&security["runAsNonRoot"], &pod["restartPolicy"]), (&json!(true), &json!("Never")));
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!(pod["automountServiceAccountToken"], false);
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false);
            assert_eq!(security["readOnlyRootFilesystem"], true);
            assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
            assert!(!container["resources"]["requests"]["cpu"].is_null());
        }
    }
}

#[test]
fn no_object_bears_another_resources_name() {
    let built = serde_json::to_value(objects("ledger.yaml")).unwrap();
    for (kind, list) in built.as_object().unwrap() {
        for object in list.as_array().unwrap() {
            let meta = &object["metadata"];
            let name = meta["name"].as_str().unwrap();
            assert!(name.starts_with("ledger-"), "{kind} {name}");
            assert_eq!(meta["namespace"], "accounts", "{kind} {name}");
            assert_eq!(meta["labels"]["app.kubernetes.io/instance"], "ledger", "{kind} {name}");
            assert_eq!(meta["ownerReferences"][0]["uid"], "11111111-2222-3333-4444-555555555555", "{kind} {name}");
        }
    }
}

/// Returns the pod template of a component of `ledger.yaml`.
fn template(built: &Value, component: &str) -> Value {
    let sets = ["statefulSets", "deployments"].iter().flat_map(|kind| built[kind].as_array().unwrap());
    let set = sets.into_iter().find(|set| set["metadata"]["name"] == format!("ledger-{component}"));
    set.unwrap()["spec"]["template"].clone()
}

#[test]
fn what_a_team_says_about_pods_is_added_to_what_the_operator_sets() {
    let built = serde_json::to_value(objects("ledger.yaml")).unwrap();
    let publisher = template(&built, "publisher");
    let (labels, pod) = (&publisher["metadata"]["labels"], &publisher["spec"]);
    assert_eq!((&labels["team"], &labels["app.kubernetes.io/instance"]), (&json!("ledger"), &json!("ledger")));
    let annotations = publisher["metadata"]["annotations"].as_object().unwrap();
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "true");
    assert!(annotations.keys().any(|key| key.starts_with("sluice.dev/")), "{annotations:?}");
    assert_eq!(pod["nodeSelector"], json!({"pool": "apps"}));
    assert_eq!(pod["tolerations"][0]["value"], "apps");
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    assert_eq!(pod["priorityClassName"], "important");
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(spread.len(), 1, "it replaces the spread over nodes");
    assert_eq!(spread[0]["topologyKey"], "topology.kubernetes.io/zone");
    assert_eq!(spread[0]["labelSelector"]["matchLabels"]["app.kubernetes.io/component"], "publisher");
    let env = pod["containers"][0]["env"].as_array().unwrap();
    assert_eq!(env[env.len() - 2], json!({"name": "RUST_LOG", "value": "debug"}));
    assert_eq!(env[env.len() - 1]["valueFrom"]["secretKeyRef"]["name"], "team");
    let security = &pod["securityContext"];
    assert_eq!((&security["fsGroupChangePolicy"], &security["runAsNonRoot"]), (&json!("Always"), &json!(true)));
    let capabilities = &pod["containers"][0]["securityContext"]["capabilities"];
    assert_eq!(*capabilities, json!({"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]}));
    let accounts = built["serviceAccounts"].as_array().unwrap();
    let account = accounts.iter().find(|account| account["metadata"]["name"] == "ledger-publisher").unwrap();
    assert_eq!(account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"], "arn:aws:iam::1:role/ledger");

    let postgres = template(&built, "postgres");
    assert_eq!(postgres["spec"]["nodeSelector"], json!({"disk": "nvme"}));
    assert_eq!(postgres["spec"]["priorityClassName"], "data");
    assert!(template(&built, "redis")["spec"]["nodeSelector"].is_null(), "each component has settings of its own");
}

/// A variable of the user with the name of one of these would win over it.
#[test]
fn the_rule_of_the_resource_knows_every_variable_that_the_operator_sets() {
    let known: Vec<_> = contract::env::ALL.iter().chain(contract::SERVER_VARIABLES).collect();
    for fixture in ["ledger.yaml", "tiny.yaml", "sealed.yaml", "remote.yaml", "harbor.yaml"] {
        let objects = objects(fixture);
        let templates = objects.stateful_sets.into_iter().map(|set| set.spec.unwrap().template);
        let templates = templates.chain(objects.deployments.into_iter().map(|set| set.spec.unwrap().template));
        for container in templates.flat_map(|template| template.spec.unwrap().containers) {
            let variables = container.env.into_iter().flatten().map(|variable| variable.name);
            for variable in variables.filter(|name| !["RUST_LOG", "TEAM_TOKEN"].contains(&name.as_str())) {
                assert!(known.contains(&&variable.as_str()), "{} sets {variable}", container.name);
            }
        }
    }
}

/// The requirements of the Pod Security level `restricted`, and our additional ones.
#[test]
fn every_pod_is_restricted() {
    let built = serde_json::to_value(objects("ledger.yaml")).unwrap();
    let sets = built["statefulSets"].as_array().unwrap().iter().chain(built["deployments"].as_array().unwrap());
    let mut pods = 0;
    for set in sets {
        pods += 1;
        let name = &set["metadata"]["name"];
        let pod = &set["spec"]["template"]["spec"];
        let security = &pod["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert!(security["runAsUser"].as_i64().unwrap() > 0, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        for container in pod["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            assert!(!container["resources"]["requests"]["cpu"].is_null(), "{name}");
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                assert!(container[probe].is_object(), "{name} {probe}");
            }
        }
        for volume in pod["volumes"].as_array().into_iter().flatten() {
            assert!(volume["hostPath"].is_null(), "{name}");
        }
    }
    assert_eq!(pods, 4);
}

#[test]
fn a_replica_is_given_more_time_to_stop_than_it_takes_to_drain() {
    let built = serde_json::to_value(objects("ledger.yaml")).unwrap();
    let aggregator = &built["statefulSets"][2]["spec"]["template"]["spec"];
    assert!(aggregator["terminationGracePeriodSeconds"].as_i64().unwrap() > 30);
    let publisher = &built["deployments"][0]["spec"]["template"]["spec"];
    let pre_stop = publisher["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64().unwrap();
    assert!(publisher["terminationGracePeriodSeconds"].as_i64().unwrap() > 25 + pre_stop);
}

#[test]
fn where_the_cluster_assigns_user_ids_no_pod_names_one() {
    use sluice_operator::controller::plan::Defaults;
    use sluice_operator::controller::validate::validate;

    let defaults = Defaults { fixed_user_ids: false, ..support::defaults() };
    let plan = validate(&support::fixture("ledger.yaml"), &support::external_secrets(), &defaults, None).unwrap();
    let built = serde_json::to_value(build::build(&plan, &Default::default())).unwrap();
    let sets = built["statefulSets"].as_array().unwrap().iter().chain(built["deployments"].as_array().unwrap());
    for set in sets {
        let (name, security) = (&set["metadata"]["name"], &set["spec"]["template"]["spec"]["securityContext"]);
        for id in ["runAsUser", "runAsGroup", "fsGroup"] {
            assert!(security[id].is_null(), "{name}: {security}");
        }
        assert_eq!(security["runAsNonRoot"], true, "{name}");
        assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{name}");
    }
}

#[test]
fn roles_that_somebody_adds_may_log_in_to_the_database_of_the_managed_server() {
    let built = serde_json::to_value(objects("ledger.yaml")).unwrap();
    let maps = built["configMaps"].as_array().unwrap();
    let rules = maps.iter().find_map(|map| map["data"]["pg_hba.conf"].as_str()).unwrap();
    let hosts: Vec<_> = rules.lines().filter(|line| line.starts_with("host")).collect();
    assert_eq!(hosts, ["host sluice all all scram-sha-256"], "with a password, and to no other database");
}

#[test]
fn a_change_rolls_only_the_pods_it_touches() {
    use sluice_operator::controller::build::names::Component;
    use sluice_operator::controller::plan::Checksums;
    use sluice_operator::controller::validate::validate;
    use sluice_operator::crd::EventAggregatorSpec;

    let templates = |resource, checksums: &Checksums| {
        let plan = validate(&resource, &support::external_secrets(), &support::defaults(), None).unwrap();
        let built = build::build(&plan, checksums);
        let sets = built.stateful_sets.into_iter().map(|set| (set.metadata.name, set.spec.unwrap().template));
        let deployments = built.deployments.into_iter().map(|d| (d.metadata.name, d.spec.unwrap().template));
        sets.chain(deployments).map(|(name, template)| (name.unwrap(), template)).collect::<Vec<_>>()
    };
    let checksums = Checksums::from([(Component::Redis, "a".into()), (Component::Postgres, "a".into())]);
    let before = templates(support::fixture("ledger.yaml"), &checksums);
    let rolled = |after: Vec<_>| -> Vec<String> {
        let changed = before.iter().zip(after).filter(|(before, after)| *before != after);
        changed.map(|((name, _), _)| name.trim_start_matches("ledger-").to_owned()).collect()
    };
    let changed = |change: fn(&mut EventAggregatorSpec)| {
        let mut resource = support::fixture("ledger.yaml");
        change(&mut resource.spec);
        rolled(templates(resource, &checksums))
    };

    assert_eq!(changed(|_| {}), [""; 0]);
    assert_eq!(changed(|spec| spec.aggregator.replicas = 9), [""; 0]);
    assert_eq!(changed(|spec| spec.network_policy.enabled = false), [""; 0]);
    assert_eq!(changed(|spec| spec.redis.managed.memory.0 = "1Gi".into()), ["redis"]);
    assert_eq!(changed(|spec| spec.postgres.managed.memory.0 = "3Gi".into()), ["postgres"]);
    assert_eq!(changed(|spec| spec.aggregator.workers = 8), ["aggregator"]);
    assert_eq!(changed(|spec| spec.publisher.limits.max_events = Some(1)), ["publisher"]);
    assert_eq!(changed(|spec| spec.streams = 5), ["aggregator", "publisher"]);
    assert_eq!(changed(|spec| spec.idempotency_memory_percent = None), ["publisher"]);
    assert_eq!(changed(|spec| spec.durability.require = false), ["aggregator", "publisher"]);
    assert_eq!(changed(|spec| spec.durability.accept_unknown.clear()), ["aggregator", "publisher"]);
    assert_eq!(changed(|spec| spec.durability.accept_unknown.reverse()), [""; 0]);
    let of_postgres = |spec: &mut EventAggregatorSpec| spec.durability.accept_unknown.retain(|name| name.is_of_redis());
    assert_eq!(changed(of_postgres), ["aggregator"]);
    let traced = |spec: &mut EventAggregatorSpec| {
        spec.tracing = serde_json::from_value(json!({"endpoint": "http://a"})).unwrap()
    };
    assert_eq!(changed(traced), ["aggregator", "publisher"]);

    let with = |component, hash: &str| {
        let mut checksums = checksums.clone();
        checksums.insert(component, hash.into());
        rolled(templates(support::fixture("ledger.yaml"), &checksums))
    };
    assert_eq!(with(Component::Redis, "b"), ["redis", "aggregator", "publisher"]);
    assert_eq!(with(Component::Postgres, "b"), ["postgres", "aggregator"]);
}
