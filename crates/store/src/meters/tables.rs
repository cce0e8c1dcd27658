//! The statements that meters consist of.

use std::collections::HashMap;

use async_trait::async_trait;
use sluice_event::Timestamp;
use sluice_meter::fold::{Length, Skipped, WindowKey};

use super::status::StoredMeter;
use crate::{StoreError, StoredEvent};

/// Where the events are divided between the backfill and the transactions that store them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// The first event that was not removed.
    pub first_seq: i64,
    /// The first event that transactions count.
    pub cut_seq: i64,
    /// Events that were stored before this time have been removed.
    pub horizon: Option<Timestamp>,
}

/// What is done to the tables of meters, in transactions on one connection. Each call but [`MeterTables::begin`] is in the
/// transaction that this has begun. If it is not committed, it is rolled back.
#[async_trait]
pub(crate) trait MeterTables: Send {
    /// Begins a transaction that is the only one of its kind in all replicas. Returns false if another one is running and
    /// this one should not wait for it.
    async fn begin(&mut self, wait: bool) -> Result<bool, StoreError>;

    /// Commits the transaction.
    async fn commit(&mut self) -> Result<(), StoreError>;

    /// Rolls the transaction back.
    async fn rollback(&mut self) -> Result<(), StoreError>;

    /// Returns all meters.
    async fn meters(&mut self) -> Result<Vec<StoredMeter>, StoreError>;

    /// Waits until no batch runs and retention removes nothing, and keeps both from beginning until the transaction ends.
    async fn cut(&mut self) -> Result<Cut, StoreError>;

    /// Adds a meter. What is before the cut is counted by a backfill.
    async fn insert_meter(&mut self, name: &str, definition: &str, cut: Cut) -> Result<(), StoreError>;

    /// Changes a definition whose figures stay the same.
    async fn update_definition(&mut self, id: i64, definition: &str) -> Result<(), StoreError>;

    /// Removes a meter. Its windows are removed later.
    async fn remove_meter(&mut self, id: i64) -> Result<(), StoreError>;

    /// Gives the meters another version, so that transactions that begin later read them again.
    async fn change_version(&mut self) -> Result<(), StoreError>;

    /// Returns the oldest rows of batches: as many as have so many bytes, and at least one if there are any.
    async fn batches(&mut self, max_rows: u32, max_bytes: u64) -> Result<Vec<(i64, Vec<u8>)>, StoreError>;

    /// Adds a row of a batch.
    async fn insert_batch(&mut self, row: Vec<u8>) -> Result<(), StoreError>;

    /// Removes rows of batches.
    async fn remove_batches(&mut self, ids: &[i64]) -> Result<(), StoreError>;

    /// Returns the sizes, in bytes, of those of these windows that are stored.
    async fn sizes(&mut self, keys: &[WindowKey]) -> Result<HashMap<WindowKey, u64>, StoreError>;

    /// Returns the contents of those of these windows that are stored.
    async fn contents(&mut self, keys: &[WindowKey]) -> Result<Vec<(WindowKey, Vec<u8>)>, StoreError>;

    /// Inserts windows, or replaces their contents.
    async fn put_windows(&mut self, windows: Vec<(WindowKey, Vec<u8>)>) -> Result<(), StoreError>;

    /// Adds to the number of windows and of skipped events of a meter.
    async fn add_to_meter(&mut self, id: i64, windows: i64, skipped: &Skipped) -> Result<(), StoreError>;

    /// Returns events in the order of `seq`, from after one number on and before another: as many as have so many bytes, and at
    /// least one if there are any. Damaged ones are marked.
    async fn events(
        &mut self,
        after: i64,
        before: i64,
        max_rows: u32,
        max_bytes: u64,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// Sets what a backfill has counted; `None` is all.
    async fn set_backfilled(&mut self, id: i64, to: Option<i64>) -> Result<(), StoreError>;

    /// Removes the windows of a meter of one length that begin before a minute, at most `max` of them. Returns how many.
    async fn remove_windows(&mut self, id: i64, length: Length, before: i64, max: u32) -> Result<u64, StoreError>;

    /// Returns a meter that was removed and has windows.
    async fn removed_meter(&mut self) -> Result<Option<i64>, StoreError>;

    /// Forgets a meter that was removed, when it has no windows any more.
    async fn forget_meter(&mut self, id: i64) -> Result<(), StoreError>;

    /// Returns the time, by the store's clock.
    async fn now(&mut self) -> Result<Timestamp, StoreError>;
}
