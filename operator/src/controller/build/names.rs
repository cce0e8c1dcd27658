//! Names and labels, all derived from the resource's namespace and name.

use std::collections::BTreeMap;

/// `app.kubernetes.io/managed-by` of everything here, and the field manager.
pub const MANAGER: &str = "sluice-operator";
/// `app.kubernetes.io/name` of the operator's own pods, which policies let in.
pub const OPERATOR_NAME: &str = "sluice-operator";
/// `app.kubernetes.io/name` of everything here.
const PRODUCT: &str = "sluice";

const NAME: &str = "app.kubernetes.io/name";
const INSTANCE: &str = "app.kubernetes.io/instance";
const COMPONENT: &str = "app.kubernetes.io/component";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Labels of the operator's own pods.
pub fn operator_labels() -> BTreeMap<String, String> {
    BTreeMap::from([(NAME.to_owned(), OPERATOR_NAME.to_owned())])
}

/// Selects the objects of all resources.
pub fn selector_of_all() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// The resource that an object with these labels belongs to.
pub fn instance_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(INSTANCE).map(String::as_str)
}

/// The part that an object with these labels belongs to.
pub fn component_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(COMPONENT).map(String::as_str)
}

/// A part of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Takes events over HTTP.
    Publisher,
    /// Stores events.
    Aggregator,
    /// Holds events in between.
    Redis,
    /// Keeps events.
    Postgres,
}

impl Component {
    /// As in labels and names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Aggregator => "aggregator",
            Self::Redis => "redis",
            Self::Postgres => "postgres",
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
    /// `NAME-COMPONENT`: the name of most objects of a part.
    pub fn of(&self, component: Component) -> String {
        format!("{}-{}", self.name, component.as_str())
    }

    /// The Service that gives each aggregator pod a name of its own, ready or not.
    pub fn aggregator_pods(&self) -> String {
        format!("{}-pods", self.of(Component::Aggregator))
    }

    /// A Service's name within the cluster.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc", self.namespace)
    }

    /// The claim of the first pod of a part's set, of the volume `data`.
    pub fn claim(&self, component: Component) -> String {
        format!("data-{}-0", self.of(component))
    }

    /// The policy that denies everything that no other allows.
    pub fn default_deny(&self) -> String {
        format!("{}-default-deny", self.name)
    }

    /// Prefix of the keys in Redis: unlike any other resource's that shares the server.
    pub fn stream_prefix(&self) -> String {
        format!("sluice-{}-{}", self.name, self.hash())
    }

    /// The schema in PostgreSQL: unlike any other resource's that shares the database.
    pub fn schema(&self) -> String {
        format!("sluice_{}_{}", self.name.replace('-', "_"), self.hash())
    }

    fn hash(&self) -> String {
        short_hash(format!("{}/{}", self.namespace, self.name).as_bytes())
    }

    /// Labels of all objects of a part.
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector(component);
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// Labels that tell the pods of a part; never change.
    pub fn selector(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.selector_of_pods();
        labels.insert(COMPONENT.to_owned(), component.as_str().to_owned());
        labels
    }

    /// Labels of objects that belong to no part.
    pub fn common_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector_of_pods();
        labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// Labels that tell all pods of the resource.
    pub fn selector_of_pods(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NAME.to_owned(), PRODUCT.to_owned()), (INSTANCE.to_owned(), self.name.clone())])
    }

    /// Selects all objects of the resource.
    pub fn selector_of_objects(&self) -> String {
        format!("{INSTANCE}={},{MANAGED_BY}={MANAGER}", self.name)
    }

    /// Labels as a selector's text.
    pub fn selector_text(&self, component: Component) -> String {
        let pairs = self.selector(component).into_iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }
}

/// Eight hexadecimal digits that change with the content.
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
        assert!(names.aggregator_pods().len() <= 63);
        // What a StatefulSet appends to its name for its revisions.
        assert!(names.of(Component::Aggregator).len() + 11 <= 63);
        assert!(names.claim(Component::Postgres).len() <= 63);
    }

    #[test]
    fn resources_that_share_a_server_do_not_share_keys_or_tables() {
        let all = [names("a", "b-c"), names("a-b", "c"), names("a", "b"), names("b", "a"), names("a", "b_c")];
        let prefixes: std::collections::BTreeSet<_> = all.iter().map(Names::stream_prefix).collect();
        let schemas: std::collections::BTreeSet<_> = all.iter().map(Names::schema).collect();
        assert_eq!((prefixes.len(), schemas.len()), (all.len(), all.len()));
        assert_eq!(names("a", "b").schema(), names("a", "b").schema(), "a resource made anew finds its tables");
    }
}
