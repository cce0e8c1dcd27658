//! CEL rules that the API server evaluates. Each message names the field.
//!
//! A rule that forbids a change belongs to a parent that always exists (its default is `{}`), and compares
//! `has()` too: a rule on the field itself is not evaluated when the field is removed.
//!
//! The API server also evaluates each rule against the default `{}` of the parent, without the defaults of
//! its fields. So a rule must accept absent fields, although a stored object always has them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;
use schemars::Schema;

use super::add_rules::add;
use super::{backup_rules, cloud_native_pg_rules, parameters, places, shrink, traces, upgrade_rules};
use crate::contract;

/// Returns the rule for the minimum memory with which a server starts.
macro_rules! memory {
    ($min:literal) => {
        (
            concat!(
                "!has(self.memory) || isQuantity(self.memory) && quantity(self.memory).compareTo(quantity('",
                $min,
                "')) >= 0"
            ),
            concat!("memory must be a quantity of at least ", $min, ", such as 1Gi"),
            ".memory",
        )
    };
}

/// Returns the rule for the annotations of an object that the operator applies.
macro_rules! annotations {
    ($field:literal) => {
        (
            "!has(self.annotations) || self.annotations.all(key, !key.startsWith('sluice.dev/'))",
            concat!($field, " must have no key that begins with sluice.dev/: the operator sets these"),
            ".annotations",
        )
    };
}

/// Returns the rule for a list of names of hosts.
macro_rules! hosts {
    ($list:literal, $field:literal) => {
        (
            concat!(
                "!has(self.",
                $list,
                ") || self.",
                $list,
                ".all(host, host.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') \
                 && !host.matches('^[0-9.]+$'))"
            ),
            concat!($field, " must be DNS names in lower case, such as events.example.com or *.example.com"),
            concat!(".", $list),
        )
    };
}

/// Returns the rule for the name. Names of Services are DNS-1035 labels of at most 63 characters, and the
/// operator appends suffixes.
pub(super) fn root() -> Vec<ValidationRule> {
    let message = "metadata.name must be at most 40 characters: a lower-case letter, then lower-case letters, \
                   digits or '-', and no '-' at the end";
    let name = ValidationRule {
        rule: "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')".to_owned(),
        message: Some(message.to_owned()),
        ..ValidationRule::default()
    };
    let mut rules = vec![name];
    rules.extend(shrink::rules());
    rules.extend(places::rules());
    rules.extend(backup_rules::root());
    rules.extend(cloud_native_pg_rules::root());
    rules.push(upgrade_rules::version());
    rules.extend(traces::root());
    rules
}

/// Adds the rules of the spec. The stored events were deduplicated by certain fields, and neither the
/// events nor the streams can move to another server.
pub(super) fn spec(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "self.dedupFields == oldSelf.dedupFields",
                "spec.dedupFields cannot be changed: stored events were deduplicated by these fields",
                ".dedupFields",
            ),
            (
                "has(self.redis.external) == has(oldSelf.redis.external)",
                "spec.redis cannot change between managed and external: events in the streams would be left behind",
                ".redis",
            ),
            (
                "has(self.postgres.external) == has(oldSelf.postgres.external)",
                "spec.postgres cannot change between managed and external: stored events would be left behind",
                ".postgres",
            ),
            (
                "!has(self.retention) || self.retention.matches('^([1-9][0-9]{0,5}(m|h)|[1-9][0-9]{0,4}d|\
                 ([6-9][0-9]|[1-9][0-9]{2,5})s|([6-9][0-9]{4}|[1-9][0-9]{5})ms)$')",
                "spec.retention must be at least 1m and at most 99999d; leave it out to keep events for ever",
                ".retention",
            ),
            (
                "!has(self.idempotencyTtl) || self.idempotencyTtl.matches('^([1-9][0-9]{0,5}(m|h)|[1-9][0-9]{0,4}d|\
                 [1-9][0-9]{1,5}s|[1-9][0-9]{4,5}ms)$')",
                "spec.idempotencyTtl must be at least 10s and at most 99999d",
                ".idempotencyTtl",
            ),
        ],
    );
}

/// Adds the rules of the aggregators. A statement may take a third of `claimAfter`.
pub(super) fn aggregator(schema: &mut Schema) {
    let claim_after = (
        "!has(self.claimAfter) || self.claimAfter.matches('^([1-9][0-9]{0,5}s|[1-9][0-9]{0,3}m|[1-9][0-9]{0,2}h|\
         [1-9][0-9]{3,5}ms)$')",
        "aggregator.claimAfter must be at least 1s and at most 999h, 9999m or 999999s",
        ".claimAfter",
    );
    add(schema, &[claim_after]);
}

/// Adds the rules of a managed Redis. `controller/validate.rs` explains how large its volume must be.
pub(super) fn managed_redis(schema: &mut Schema) {
    let volume = (
        "!has(self.memory) || !has(self.storage) || !has(self.storage.size) || !isQuantity(self.memory) || \
         !isQuantity(self.storage.size) || \
         quantity(self.storage.size).compareTo(quantity(self.memory).add(quantity(self.memory))) >= 0",
        "redis.managed.storage.size must be at least twice redis.managed.memory: otherwise the disk could be full \
         before the append-only file is rewritten",
        ".storage.size",
    );
    let (rule, message, path) = parameters::of_redis();
    add(schema, &[memory!("64Mi"), volume, (&rule, &message, path)]);
}

/// Adds the rules of a managed PostgreSQL. [`root`] has the rule about its version.
pub(super) fn managed_postgres(schema: &mut Schema) {
    let (rule, message, path) = parameters::of_postgres();
    add(schema, &[memory!("128Mi"), (&rule, &message, path)]);
}

/// Adds the rules of the Service of the publishers: what only some types have.
pub(super) fn service(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "!has(self.type) || self.type == 'LoadBalancer' || !has(self.loadBalancerClass) && \
                 !has(self.loadBalancerSourceRanges)",
                "publisher.service.loadBalancerClass and loadBalancerSourceRanges need publisher.service.type LoadBalancer",
                ".type",
            ),
            (
                "!has(self.type) || self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",
                "publisher.service.externalTrafficPolicy needs publisher.service.type NodePort or LoadBalancer",
                ".externalTrafficPolicy",
            ),
            annotations!("publisher.service.annotations"),
        ],
    );
}

/// Adds the rules of the Ingress of the publishers.
pub(super) fn ingress(schema: &mut Schema) {
    add(
        schema,
        &[
            hosts!("hosts", "publisher.ingress.hosts"),
            (
                "!has(self.tlsSecretName) || has(self.hosts) && self.hosts.size() > 0",
                "publisher.ingress.tlsSecretName needs publisher.ingress.hosts: a certificate is for names of hosts",
                ".hosts",
            ),
            annotations!("publisher.ingress.annotations"),
        ],
    );
}

/// Adds the rules of the HTTPRoute of the publishers.
pub(super) fn http_route(schema: &mut Schema) {
    add(
        schema,
        &[hosts!("hostnames", "publisher.httpRoute.hostnames"), annotations!("publisher.httpRoute.annotations")],
    );
}

/// Adds the rules of what a team says about pods. Selectors and hashes of the operator are labels and annotations, and
/// a second variable of the same name would win over that of the operator.
pub(super) fn pods(schema: &mut Schema) {
    let names: Vec<_> = contract::env::ALL.iter().chain(contract::SERVER_VARIABLES).copied().collect();
    // One pattern costs less than a list of names.
    let env = format!("!has(self.env) || self.env.all(variable, !variable.name.matches('^({})$'))", names.join("|"));
    add(
        schema,
        &[
            (
                "!has(self.labels) || self.labels.all(key, !key.startsWith('app.kubernetes.io/') && \
                 !key.startsWith('sluice.dev/'))",
                "pods.labels must have no key that begins with app.kubernetes.io/ or sluice.dev/: the operator sets these",
                ".labels",
            ),
            (
                "!has(self.annotations) || self.annotations.all(key, !key.startsWith('sluice.dev/'))",
                "pods.annotations must have no key that begins with sluice.dev/: the operator sets these",
                ".annotations",
            ),
            (
                &env,
                "pods.env must not name a variable that the operator sets: use the field of the spec for it",
                ".env",
            ),
        ],
    );
}

/// Adds the rules of a volume. Its class is immutable. [`root`] has the rule that it cannot shrink.
pub(super) fn storage(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "!has(self.size) || isQuantity(self.size) && quantity(self.size).isGreaterThan(quantity('0'))",
                "storage.size must be a positive quantity, such as 8Gi",
                ".size",
            ),
            (
                "has(self.storageClassName) == has(oldSelf.storageClassName) && \
                 (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
                "storage.storageClassName cannot be changed",
                ".storageClassName",
            ),
        ],
    );
}

/// Adds the rules of autoscaling.
pub(super) fn autoscaling(schema: &mut Schema) {
    let bounds = (
        "self.minReplicas <= self.maxReplicas",
        "autoscaling.maxReplicas must not be less than autoscaling.minReplicas",
        ".maxReplicas",
    );
    add(schema, &[bounds]);
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals, schema};

    fn spec_refused(spec: Value, names: &str) {
        let refused = refusals(&object("shop", spec.clone()), None);
        assert!(refused.iter().any(|message| message.contains(names)), "{spec}: {refused:?} does not name {names}");
    }

    fn change_refused(old: Value, new: Value, names: &str) {
        let (old, new) = (object("shop", old), object("shop", new));
        let refused = refusals(&new, Some(&old));
        assert!(refused.iter().any(|message| message.contains(names)), "{new}: {refused:?} does not name {names}");
        assert_eq!(refusals(&old, Some(&old)), Vec::<String>::new(), "an update that changes nothing is valid");
    }

    #[test]
    fn the_shortest_resource_is_valid() {
        assert_eq!(refusals(&object("shop", json!({})), None), Vec::<String>::new());
        assert_eq!(refusals(&object("shop", json!({"aggregator": {"replicas": 3}})), None), Vec::<String>::new());
    }

    #[test]
    fn names_that_no_service_could_have_are_refused() {
        for name in ["a", "shop", "shop-2", &"a".repeat(40)] {
            assert_eq!(refusals(&object(name, json!({})), None), Vec::<String>::new(), "{name}");
        }
        for name in ["2shop", "-shop", "shop-", "Shop", "shop.eu", &"a".repeat(41)] {
            let refused = refusals(&object(name, json!({})), None);
            assert!(refused.iter().any(|message| message.contains("metadata.name")), "{name}: {refused:?}");
        }
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name() {
        spec_refused(json!({"aggregator": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}}), "maxReplicas");
        spec_refused(json!({"redis": {"managed": {"memory": "lots"}}}), "memory");
        spec_refused(json!({"redis": {"managed": {"memory": "1Mi"}}}), "memory");
        spec_refused(json!({"postgres": {"managed": {"storage": {"size": "0"}}}}), "size");
    }

    #[test]
    fn parameters_that_the_operator_sets_are_refused_by_name() {
        let redis = |parameters: Value| json!({"redis": {"managed": {"parameters": parameters}}});
        for name in ["appendfsync", "maxmemory", "tls-port", "save", "Maxmemory-clients", "a b", "x\nsave"] {
            spec_refused(redis(json!({name: "x"})), "redis.managed.parameters");
        }
        let postgres = |parameters: Value| json!({"postgres": {"managed": {"parameters": parameters}}});
        for name in ["fsync", "FSYNC", "ssl_cert_file", "listen_addresses", "a b", "x='1'"] {
            spec_refused(postgres(json!({name: "x"})), "postgres.managed.parameters");
        }
        let valid = redis(json!({"maxmemory-clients": "5%", "io-threads": "2"}));
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
        let valid = postgres(json!({"work_mem": "16MB", "auto_explain.log_min_duration": "1s"}));
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
    }

    #[test]
    fn what_only_a_load_balancer_has_needs_one() {
        let service = |service: Value| json!({"publisher": {"service": service}});
        spec_refused(service(json!({"loadBalancerClass": "x"})), "loadBalancerClass");
        spec_refused(service(json!({"type": "NodePort", "loadBalancerSourceRanges": ["10.0.0.0/8"]})), "SourceRanges");
        spec_refused(service(json!({"externalTrafficPolicy": "Local"})), "externalTrafficPolicy");
        let valid =
            service(json!({"type": "LoadBalancer", "loadBalancerClass": "x", "externalTrafficPolicy": "Local"}));
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
    }

    #[test]
    fn what_the_operator_sets_of_pods_is_refused_by_name() {
        let pods = |pods: Value| json!({"aggregator": {"pods": pods.clone()}, "redis": {"managed": {"pods": pods}}});
        spec_refused(pods(json!({"labels": {"app.kubernetes.io/instance": "other"}})), "pods.labels");
        spec_refused(pods(json!({"labels": {"sluice.dev/x": "other"}})), "pods.labels");
        spec_refused(pods(json!({"annotations": {"sluice.dev/config": "other"}})), "pods.annotations");
        for name in ["SLUICE_RETENTION", "SLUICE_DEDUP_FIELDS", "PGDATA", "REDISCLI_AUTH"] {
            spec_refused(pods(json!({"env": [{"name": "RUST_LOG"}, {"name": name, "value": "1h"}]})), "pods.env");
        }
        let valid = pods(json!({
            "labels": {"team": "a"}, "annotations": {"app.kubernetes.io/name": "a"},
            "env": [{"name": "RUST_LOG", "value": "debug"}, {"name": "SLUICE_FETCH", "value": "10"}],
        }));
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
    }

    #[test]
    fn what_only_an_external_redis_has_is_refused_by_name() {
        spec_refused(json!({"redis": {"sentinel": {"secretName": "s"}}}), "redis.sentinel");
        spec_refused(json!({"redis": {"replicas": 1}}), "redis.replicas");
        let external = json!({"secretRef": {"name": "cache"}});
        let valid = json!({"redis": {"external": external, "sentinel": {"secretName": "s"}, "replicas": 1}});
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
    }

    #[test]
    fn names_of_hosts_that_no_client_can_ask_for_are_refused() {
        let ingress =
            |hosts: Value| json!({"publisher": {"ingress": {"hosts": hosts, "tlsSecretName": "certificate"}}});
        let route =
            |hosts: Value| json!({"publisher": {"httpRoute": {"parentRefs": [{"name": "edge"}], "hostnames": hosts}}});
        for host in
            ["Events.example.com", "events.example.com:443", "https://events", "a..b", "*", "*.*.b", "10.0.0.1", "-a"]
        {
            spec_refused(ingress(json!([host])), "publisher.ingress.hosts");
            spec_refused(route(json!([host])), "publisher.httpRoute.hostnames");
        }
        spec_refused(ingress(json!([])), "publisher.ingress.tlsSecretName");
        spec_refused(
            json!({"publisher": {"ingress": {"annotations": {"sluice.dev/desired": "x"}}}}),
            "ingress.annotations",
        );
        for valid in [
            ingress(json!(["events.example.com", "*.example.com", "localhost"])),
            route(json!(["events.example.com"])),
            json!({"publisher": {"ingress": {}}}),
        ] {
            assert_eq!(refusals(&object("shop", valid.clone()), None), Vec::<String>::new(), "{valid}");
        }
    }

    #[test]
    fn a_volume_of_redis_that_is_too_small_for_its_memory_is_refused() {
        let redis =
            |memory: &str, size: &str| json!({"redis": {"managed": {"memory": memory, "storage": {"size": size}}}});
        spec_refused(redis("32Gi", "8Gi"), "redis.managed.storage.size");
        spec_refused(redis("1Gi", "2047Mi"), "redis.managed.storage.size");
        spec_refused(json!({"redis": {"managed": {"storage": {"size": "1Gi"}}}}), "redis.managed.storage.size");
        spec_refused(json!({"redis": {"managed": {"memory": "5Gi"}}}), "redis.managed.storage.size");
        for (memory, size) in [("1Gi", "2Gi"), ("64Mi", "128Mi"), ("1G", "2Gi")] {
            assert_eq!(refusals(&object("shop", redis(memory, size)), None), Vec::<String>::new(), "{memory} {size}");
        }
    }

    /// The programs refuse the same values when they start: a test of theirs has the same bounds.
    #[test]
    fn times_that_cannot_work_are_refused_by_name() {
        for time in ["59s", "1ms", "59999ms", "999999d"] {
            spec_refused(json!({"retention": time}), "spec.retention");
        }
        for time in ["9s", "9999ms", "999999d"] {
            spec_refused(json!({"idempotencyTtl": time}), "spec.idempotencyTtl");
        }
        for time in ["999ms", "1000h", "10000m"] {
            spec_refused(json!({"aggregator": {"claimAfter": time}}), "aggregator.claimAfter");
        }
        let valid = json!({"retention": "60s", "idempotencyTtl": "10s", "aggregator": {"claimAfter": "1s"}});
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
        let valid =
            json!({"retention": "60000ms", "idempotencyTtl": "10000ms", "aggregator": {"claimAfter": "1000ms"}});
        assert_eq!(refusals(&object("shop", valid), None), Vec::<String>::new());
    }

    /// The rules call `isQuantity`, which accepts only strings. The type refuses a number before a rule is
    /// evaluated.
    #[test]
    fn quantities_that_rules_look_at_are_text() {
        let spec = &schema()["properties"]["spec"]["properties"];
        for server in ["redis", "postgres"] {
            let managed = &spec[server]["properties"]["managed"]["properties"];
            for quantity in [&managed["memory"], &managed["cpu"], &managed["storage"]["properties"]["size"]] {
                assert_eq!((&quantity["type"], &quantity["maxLength"]), (&json!("string"), &json!(32)), "{quantity}");
            }
        }
    }

    #[test]
    fn what_cannot_be_changed_is_refused_by_name() {
        change_refused(json!({}), json!({"dedupFields": ["event_id"]}), "dedupFields");
        change_refused(json!({"dedupFields": ["event_id"]}), json!({}), "dedupFields");
        change_refused(json!({}), json!({"postgres": {"managed": {"version": 16}}}), "version");
        let external = json!({"external": {"secretRef": {"name": "db"}}});
        change_refused(json!({}), json!({"redis": external}), "spec.redis");
        change_refused(json!({"postgres": external}), json!({}), "spec.postgres");
        let storage = |storage: Value| json!({"redis": {"managed": {"storage": storage}}});
        change_refused(storage(json!({"size": "8Gi"})), storage(json!({"size": "4Gi"})), "size");
        change_refused(storage(json!({"storageClassName": "a"})), storage(json!({})), "storageClassName");
        change_refused(storage(json!({})), storage(json!({"storageClassName": "a"})), "storageClassName");
        change_refused(
            storage(json!({"storageClassName": "a"})),
            storage(json!({"storageClassName": "b"})),
            "storageClassName",
        );
    }

    #[test]
    fn volumes_may_grow_and_replicas_change() {
        let old = object("shop", json!({"redis": {"managed": {"storage": {"size": "4Gi"}}}}));
        let new = object(
            "shop",
            json!({"redis": {"managed": {"storage": {"size": "5Gi"}}}, "aggregator": {"replicas": 0}, "streams": 4}),
        );
        assert_eq!(refusals(&new, Some(&old)), Vec::<String>::new());
    }
}
