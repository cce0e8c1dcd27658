//! The upgrade that a resource asks for, as a part of the plan.

use super::estimate::Estimate;
use super::plan::{Previous, UpgradePlan};
use super::servers::{self, Serving};
use super::stage::{Question, stage};
use crate::controller::build::names::{Names, pvc_of};
use crate::controller::error::{Error, Result};
use crate::controller::fetch::Live;
use crate::controller::plan::{Defaults, PostgresPlan};
use crate::controller::volume_plan::volume;
use crate::crd::EventAggregator;

/// What decides whether PostgreSQL is upgraded.
pub struct Asked<'a> {
    /// The resource.
    pub resource: &'a EventAggregator,
    /// The objects that exist.
    pub live: &'a Live,
    /// Their names.
    pub names: &'a Names,
    /// The server that serves.
    pub serving: &'a Serving,
    /// Whether a restore is not done yet.
    pub restores: bool,
    /// What is estimated, or what is not known for that.
    pub estimate: Result<Estimate, String>,
}

/// The part of the plan.
#[derive(Default)]
pub struct Upgraded {
    /// The upgrade.
    pub upgrade: Option<UpgradePlan>,
    /// The server that it fills, from when it has begun.
    pub next: Option<PostgresPlan>,
    /// What is left of former servers.
    pub previous: Previous,
}

impl Upgraded {
    /// Whether no aggregator may run.
    pub fn holds_aggregators(&self) -> bool {
        self.upgrade.as_ref().is_some_and(UpgradePlan::is_down) || !self.previous.running.is_empty()
    }
}

impl Asked<'_> {
    /// Returns the part of the plan. `current` is the server that serves; an external one is not upgraded.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a version that is lower than the one that serves.
    pub fn plan(self, current: Option<&PostgresPlan>, defaults: &Defaults) -> Result<Upgraded> {
        let Some(current) = current else { return Ok(Upgraded::default()) };
        let Self { resource, live, names, serving, restores, estimate } = self;
        let previous = servers::previous(resource, live, names, serving);
        let (spec, serves) = (&resource.spec, serving.version);
        let asked = spec.postgres.managed.version;
        if asked == serves {
            return Ok(Upgraded { previous, ..Upgraded::default() });
        }
        if asked < serves {
            let message = format!(
                "PostgreSQL {serves} serves, and a server cannot read the files of a newer one: set it to {serves} again, or \
                 restore a backup into another resource"
            );
            return Err(Error::invalid("spec.postgres.managed.version", message));
        }
        let set = names.postgres_set(Some(asked));
        let default = defaults.image_postgres.replace("{version}", &asked.to_string());
        let storage = &spec.postgres.managed.storage;
        let next = PostgresPlan {
            volume: volume("spec.postgres.managed.storage", storage, live, &pvc_of(&set))?,
            version: asked,
            image: spec.images.postgres.clone().unwrap_or(default),
            set: set.clone(),
            begins_empty: true,
            ..current.clone()
        };
        let volume_bytes = next.volume.bytes;
        let upgrade = stage(&Question { resource, live, names, serving, next: &set, volume_bytes, restores, estimate });
        let next = upgrade.has_begun().then_some(next);
        Ok(Upgraded { upgrade: Some(upgrade), next, previous })
    }
}
