//! Sends batches that are in memory alone.

use std::sync::Arc;

use uuid::Uuid;

use crate::batch::Batch;
use crate::collector::{Group, Sink};
use crate::core::{Core, rejections};

/// Has each batch sent by a task of its own.
#[derive(Debug)]
pub(crate) struct Memory(pub(crate) Arc<Core>);

impl Sink for Memory {
    async fn put(&mut self, group: Group) {
        let core = self.0.clone();
        let acquired = core.stop.run_until_cancelled(core.slots.clone().acquire_owned()).await;
        let Some(Ok(slot)) = acquired else { return };
        self.0.tasks.spawn(async move {
            let _slot = slot;
            let batch = Batch::new(Uuid::new_v4(), group.body.into());
            let Some(outcomes) = core.stop.run_until_cancelled(core.courier.deliver(&batch)).await else { return };
            rejections(&outcomes);
            core.counters.count(&outcomes);
            let events = outcomes.len();
            for (sender, outcome) in group.outcomes.into_iter().zip(outcomes) {
                // Nobody need await it.
                let _ = sender.send(outcome);
            }
            drop((batch, group.memory));
            core.counters.end(events);
        });
    }
}
