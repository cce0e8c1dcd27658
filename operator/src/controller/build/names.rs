//! Names and labels of all objects, derived from the namespace and name of the resource.

use std::collections::BTreeMap;

/// The label `app.kubernetes.io/managed-by` of all objects, and the field manager of all writes.
pub const MANAGER: &str = "sluice-operator";
/// The label `app.kubernetes.io/name` of the operator's own pods. NetworkPolicies allow their connections by it.
pub const OPERATOR_NAME: &str = "sluice-operator";
/// The label `app.kubernetes.io/name` of all objects.
const PRODUCT: &str = "sluice";

const NAME: &str = "app.kubernetes.io/name";
/// The label with the name of the resource.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The label with the component.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The label with the name of the program that manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Annotation of the PersistentVolumeClaim of a server that an upgrade has not filled yet.
pub const INCOMPLETE: &str = "sluice.dev/incomplete";
/// Annotation of the PersistentVolumeClaim of a server that an upgrade has filled: the upgrade. From then on this server
/// has what is stored, and no former one may serve.
pub const COMPLETE: &str = "sluice.dev/complete";
/// The variable of a PostgreSQL's pod with its major version.
pub const MAJOR_VARIABLE: &str = "POSTGRES_MAJOR";
/// Annotation of the PersistentVolumeClaim of a PostgreSQL with its major version.
pub const VERSION: &str = "sluice.dev/postgres-version";

/// Returns the labels of the operator's own pods.
pub fn operator_labels() -> BTreeMap<String, String> {
    BTreeMap::from([(NAME.to_owned(), OPERATOR_NAME.to_owned())])
}

/// Returns the selector of the objects of all resources.
pub fn selector_of_all() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Returns the name of the resource to which an object with these labels belongs.
pub fn instance_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(INSTANCE).map(String::as_str)
}

/// Returns the name of the component to which an object with these labels belongs.
pub fn component_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(COMPONENT).map(String::as_str)
}

/// A component of the system: a kind of pods with their Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Accepts events over HTTP.
    Publisher,
    /// Stores events.
    Aggregator,
    /// Holds events until they are stored.
    Redis,
    /// Holds the stored events.
    Postgres,
    /// Stores backups of PostgreSQL, and restores them.
    Backup,
    /// Connects to aggregators: publishers and the operator. It has a certificate and no pods of its own.
    Client,
}

impl Component {
    /// The component as it is written in labels and names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Aggregator => "aggregator",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
            Self::Backup => "backup",
            Self::Client => "client",
        }
    }
}

/// The names of one resource's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The resource's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Names {
    /// Returns `NAME-COMPONENT`, the name of most objects of a component.
    pub fn of(&self, component: Component) -> String {
        format!("{}-{}", self.name, component.as_str())
    }

    /// Returns the name of the headless Service that gives each aggregator pod a DNS name, ready or not.
    pub fn aggregator_pods(&self) -> String {
        format!("{}-pods", self.of(Component::Aggregator))
    }

    /// Returns the name of the Service of the publishers' metrics, which clients have no use for.
    pub fn publisher_metrics(&self) -> String {
        format!("{}-metrics", self.of(Component::Publisher))
    }

    /// Returns the name of the Secret with the certificate that the operator issues for a component.
    pub fn certificate(&self, component: Component) -> String {
        format!("{}-tls", self.of(component))
    }

    /// Returns the name of the Secret with the CA that issues certificates.
    pub fn authority(&self) -> String {
        format!("{}-tls-ca", self.name)
    }

    /// Returns the name of the Secret with the tokens that the programs accept.
    pub fn tokens(&self) -> String {
        format!("{}-tokens", self.name)
    }

    /// Returns the name of the Secret with the operator's own token.
    pub fn operator_token(&self) -> String {
        format!("{}-operator-token", self.name)
    }

    /// Returns the name of the Service that leads to the primary of a Cluster of CloudNativePG.
    pub fn cluster_primary(&self) -> String {
        format!("{}-rw", self.of(Component::Postgres))
    }

    /// Returns the name of the Secret with the user of its database.
    pub fn cluster_user(&self) -> String {
        format!("{}-app", self.of(Component::Postgres))
    }

    /// Returns the name of the Secret with the CA of its certificates.
    pub fn cluster_authority(&self) -> String {
        format!("{}-ca", self.of(Component::Postgres))
    }

    /// Returns the DNS name of a Service within the cluster.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc", self.namespace)
    }

    /// Returns the name of the PersistentVolumeClaim of the first pod of a component.
    pub fn pvc(&self, component: Component) -> String {
        format!("data-{}-0", self.of(component))
    }

    /// Returns the name of the StatefulSet of a PostgreSQL: the first one of a resource, or that of the major version to
    /// which it was upgraded.
    pub fn postgres_set(&self, major: Option<i32>) -> String {
        let first = self.of(Component::Postgres);
        major.map_or(first.clone(), |major| format!("{first}-{major}"))
    }

    /// Returns the major version in the name of a PostgreSQL's StatefulSet: `None` in the first one of a resource. The
    /// outer `None` means that the name is not one of a PostgreSQL.
    pub fn postgres_major(&self, set: &str) -> Option<Option<i32>> {
        let rest = set.strip_prefix(&self.of(Component::Postgres))?;
        if rest.is_empty() {
            return Some(None);
        }
        let digits = rest.strip_prefix('-')?;
        let is_major = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_major.then(|| digits.parse().ok())
    }

    /// Returns the name of the Job of an upgrade.
    pub fn upgrade_job(&self, key: &str) -> String {
        format!("{}-upgrade-{}", self.name, short_hash(key.as_bytes()))
    }

    /// Returns the name of the Job of a restore.
    pub fn restore_job(&self, key: &str) -> String {
        format!("{}-restore-{}", self.name, short_hash(key.as_bytes()))
    }

    /// Returns the name of the NetworkPolicy that denies everything that no other policy allows.
    pub fn default_deny(&self) -> String {
        format!("{}-default-deny", self.name)
    }

    /// Returns the prefix of the keys in Redis, unless the resource names one. No other resource of the cluster has it.
    pub fn stream_prefix(&self) -> String {
        format!("sluice-{}-{}", self.name, self.hash())
    }

    /// Returns the schema in PostgreSQL, unless the resource names one. No other resource of the cluster has it.
    pub fn schema(&self) -> String {
        format!("sluice_{}_{}", self.name.replace('-', "_"), self.hash())
    }

    fn hash(&self) -> String {
        short_hash(format!("{}/{}", self.namespace, self.name).as_bytes())
    }

    /// Returns the labels of all objects of a component.
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector(component);
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// Returns the labels that select the pods of a component. They must never change: the selector of a
    /// StatefulSet is immutable.
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector_of_pods();
        labels.insert(COMPONENT.to_owned(), component.as_str().to_owned());
        labels
    }

    /// Returns the labels of objects that belong to no component.
    pub fn common_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector_of_pods();
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// Returns the labels that select all pods of the resource.
    pub fn selector_of_pods(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME.to_owned(), PRODUCT.to_owned()), (INSTANCE.to_owned(), self.name.clone())])
    }

    /// Returns the selector of all objects of the resource.
    pub fn selector_of_objects(&self) -> String {
        format!("{INSTANCE}={},{MANAGED_BY}={MANAGER}", self.name)
    }

    /// Returns the selector of a component's pods as text.
    pub fn selector_text(&self, component: Component) -> String {
        let pairs = self.selector(component).into_iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// Returns the name of the PersistentVolumeClaim of the only pod of a StatefulSet.
pub fn pvc_of(set: &str) -> String {
    format!("data-{set}-0")
}

/// Returns eight hexadecimal digits of a hash of the content.
pub fn short_hash(content: &[u8]) -> String {
    blake3::hash(content).to_hex().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(namespace: &str, name: &str) -> Names {
        Names { name: name.to_owned(), namespace: namespace.to_owned() }
    }

    #[test]
    fn the_longest_name_fits_everywhere() {
        let names = names("ns", &"a".repeat(40));
        assert!(names.schema().len() <= 63, "{}", names.schema());
        assert!(names.aggregator_pods().len() <= 63 && names.publisher_metrics().len() <= 63);
        // A StatefulSet appends 11 characters to its name for its revisions.
        assert!(names.of(Component::Aggregator).len() + 11 <= 63);
        assert!(names.pvc(Component::Postgres).len() <= 63);
        // CloudNativePG refuses longer names of Clusters.
        assert!(names.of(Component::Postgres).len() <= 50);
        assert!(pvc_of(&names.postgres_set(Some(17))).len() <= 63);
        assert!(names.postgres_set(Some(17)).len() + 11 <= 63);
    }

    #[test]
    fn the_major_version_of_a_server_is_in_the_name_of_its_set() {
        let names = names("ns", "shop");
        assert_eq!(names.postgres_set(None), "shop-postgres");
        assert_eq!(names.postgres_set(Some(17)), "shop-postgres-17");
        for (name, major) in [
            ("shop-postgres", Some(None)),
            ("shop-postgres-17", Some(Some(17))),
            ("shop-postgres-x", None),
            ("shop-postgres-170", None),
            ("shop-redis", None),
        ] {
            assert_eq!(names.postgres_major(name), major, "{name}");
        }
    }

    #[test]
    fn resources_that_share_a_server_do_not_share_keys_or_tables() {
        let all = [names("a", "b-c"), names("a-b", "c"), names("a", "b"), names("b", "a"), names("a", "b_c")];
        let prefixes: std::collections::BTreeSet<_> = all.iter().map(Names::stream_prefix).collect();
        let schemas: std::collections::BTreeSet<_> = all.iter().map(Names::schema).collect();
        assert_eq!((prefixes.len(), schemas.len()), (all.len(), all.len()));
        assert_eq!(
            names("a", "b").schema(),
            names("a", "b").schema(),
            "a resource that is created again finds its tables"
        );
    }
}
