//! The store behind a log: its marks are compared with those of the log.

use std::time::Duration;

use async_trait::async_trait;
use sluice_log::replay::Marks;

use super::{PostgresStore, marks};
use crate::StoreError;
use crate::feed::Feed;
use crate::marks::{MarkedStore, Number, StoredMarks};

#[async_trait]
impl MarkedStore for PostgresStore {
    async fn marks(&self) -> Result<StoredMarks, StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let marks = marks::read(&mut lease).await;
        self.finish(lease, marks)
    }

    async fn raise_marks(&self, number: Number<'_>, marks: &Marks) -> Result<u64, StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let number = marks::raise(&mut lease, &number, marks).await;
        self.finish(lease, number)
    }

    async fn forget_marks(&self, workers: &[String], age: Duration) -> Result<u64, StoreError> {
        let mut lease = self.lease(&self.checks).await?;
        let removed = marks::forget(&mut lease, workers, age).await;
        self.finish(lease, removed)
    }

    async fn begin_feed_generation(&self, loss: Option<u64>) -> Result<(), StoreError> {
        self.begin_generation(loss).await
    }

    fn distrust_connections(&self) {
        for connections in [&self.commits, &self.lists, &self.queries, &self.maintenance, &self.checks] {
            connections.distrust();
        }
    }
}
