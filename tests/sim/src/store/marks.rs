//! The marks of commits, as a process uses them.

use std::time::Duration;

use async_trait::async_trait;
use sluice_log::replay::Marks;
use sluice_store::StoreError;
use sluice_store::marks::{MarkedStore, Number, StoredMarks};

use super::client::StoreClient;
use super::server::Numbered;

#[async_trait]
impl MarkedStore for StoreClient {
    async fn marks(&self) -> Result<StoredMarks, StoreError> {
        self.connections().ask("marks", |server| server.stored_marks()).await
    }

    async fn raise_marks(&self, number: Number<'_>, marks: &Marks) -> Result<u64, StoreError> {
        let connections = self.connections();
        connections.check_room()?;
        let (number, marks, clock) = (Numbered::from(number), marks.clone(), connections.clock());
        let raised = connections.ask("raise_marks", move |server| server.raise_marks(&number, &marks, clock())).await;
        raised?
    }

    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<u64, StoreError> {
        let connections = self.connections();
        let (workers, age, clock) = (workers.to_vec(), age.as_millis() as u64, connections.clock());
        connections.ask("forget_marks", move |server| server.forget_marks(&workers, age, clock())).await
    }

    fn distrust_connections(&self) {
        self.connections().distrust();
    }
}
