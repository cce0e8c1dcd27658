//! What the topology promises about accepted events when a node or a server is lost: the condition Durable. It follows from
//! the plan alone, so it changes only when the resource, or the URL of an external server, changes. What the settings of the
//! servers promise is found by the programs themselves, see `crd::durability`.

use super::plan::{Backend, Plan};
use super::reason::Reason;
use crate::crd::DataDurability;

/// The content of the condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// The worst of both servers.
    pub reason: Reason,
    /// What each of them promises.
    pub message: String,
}

/// Returns the condition. The reason is that of the server that promises less, and the message tells of both.
pub fn durable(plan: &Plan) -> Durable {
    let (redis, postgres) = (redis(plan), postgres(plan));
    let reason = if rank(redis.0) >= rank(postgres.0) { redis.0 } else { postgres.0 };
    let status = match reason {
        Reason::SynchronousStandby => "True",
        Reason::TopologyUnknown => "Unknown",
        _ => "False",
    };
    Durable { status, reason, message: format!("Redis: {}. PostgreSQL: {}", redis.1, postgres.1) }
}

/// How much is lost, from nothing to everything.
fn rank(reason: Reason) -> u8 {
    match reason {
        Reason::SynchronousStandby => 0,
        Reason::TopologyUnknown => 1,
        Reason::AsyncStandby => 2,
        _ => 3,
    }
}

fn redis(plan: &Plan) -> (Reason, String) {
    let replicas = plan.redis_replicas;
    match &plan.redis {
        Backend::Managed(_) => single("accepted events that are not stored yet are"),
        Backend::Cluster(never) => match *never {},
        Backend::External(_) if replicas > 0 => (
            Reason::SynchronousStandby,
            format!("an event is accepted when {replicas} of its replicas have it (spec.redis.replicas)"),
        ),
        Backend::External(external) if external.fails_over => (
            Reason::AsyncStandby,
            "a failover loses the events that were accepted last: set spec.redis.replicas to the number of replicas"
                .to_owned(),
        ),
        Backend::External(_) => unknown(" or spec.redis.replicas"),
    }
}

fn postgres(plan: &Plan) -> (Reason, String) {
    let cluster = match &plan.postgres {
        Backend::Managed(_) => return single("stored events are"),
        Backend::External(_) => return unknown(""),
        Backend::Cluster(cluster) => &cluster.spec,
    };
    let synchronous = &cluster.synchronous;
    if cluster.instances == 1 {
        return single("stored events are");
    }
    if !synchronous.enabled {
        let message =
            format!("a failover loses the last commits; {AGAIN}: enable spec.postgres.cloudNativePG.synchronous");
        return (Reason::AsyncStandby, message);
    }
    match synchronous.data_durability {
        DataDurability::Required => {
            let number = synchronous.number;
            (Reason::SynchronousStandby, format!("a commit is confirmed when {number} of its standbys have it"))
        }
        DataDurability::Preferred => {
            let message = format!(
                "while no standby is ready, commits do not wait for one, and a failover loses them; {AGAIN}: set \
                 spec.postgres.cloudNativePG.synchronous.dataDurability to required"
            );
            (Reason::AsyncStandby, message)
        }
    }
}

/// What happens to lost commits.
const AGAIN: &str = "they are stored again as far as Redis still has them";

fn single(what: &str) -> (Reason, String) {
    (
        Reason::SingleNode,
        format!("one pod with one volume; {what} safe from a restart, not from the loss of the volume"),
    )
}

fn unknown(or: &str) -> (Reason, String) {
    let message = format!("an external server; whether it has a synchronous standby is not known from its URL{or}");
    (Reason::TopologyUnknown, message)
}
