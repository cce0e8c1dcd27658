//! Sixth step: builds the desired objects of a resource, a file per component. It is pure: the result
//! depends on the plan and the checksums alone, so that it can be compared with the cluster.

mod additions;
mod aggregator;
mod auth;
pub mod backup;
pub mod cloud_native_pg;
mod config;
mod durability;
pub mod http_route;
mod ingress;
mod meta;
pub mod monitors;
pub mod names;
mod objects;
mod pod;
mod policies;
mod postgres;
mod publisher;
mod publisher_autoscaler;
mod redis;
mod set;
mod tls;
mod traces;
mod tuning;
pub mod upgrade;

pub use objects::Objects;

use super::plan::{Backend, Checksums, Plan};

/// Builds all objects of a resource. `checksums` are the hashes of the Secrets that its pods use.
pub fn build(plan: &Plan, checksums: &Checksums) -> Objects {
    let mut objects = Objects::default();
    if let Backend::Managed(redis) = &plan.redis {
        redis::build(plan, redis, checksums, &mut objects);
    }
    match &plan.postgres {
        Backend::Managed(postgres) => postgres::build(plan, postgres, checksums, &mut objects),
        Backend::Cluster(cluster) => cloud_native_pg::build(plan, cluster, &mut objects),
        Backend::External(_) => {}
    }
    backup::build(plan, &mut objects);
    // Aggregators are applied before publishers: they must be able to read what publishers write.
    aggregator::build(plan, checksums, &mut objects);
    publisher::build(plan, checksums, &mut objects);
    publisher_autoscaler::build(plan, &mut objects);
    ingress::build(plan, &mut objects);
    objects.http_routes.extend(http_route::build(plan));
    objects.pod_monitors.extend(monitors::pod_monitor::build(plan));
    objects.pod_monitors.extend(monitors::pod_monitor::of_cluster(plan));
    objects.prometheus_rules.extend(monitors::prometheus_rule::build(plan));
    policies::build(plan, &mut objects);
    objects
}
