//! The CEL rule about the major version of a managed PostgreSQL.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::ValidationRule;

/// Returns the rule that the version cannot be lowered below the one that serves. An upgrade that has not switched to the
/// new server yet may be taken back. Which version serves is in the status, to which only a rule of the root has access.
/// (When the spec changes, the API server evaluates rules with the stored status, whatever the request contains. When the
/// status changes, the version does not.)
pub(super) fn version() -> ValidationRule {
    let managed = "spec.postgres.managed";
    ValidationRule {
        rule: format!(
            "!has(self.{managed}.version) || !has(oldSelf.{managed}.version) || \
             self.{managed}.version >= oldSelf.{managed}.version || \
             has(self.status) && has(self.status.postgres) && has(self.status.postgres.version) && \
             self.{managed}.version >= self.status.postgres.version"
        ),
        message: Some(
            "spec.postgres.managed.version cannot be lowered below status.postgres.version: a server cannot read the \
             files of a newer one"
                .to_owned(),
        ),
        field_path: Some(".spec.postgres.managed.version".to_owned()),
        ..ValidationRule::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::crd::schema::server::{object, refusals};

    #[test]
    fn the_version_can_be_raised_and_taken_back_only_as_far_as_the_one_that_serves() {
        let of = |version: i32, serves: Value| {
            let mut object = object("shop", json!({"postgres": {"managed": {"version": version}}}));
            object["status"] = json!({"postgres": {"version": serves}});
            object
        };
        for (from, to, serves) in [(16, 17, json!(16)), (16, 18, json!(16)), (17, 16, json!(16)), (18, 17, json!(16))] {
            assert_eq!(refusals(&of(to, serves.clone()), Some(&of(from, serves))), Vec::<String>::new(), "{from} {to}");
        }
        for (from, to, serves) in [(17, 16, json!(17)), (18, 15, json!(16)), (17, 16, json!(18))] {
            let refused = refusals(&of(to, serves.clone()), Some(&of(from, serves)));
            assert!(
                refused.iter().any(|message| message.contains("version cannot be lowered")),
                "{from} {to}: {refused:?}"
            );
        }
    }

    #[test]
    fn the_status_of_a_finished_upgrade_can_be_written_although_the_version_was_taken_back_meanwhile() {
        let mut old = object("shop", json!({"postgres": {"managed": {"version": 16}}}));
        let mut new = old.clone();
        old["status"] = json!({"postgres": {"version": 16}});
        new["status"] = json!({"postgres": {"version": 17}});
        assert_eq!(refusals(&new, Some(&old)), Vec::<String>::new());
    }
}
