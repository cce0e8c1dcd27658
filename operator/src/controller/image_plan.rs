//! The images of all pods.

use super::error::{Error, Result};
use super::fetch::Live;
use super::plan::{Defaults, Images};
use super::upgrade::servers::Serving;
use crate::crd::EventAggregatorSpec;

/// Returns the images. That of PostgreSQL is the one of the server that serves.
///
/// # Errors
/// [`Error::Invalid`] for a text that is no name of an image.
pub fn images(spec: &EventAggregatorSpec, live: &Live, defaults: &Defaults, serving: &Serving) -> Result<Images> {
    let image = |field: &str, own: &Option<String>, default: &str| match own.as_deref().unwrap_or(default) {
        "" => Err(Error::invalid(format!("spec.images.{field}"), "must not be empty")),
        image if image.contains(char::is_whitespace) => {
            Err(Error::invalid(format!("spec.images.{field}"), "must not contain whitespace"))
        }
        image => Ok(image.to_owned()),
    };
    let asked = spec.postgres.managed.version;
    let of_postgres = |version: i32| defaults.image_postgres.replace("{version}", &version.to_string());
    let mut postgres = image("postgres", &spec.images.postgres, &of_postgres(asked))?;
    if serving.version != asked {
        // That of the spec is meant for the version of the spec.
        let set = live.objects.stateful_sets.iter().find(|set| set.metadata.name.as_ref() == Some(&serving.set));
        let used = set.and_then(|set| set.spec.as_ref()?.template.spec.as_ref()?.containers.first()?.image.clone());
        postgres = used.unwrap_or_else(|| of_postgres(serving.version));
    }
    Ok(Images {
        aggregator: image("aggregator", &spec.images.aggregator, &defaults.image_aggregator)?,
        publisher: image("publisher", &spec.images.publisher, &defaults.image_publisher)?,
        redis: image("redis", &spec.images.redis, &defaults.image_redis)?,
        postgres,
        pull_policy: spec.images.pull_policy,
        pull_secrets: spec.images.pull_secrets.clone(),
    })
}
