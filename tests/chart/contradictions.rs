//! Values that cannot work together are refused by their names.

use crate::helm::Release;

#[test]
fn values_that_contradict_each_other_are_refused_by_name() {
    let cases = [
        (
            r#"metrics={"serviceMonitor":{"enabled":true},"podMonitor":{"enabled":true}}"#,
            "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled",
        ),
        (r#"hostNetwork=true,networkPolicy={"enabled":true}"#, "networkPolicy.enabled and hostNetwork"),
        (r#"dnsPolicy="None""#, "dnsConfig.nameservers"),
        (r#"hostNetwork=true,dnsPolicy="ClusterFirst""#, "dnsPolicy=ClusterFirst"),
        (r#"fixedUserIds=false,podSecurityContext={"runAsUser":1}"#, "podSecurityContext.runAsUser and fixedUserIds"),
        (r#"fixedUserIds=false,podSecurityContext={"runAsGroup":1}"#, "podSecurityContext.runAsGroup and fixedUserIds"),
        ("automountServiceAccountToken=false", "automountServiceAccountToken=false needs a token in volumes"),
        (r#"volumes=[{"name":"a"}],volumeMounts=[{"name":"b","mountPath":"/b"}]"#, "no volume b in volumes"),
        (r#"strategy={"rollingUpdate":{"maxSurge":0}}"#, "strategy.rollingUpdate"),
        (r#"strategy={"rollingUpdate":{"maxSurge":"0%"}}"#, "strategy.rollingUpdate"),
        (r#"metrics={"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4","IPv6"]}"#, "metrics.ipFamilyPolicy"),
        (r#"extraEnv=[{"name":"SLUICE_LOG","value":"debug"}]"#, "the chart sets SLUICE_LOG"),
        (r#"extraEnv=[{"name":"SLUICE_IMAGE_REDIS","value":"x"}]"#, "the chart sets SLUICE_IMAGE_REDIS"),
    ];
    for (values, names) in cases {
        let refusal = Release::new().set_json(values).refusal();
        assert!(refusal.contains(names), "{values}: {refusal}");
    }
}

#[test]
fn what_looks_like_a_contradiction_and_is_none_is_accepted() {
    for values in [
        r#"dnsPolicy="None",dnsConfig={"nameservers":["10.0.0.10"]}"#,
        r#"hostNetwork=true,dnsPolicy="ClusterFirstWithHostNet""#,
        r#"podSecurityContext={"runAsUser":1}"#,
        r#"strategy={"type":"Recreate","rollingUpdate":{"maxSurge":0}}"#,
        r#"strategy={"rollingUpdate":{"maxSurge":0,"maxUnavailable":1}}"#,
        r#"metrics={"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6","IPv4"]}"#,
        r#"extraEnv=[{"name":"SLUICE_RESYNC","value":"1m"}]"#,
    ] {
        Release::new().set_json(values).objects();
    }
}

/// The list of variables in templates/_checks.tpl is that of the Deployment.
#[test]
fn each_variable_that_the_chart_sets_is_refused_as_an_extra_one() {
    let objects = Release::new().set("namespaces={till},fixedUserIds=false").objects();
    for variable in objects.container()["env"].as_array().expect("env") {
        let name = variable["name"].as_str().expect("a name");
        let refusal = Release::new().set(&format!("extraEnv[0].name={name}")).refusal();
        assert!(refusal.contains(&format!("the chart sets {name}")), "{refusal}");
    }
}
