//! What the programs require of Redis and PostgreSQL, in their settings.

use k8s_openapi::api::core::v1::EnvVar;

use super::pod;
use crate::contract::env;
use crate::controller::plan::Plan;
use crate::crd::DurabilitySetting;

/// Returns the variables of a program that asks the servers for the settings which `asks_for` selects. A program
/// refuses the names of other settings. There are none if durability is not required, so that the pods of a resource
/// that does not say anything stay as they are.
pub(super) fn variables(plan: &Plan, asks_for: impl Fn(DurabilitySetting) -> bool) -> Vec<EnvVar> {
    if !plan.durability.require {
        return Vec::new();
    }
    // In the order of `ALL`, so that another order in the resource replaces no pods.
    let accepted: Vec<_> = DurabilitySetting::ALL
        .into_iter()
        .filter(|setting| plan.durability.accept_unknown.contains(setting) && asks_for(*setting))
        .map(DurabilitySetting::as_str)
        .collect();
    let mut variables = vec![pod::env(env::REQUIRE_DURABLE, "true")];
    if !accepted.is_empty() {
        variables.push(pod::env(env::ACCEPT_UNKNOWN_DURABILITY, accepted.join(",")));
    }
    variables
}
