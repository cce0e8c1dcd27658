//! The CEL rule that a volume cannot shrink.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

/// Returns the rule that a volume cannot shrink. A size that was asked for and could not be had may be taken back,
/// so what counts is the size that exists. It is in the status, to which only a rule of the root has access. (When
/// the spec changes, the API server evaluates rules with the stored status, whatever the request contains.)
macro_rules! shrink {
    ($server:literal) => {
        ValidationRule {
            rule: concat!(
                "!isQuantity(self.spec.",
                $server,
                ".managed.storage.size) || ",
                "!isQuantity(oldSelf.spec.",
                $server,
                ".managed.storage.size) || ",
                "quantity(self.spec.",
                $server,
                ".managed.storage.size).compareTo(",
                "quantity(oldSelf.spec.",
                $server,
                ".managed.storage.size)) >= 0 || ",
                "has(self.status) && has(self.status.volumes) && has(self.status.volumes.",
                $server,
                ") && ",
                "isQuantity(self.status.volumes.",
                $server,
                ") && ",
                "quantity(self.spec.",
                $server,
                ".managed.storage.size).compareTo(",
                "quantity(self.status.volumes.",
                $server,
                ")) >= 0"
            )
            .to_owned(),
            message: Some(
                concat!(
                    "spec.",
                    $server,
                    ".managed.storage.size cannot shrink below the size of the volume, ",
                    "status.volumes.",
                    $server
                )
                .to_owned(),
            ),
            field_path: Some(concat!(".spec.", $server, ".managed.storage.size").to_owned()),
            ..ValidationRule::default()
        }
    };
}

/// Returns the rules for the volumes of both servers. They belong to the root.
pub(super) fn rules() -> [ValidationRule; 2] {
    [shrink!("redis"), shrink!("postgres")]
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals};

    /// The status is that of the stored object: the API server takes it over before it evaluates the rules.
    #[test]
    fn a_size_that_could_not_be_had_may_be_taken_back_down_to_the_size_that_exists() {
        for server in ["redis", "postgres"] {
            let sized = |size: &str, volumes: Value| {
                let mut object = object("shop", json!({server: {"managed": {"storage": {"size": size}}}}));
                object["status"] = json!({"volumes": volumes});
                object
            };
            let there = json!({server: "8Gi"});
            let old = sized("64Gi", there.clone());
            for size in ["8Gi", "8192Mi", "10Gi", "64Gi", "65Gi"] {
                assert_eq!(refusals(&sized(size, there.clone()), Some(&old)), Vec::<String>::new(), "{size}");
            }
            for (size, volumes) in [("7Gi", there), ("8Gi", json!({})), ("8Gi", json!({server: "64Gi"}))] {
                let refused = refusals(&sized(size, volumes.clone()), Some(&sized("64Gi", volumes.clone())));
                let field = format!("spec.{server}.managed.storage.size");
                assert!(refused.iter().any(|message| message.contains(&field)), "{size} {volumes}: {refused:?}");
            }
        }
    }
}
