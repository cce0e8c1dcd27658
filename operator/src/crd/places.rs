//! Rules of the names in external servers: the prefix of the streams and the schema of the tables. Neither can be changed,
//! because what is stored would be left behind.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

use super::add_rules::at_root;

/// Returns the rules. They belong to the root, which always exists.
pub(super) fn rules() -> Vec<ValidationRule> {
    at_root(&[
        (
            "has(self.spec.redis.streamPrefix) == has(oldSelf.spec.redis.streamPrefix) && \
             (!has(self.spec.redis.streamPrefix) || self.spec.redis.streamPrefix == oldSelf.spec.redis.streamPrefix)",
            "spec.redis.streamPrefix cannot be changed: events in the streams would be left behind",
            ".spec.redis",
        ),
        (
            "has(self.spec.postgres.schema) == has(oldSelf.spec.postgres.schema) && \
             (!has(self.spec.postgres.schema) || self.spec.postgres.schema == oldSelf.spec.postgres.schema)",
            "spec.postgres.schema cannot be changed: stored events would be left behind",
            ".spec.postgres",
        ),
        (
            "!has(self.spec.postgres.schema) || !self.spec.postgres.schema.startsWith('pg_')",
            "spec.postgres.schema must not begin with pg_, which PostgreSQL reserves",
            ".spec.postgres",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals, schema};

    fn refused(old: Option<Value>, new: Value) -> Vec<String> {
        let old = old.map(|old| object("shop", old));
        refusals(&object("shop", new), old.as_ref())
    }

    #[test]
    fn a_stream_prefix_and_a_schema_cannot_be_changed() {
        let redis = |prefix: &str| json!({"redis": {"streamPrefix": prefix}});
        let postgres = |schema: &str| json!({"postgres": {"schema": schema}});
        for (old, new, names) in [
            (redis("eu:shop"), redis("us:shop"), "spec.redis.streamPrefix cannot be changed"),
            (redis("eu:shop"), json!({}), "spec.redis.streamPrefix cannot be changed"),
            (json!({}), redis("eu:shop"), "spec.redis.streamPrefix cannot be changed"),
            (postgres("eu_shop"), postgres("us_shop"), "spec.postgres.schema cannot be changed"),
            (postgres("eu_shop"), json!({}), "spec.postgres.schema cannot be changed"),
            (json!({}), postgres("eu_shop"), "spec.postgres.schema cannot be changed"),
        ] {
            let refused = refused(Some(old), new.clone());
            assert!(refused.iter().any(|message| message.contains(names)), "{new}: {refused:?}");
        }
        let both = json!({"redis": {"streamPrefix": "eu:shop"}, "postgres": {"schema": "eu_shop"}});
        assert_eq!(refused(Some(both.clone()), both), Vec::<String>::new());
        assert!(refused(None, postgres("pg_shop"))[0].contains("spec.postgres.schema"));
    }

    /// The API server compares them with a pattern.
    #[test]
    fn a_stream_prefix_and_a_schema_have_a_pattern_and_a_length() {
        let spec = &schema()["properties"]["spec"]["properties"];
        for (part, field) in [("redis", "streamPrefix"), ("postgres", "schema")] {
            let field = &spec[part]["properties"][field];
            assert!(field["pattern"].is_string() && field["maxLength"].is_number(), "{field}");
        }
    }
}
