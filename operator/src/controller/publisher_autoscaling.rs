//! The number of publishers: that of the spec, or that of a HorizontalPodAutoscaler, of the operator or of a user.

use super::build::names::{Component, Names};
use super::fetch::Live;
use super::{field_managers, hibernation};
use crate::crd::{PublisherAutoscaling, PublisherSpec};

/// Returns the autoscaler that the operator creates. It creates none while somebody else's scales the publishers, because
/// each of the two would undo what the other does.
pub fn own<'a>(publisher: &'a PublisherSpec, live: &Live) -> Option<&'a PublisherAutoscaling> {
    publisher.autoscaling.as_ref().filter(|_| live.publisher_autoscalers.is_empty())
}

/// Returns the number of publishers, or `None` if an autoscaler has set it. Before it has, the current number stays: the
/// API server would take a missing number for 1.
pub fn replicas(publisher: &PublisherSpec, live: &Live, names: &Names) -> Option<i32> {
    let scaling = own(publisher, live);
    let asked = scaling.map_or(publisher.replicas, |scaling| scaling.min_replicas);
    if scaling.is_none() && live.publisher_autoscalers.is_empty() {
        return Some(asked);
    }
    let name = names.of(Component::Publisher);
    let current = live.objects.deployments.iter().find(|live| live.metadata.name.as_ref() == Some(&name));
    let Some(current) = current.filter(|current| !hibernation::stopped(current)) else { return Some(asked) };
    if field_managers::others_own_replicas(&current.metadata) {
        return None;
    }
    match (current.spec.as_ref().and_then(|spec| spec.replicas), scaling) {
        // An autoscaler does not start from 0.
        (None | Some(0), Some(_)) => Some(asked),
        (Some(current), Some(scaling)) => Some(current.clamp(asked, scaling.max_replicas.max(asked))),
        (current, None) => current.or(Some(asked)),
    }
}
