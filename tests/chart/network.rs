//! The operator's own network: its NetworkPolicy, the network of the node, and DNS.

use serde_json::{Value, json};

use crate::helm::{Release, read};

#[test]
fn the_policy_is_off_by_default_and_selects_the_operators_pods_only() {
    assert!(Release::new().objects().all("NetworkPolicy").is_empty());
    let objects = Release::named("gate", "dam").set("networkPolicy.enabled=true").objects();
    let spec = &objects.one("NetworkPolicy")["spec"];
    assert_eq!(spec["podSelector"]["matchLabels"], objects.one("Deployment")["spec"]["selector"]["matchLabels"]);
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
}

#[test]
fn only_the_port_of_metrics_and_health_checks_can_be_reached() {
    let enabled = || Release::named("gate", "dam").set("networkPolicy.enabled=true,metrics.port=9999");
    let ingress = enabled().objects().one("NetworkPolicy")["spec"]["ingress"].clone();
    assert_eq!(ingress, json!([{"ports": [{"protocol": "TCP", "port": 9999}]}]));

    let objects =
        enabled().set_json(r#"networkPolicy.from=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]"#).objects();
    let from = &objects.one("NetworkPolicy")["spec"]["ingress"][0]["from"];
    assert_eq!(from[0], json!({"namespaceSelector": {"matchLabels": {"a": "b"}}}));
    let tests = &objects.one("Pod")["metadata"]["labels"];
    let selector = from[1]["podSelector"]["matchLabels"].as_object().expect("the pods of helm test");
    assert!(selector.iter().all(|(name, value)| tests[name] == *value), "{selector:?} and {tests}");
}

#[test]
fn connections_lead_to_the_api_server_to_dns_and_to_the_programs_of_resources() {
    let rules = |release: Release| {
        let objects = release.set("networkPolicy.enabled=true").objects();
        objects.one("NetworkPolicy")["spec"]["egress"].as_array().expect("rules").clone()
    };
    let [api, dns, programs] = &rules(Release::new())[..] else { panic!("three rules") };
    assert_eq!((ports(api), &api["to"]), (vec![443, 6443], &Value::Null));
    assert_eq!((ports(dns), &dns["to"]), (vec![53, 53, 5353, 5353], &Value::Null));
    let contract = read("operator/src/contract.rs");
    for (name, port) in ["PUBLISHER_PORT", "AGGREGATOR_PORT"].into_iter().zip(ports(programs)) {
        assert!(contract.contains(&format!("{name}: i32 = {port};")), "{name} is not {port}");
    }
    let to = &programs["to"][0];
    assert_eq!(to["podSelector"]["matchLabels"], json!({"app.kubernetes.io/name": "sluice"}));
    assert!(read("operator/src/controller/build/names.rs").contains(r#"PRODUCT: &str = "sluice";"#));
    assert_eq!(to["namespaceSelector"], json!({}), "it reconciles all namespaces");

    let rules = rules(Release::new().set("namespaces={till,desk},networkPolicy.apiServer.cidrs={10.1.0.1/32}"));
    assert_eq!(rules[0]["to"], json!([{"ipBlock": {"cidr": "10.1.0.1/32"}}]));
    let namespaces = &rules[2]["to"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(
        *namespaces,
        json!({"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["till", "desk"]})
    );
}

fn ports(rule: &Value) -> Vec<i64> {
    rule["ports"].as_array().expect("ports").iter().map(|port| port["port"].as_i64().expect("a number")).collect()
}

#[test]
fn in_the_network_of_the_node_names_of_the_cluster_are_still_resolved() {
    let pod = |release: Release| release.objects().one("Deployment")["spec"]["template"]["spec"].clone();
    let without = pod(Release::new());
    assert!(without["hostNetwork"].is_null() && without["dnsPolicy"].is_null(), "{without}");
    let with = pod(Release::new().set("hostNetwork=true"));
    assert_eq!((&with["hostNetwork"], &with["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert_eq!(pod(Release::new().set("hostNetwork=true,dnsPolicy=Default"))["dnsPolicy"], "Default");
}
