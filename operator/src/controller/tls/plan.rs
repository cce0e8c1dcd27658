//! Which certificates a resource needs, and for which names.

use std::collections::BTreeMap;

use crate::controller::build::names::{Component, Names};
use crate::crd::TlsSpec;

/// TLS on all connections of a resource.
#[derive(Debug, Clone)]
pub struct TlsPlan {
    /// The components that have a certificate, each with the name of its Secret.
    pub secrets: BTreeMap<Component, String>,
    /// The components whose certificate the operator issues.
    pub issued: Vec<Component>,
    /// Further names of the publishers.
    publisher_names: Vec<String>,
}

impl TlsPlan {
    /// Returns the plan if TLS is enabled. `certified` are the components that have a certificate.
    pub fn new(spec: &TlsSpec, names: &Names, certified: &[Component]) -> Option<Self> {
        let given = |component| match component {
            Component::Publisher => spec.secrets.publisher.as_ref(),
            Component::Aggregator => spec.secrets.aggregator.as_ref(),
            Component::Redis => spec.secrets.redis.as_ref(),
            Component::Postgres => spec.secrets.postgres.as_ref(),
            Component::Client => spec.secrets.client.as_ref(),
            // It serves nothing, and asks no aggregator.
            Component::Backup => None,
        };
        let secret = |component| given(component).cloned().unwrap_or_else(|| names.certificate(component));
        spec.enabled.then(|| Self {
            secrets: certified.iter().map(|component| (*component, secret(*component))).collect(),
            issued: certified.iter().copied().filter(|component| given(*component).is_none()).collect(),
            publisher_names: spec.publisher_names.clone(),
        })
    }

    /// Returns the components whose certificates others issue, each with the name of its Secret.
    pub fn given(&self) -> impl Iterator<Item = (Component, &str)> {
        let given = self.secrets.iter().filter(|(component, _)| !self.issued.contains(component));
        given.map(|(component, secret)| (*component, secret.as_str()))
    }

    /// Returns the names in a certificate that the operator issues: all by which the Service of the component is known,
    /// and that of a forwarded port.
    pub fn names(&self, names: &Names, component: Component) -> Vec<String> {
        let (service, namespace) = (names.of(component), &names.namespace);
        if component == Component::Client {
            // Nobody connects to it. A certificate has a name nevertheless.
            return vec![service];
        }
        let host = names.host(&service);
        let mut all = vec![
            format!("{host}.cluster.local"),
            host,
            format!("{service}.{namespace}"),
            service,
            "localhost".to_owned(),
        ];
        match component {
            Component::Publisher => all.extend(self.publisher_names.clone()),
            Component::Aggregator => all.push(format!("*.{}", names.host(&names.aggregator_pods()))),
            Component::Redis | Component::Postgres | Component::Backup | Component::Client => {}
        }
        all
    }

    /// Returns the names that a certificate of others must have: those by which clients reach the component.
    pub fn needed(&self, names: &Names, component: Component) -> Vec<String> {
        match component {
            Component::Publisher if !self.publisher_names.is_empty() => self.publisher_names.clone(),
            Component::Client => Vec::new(),
            _ => vec![names.host(&names.of(component))],
        }
    }
}
