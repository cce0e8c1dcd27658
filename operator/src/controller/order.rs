//! The order in which the images of publishers and aggregators change. An aggregator reads what its own version or an
//! older one has written, so aggregators are first when the version rises, and publishers are first when it falls.
//!
//! Whether it falls is read from the tags. An image whose tag is no version, such as one with a digest, counts as newer.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::ResourceExt;

use super::build::Objects;
use super::build::names::Component;
use super::fetch::Live;
use super::plan::Plan;
use super::rollout;

/// How long after the last change of the publishers a backlog of 0 counts. Until then it may be older than that change.
const BACKLOG_DELAY: SignedDuration = SignedDuration::from_secs(30);
/// How long aggregators wait for a backlog of 0, which a busy system may never have. What the newer publishers wrote
/// is stored by then, unless storing has been stuck for all this time.
const BACKLOG_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// Retains the image of the aggregators while publishers that are newer than the desired aggregators run, and until
/// what they wrote is stored. Returns whether the image was retained.
pub fn hold_aggregators(plan: &Plan, live: &Live, desired: &mut Objects, now: Timestamp) -> bool {
    let name = plan.names.of(Component::Aggregator);
    let Some(set) = desired.stateful_sets.iter_mut().find(|set| set.name_any() == name) else { return false };
    let current = live.objects.stateful_sets.iter().find(|live| live.name_any() == name).and_then(template_of_set);
    let (Some(current), Some(image)) =
        (current.and_then(image_of), set.spec.as_mut().and_then(|spec| image_mut(&mut spec.template)))
    else {
        return false;
    };
    if !is_older(image, current) || publishers_are_back(live, &desired.deployments, now) {
        return false;
    }
    current.clone_into(image);
    true
}

/// Whether all publishers have the desired image, and what others wrote before them is stored.
fn publishers_are_back(live: &Live, desired: &[Deployment], now: Timestamp) -> bool {
    desired.iter().all(|desired| {
        let current = live.objects.deployments.iter().find(|live| live.name_any() == desired.name_any());
        let Some(current) = current else { return true };
        let same_image = template_of(current).and_then(image_of) == template_of(desired).and_then(image_of);
        if !same_image || !rollout::of_deployment(current).all_updated {
            return false;
        }
        let age = last_change(current).map_or(BACKLOG_LIMIT, |changed| now.duration_since(changed));
        age >= BACKLOG_LIMIT || (age >= BACKLOG_DELAY && live.backlog == Some(0))
    })
}

/// Returns when the Deployment last made progress, which is when its latest rollout was complete.
fn last_change(deployment: &Deployment) -> Option<Timestamp> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let progressing = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    progressing.last_update_time.as_ref().map(|time| time.0)
}

/// Retains the image of the publishers while aggregators are being replaced. A newer publisher may write entries that
/// only newer aggregators can read. Returns whether an image was retained.
pub fn hold_publishers(plan: &Plan, live: &Live, sets: &[StatefulSet], desired: &mut [Deployment]) -> bool {
    let aggregators = sets.iter().find(|set| set.name_any() == plan.names.of(Component::Aggregator));
    // The StatefulSet is missing when it could not be applied.
    if aggregators.is_some_and(|set| rollout::of_set(set).all_updated) {
        return false;
    }
    let mut held = false;
    for deployment in desired {
        let name = deployment.name_any();
        let current = live.objects.deployments.iter().find(|live| live.name_any() == name);
        let Some(current) = current.and_then(template_of).and_then(image_of) else { continue };
        let Some(image) = deployment.spec.as_mut().and_then(|spec| image_mut(&mut spec.template)) else { continue };
        // Aggregators wait for publishers that go back, so these must not wait for aggregators.
        if *image != current && !is_older(image, current) {
            current.clone_into(image);
            held = true;
        }
    }
    held
}

fn template_of(deployment: &Deployment) -> Option<&PodTemplateSpec> {
    Some(&deployment.spec.as_ref()?.template)
}

fn template_of_set(set: &StatefulSet) -> Option<&PodTemplateSpec> {
    Some(&set.spec.as_ref()?.template)
}

fn image_of(template: &PodTemplateSpec) -> Option<&str> {
    template.spec.as_ref()?.containers.first()?.image.as_deref()
}

fn image_mut(template: &mut PodTemplateSpec) -> Option<&mut String> {
    template.spec.as_mut()?.containers.first_mut()?.image.as_mut()
}

/// Whether both images have a version as their tag, and that of `image` is older.
fn is_older(image: &str, than: &str) -> bool {
    matches!((version_of(image), version_of(than)), (Some(image), Some(than)) if image < than)
}

/// Returns the numbers of a tag such as `1.2.3`, `v1.2` or `1.2.3-rc.1`. Whatever follows them does not count.
fn version_of(image: &str) -> Option<Vec<u64>> {
    let named = image.split('@').next()?;
    let (_, tag) = named.rsplit('/').next()?.split_once(':')?;
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    let numbers = tag.split(['-', '+', '_']).next()?;
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_tags() {
        assert_eq!(version_of("sluice-aggregator:0.1.0"), Some(vec![0, 1, 0]));
        assert_eq!(version_of("mirror.example:5000/team/agg:v1.10-rc.1"), Some(vec![1, 10]));
        assert_eq!(version_of("agg:2@sha256:0a"), Some(vec![2]));
        for image in ["agg", "mirror.example:5000/agg", "agg@sha256:0a", "agg:latest", "agg:main-7", "agg:"] {
            assert_eq!(version_of(image), None, "{image}");
        }
    }

    #[test]
    fn numbers_are_compared_and_not_their_digits() {
        assert!(is_older("agg:0.9.1", "agg:0.10.0"));
        assert!(!is_older("agg:0.10.0", "agg:0.9.1"));
        assert!(!is_older("agg:1.0.0", "agg:1.0.0"));
        assert!(!is_older("agg:latest", "agg:1.0.0"), "it is not known");
    }
}
