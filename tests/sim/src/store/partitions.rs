//! The maintenance of partitions, as a process uses it: the statements that [`sluice_store::partitions::maintain`] consists
//! of, on one connection.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_event::EventKey;
use sluice_store::StoreError;
use sluice_store::partitions::{
    FilterName, Group, Layout, LayoutSource, NewGroup, OpenPartition, PartitionTables, Segment, SegmentSource,
    Unfinished,
};
use tokio::sync::oneshot;

use super::connections::Connections;
use super::locks::Work;
use super::maintenance::missing;
use super::server::StoreServer;
use super::steps::Step;
use super::tables::{Attached, ONE_TABLE};
use crate::wire;
use crate::world::{Link, lock};

/// A connection for maintenance. It is closed when it is dropped, which the server notices at once or later.
pub struct Maintenance {
    inner: Arc<Connections>,
    server: u64,
    session: u64,
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        let (store, session, server) = (self.inner.store.clone(), self.session, self.server);
        let end = move || {
            let mut state = lock(&store.server);
            if state.generation == server {
                state.locks.end_building(session);
                state.locks.at_work.remove(&session);
            }
        };
        if self.inner.world.chance(0.7) {
            return end();
        }
        let later = self.inner.world.millis_between(1, 1_000);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(later).await;
                end();
            });
        }
    }
}

impl Maintenance {
    /// Connects.
    pub async fn connect(inner: Arc<Connections>) -> Result<Self, StoreError> {
        inner.process.running().await;
        let server = inner.current();
        let session = inner.call(server, |server| server.locks.session()).await.ok().flatten();
        let session = session.ok_or_else(|| StoreError::Unavailable("connect: no answer".into()))?;
        Ok(Self { inner, server, session })
    }

    /// Runs a statement.
    async fn ask<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce(&mut StoreServer) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.inner.call(self.server, run).await.ok().flatten();
        answer.ok_or_else(|| StoreError::Unavailable(format!("{name}: the connection broke")))
    }

    /// Runs a statement that writes, with a random number for whatever the server makes at random.
    async fn write<T: Send + 'static>(
        &self,
        name: &str,
        run: impl FnOnce(&mut StoreServer, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.inner.check_room()?;
        let random = self.inner.world.between(0, u64::MAX);
        self.ask(name, move |server| run(server, random)).await
    }

    /// Runs a transaction that no batch runs beside. Returns `None` if it did nothing.
    async fn step<T: Send + 'static>(
        &self,
        name: &str,
        is_possible: impl Fn(&StoreServer) -> bool + Send + 'static,
        work: impl FnOnce(&mut StoreServer) -> T + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        self.inner.check_room()?;
        let lost = || StoreError::Unavailable(format!("{name}: the connection broke"));
        let (world, store) = (self.inner.world.clone(), self.inner.store.clone());
        let step = Step { server: self.server, session: self.session, is_possible, work };
        let (send, answer) = oneshot::channel();
        let request = move || {
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                world.late_begins();
                runtime.spawn(async move {
                    // Whoever asked may be gone.
                    let _ = send.send(step.run(store).await);
                    world.late_ends();
                });
            }
        };
        let sent = wire::call(&self.inner.world, &self.inner.process, Link::Store, request).await;
        sent.map_err(|_| lost())?;
        let done = answer.await.map_err(|_| lost())?;
        self.inner.process.running().await;
        if self.inner.world.is_down(Link::Store) || self.inner.world.chance(0.02) {
            return Err(lost());
        }
        Ok(done)
    }

    /// Notes what it does, for the faults that happen meanwhile.
    fn works(&self, work: Work) {
        let label = self.inner.process.label.clone();
        lock(&self.inner.store.server).locks.at_work.insert(self.session, (label, work));
    }

    fn has_worked(&self) {
        lock(&self.inner.store.server).locks.at_work.remove(&self.session);
    }

    /// Removes what is older than the time limits, and drops the tables of removed partitions. Returns how many events were
    /// removed, and whether others may be left that are old.
    pub async fn remove(
        &mut self,
        receipts_ttl: Duration,
        retention: Option<Duration>,
    ) -> Result<(u64, bool), StoreError> {
        let clock = self.inner.clock();
        let forget = move |server: &mut StoreServer| server.maintain_receipts(clock(), receipts_ttl.as_millis() as u64);
        self.ask("maintain receipts", forget).await?;
        let Some(retention) = retention else { return Ok((0, false)) };
        let (mut events, mut more) = (0, true);
        // The time of one call is over after so many steps.
        let mut steps = self.inner.world.between(1, 4);
        while more && steps > 0 {
            steps -= 1;
            let (clock, max) = (self.inner.clock(), self.inner.world.between(1, 200) as usize);
            let remove = move |server: &mut StoreServer, random| server.remove_events(clock(), retention, max, random);
            let removed = self.write("remove events", remove).await?;
            events += removed.0;
            more = removed.1;
        }
        self.inner.note(|| format!("maintenance removed {events} events"));
        self.drop_tables().await?;
        Ok((events, more))
    }

    async fn drop_tables(&self) -> Result<(), StoreError> {
        for (number, attached) in self.ask("removed tables", |server| server.events.removed()).await? {
            self.works(Work::Dropping);
            if attached == Attached::Yes {
                self.write("detach", move |server, _| server.detach(number)).await?;
            }
            if attached != Attached::No {
                self.write("finish detaching", move |server, _| server.detach(number)).await?;
            }
            let is_there = move |server: &StoreServer| server.events.tables.contains_key(&number);
            let dropped = self.step("drop", is_there, move |server| server.drop_table(number)).await?;
            self.inner.note(|| format!("drops partition {number}: {}", dropped.is_some()));
            self.has_worked();
            if dropped.is_none() {
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LayoutSource for Maintenance {
    async fn read_layout(&mut self) -> Result<Layout, StoreError> {
        self.ask("layout", |server| server.events.catalog.layout()).await
    }
}

#[async_trait]
impl SegmentSource for Maintenance {
    async fn segment(&mut self, filter: &FilterName, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let filter = filter.clone();
        let content = self.ask("segment", move |server| server.events.catalog.segment(&filter, number)).await?;
        Ok(content.map(|bytes| bytes.to_vec()))
    }
}

#[async_trait]
impl PartitionTables for Maintenance {
    async fn open_partition(&mut self) -> Result<Option<OpenPartition>, StoreError> {
        let clock = self.inner.clock();
        self.ask("open partition", move |server| server.events.open_partition(clock(), server.unique())).await
    }

    async fn close(&mut self, partition: i32, next: i32) -> Result<bool, StoreError> {
        self.works(Work::Closing);
        let (clock, random) = (self.inner.clock(), self.inner.world.between(0, u64::MAX));
        let is_possible = move |server: &StoreServer| !server.events.tables.contains_key(&next);
        let work = move |server: &mut StoreServer| server.close(partition, next, clock(), random);
        let closed = self.step("close", is_possible, work).await?.transpose()?;
        self.inner.note(|| format!("closes partition {partition}: {}", closed.is_some()));
        self.has_worked();
        Ok(closed.is_some())
    }

    async fn switch_if_due(&mut self) -> Result<bool, StoreError> {
        if self.inner.world.elapsed() < self.inner.store.switch_after {
            return Ok(false);
        }
        self.close(ONE_TABLE, 1).await
    }

    async fn forget_filter(&mut self, filter: &FilterName) -> Result<(), StoreError> {
        self.inner.note(|| format!("forgets {filter:?}"));
        let filter = filter.clone();
        let forget = move |server: &mut StoreServer, random| {
            server.change_filters(random, |catalog| catalog.forget_filter(&filter));
        };
        self.write("forget filter", forget).await
    }

    async fn begin_building(&mut self) -> Result<bool, StoreError> {
        let session = self.session;
        let locked = self.ask("lock", move |server| server.locks.try_build(session)).await?;
        if locked {
            self.works(Work::Building);
        }
        Ok(locked)
    }

    async fn end_building(&mut self) -> Result<(), StoreError> {
        self.has_worked();
        let session = self.session;
        self.ask("unlock", move |server| server.locks.end_building(session)).await
    }

    async fn has_no_filter(&mut self, partition: i32) -> Result<bool, StoreError> {
        self.ask("has no filter", move |server| server.events.catalog.has_no_filter(partition)).await
    }

    async fn vacuum_next(&mut self) -> Result<(), StoreError> {
        self.ask("vacuum", |_| ()).await
    }

    async fn remove_unfinished(&mut self) -> Result<(), StoreError> {
        let remove = |server: &mut StoreServer, random| {
            server.change_filters(random, |catalog| {
                catalog.remove_unfinished();
                false
            });
        };
        self.write("remove unfinished", remove).await
    }

    async fn name_filter(&mut self, partition: i32) -> Result<(FilterName, u64), StoreError> {
        self.write("name filter", move |server, random| server.name_filter(partition, random)).await?
    }

    async fn keys(
        &mut self,
        partition: i32,
        from: EventKey,
        before: Option<EventKey>,
    ) -> Result<Vec<EventKey>, StoreError> {
        let read = move |server: &mut StoreServer| {
            let table = server.events.tables.get(&partition).ok_or_else(|| missing(partition))?;
            let keys = table.rows.range(from..).map(|(key, _)| *key);
            Ok(keys.take_while(|key| before.is_none_or(|before| *key < before)).collect())
        };
        self.ask("keys", read).await?
    }

    async fn build_segment(&mut self, keys: Vec<EventKey>, salt: u64) -> Result<Segment, StoreError> {
        Segment::build(&keys, salt).map_err(StoreError::Failed)
    }

    async fn insert_segment(&mut self, filter: &FilterName, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        let filter = filter.clone();
        let insert = move |server: &mut StoreServer, random| {
            server.change_filters(random, |catalog| {
                catalog.insert_segment(&filter, number, content);
                false
            });
        };
        self.write("insert segment", insert).await
    }

    async fn finish_filter(&mut self, filter: &FilterName, keys: u64) -> Result<(), StoreError> {
        self.inner.note(|| format!("has built {filter:?} of {keys} keys"));
        let filter = filter.clone();
        let finish = move |server: &mut StoreServer, random| {
            server.change_filters(random, |catalog| catalog.finish_filter(&filter, keys));
        };
        self.write("finish filter", finish).await
    }

    async fn unfinished_group(&mut self) -> Result<Option<Unfinished>, StoreError> {
        self.ask("unfinished group", |server| server.events.catalog.unfinished_group()).await
    }

    async fn begin_group(&mut self, group: &NewGroup) -> Result<Group, StoreError> {
        let group = *group;
        self.write("begin group", move |server, random| server.begin_group(group, random)).await
    }

    async fn add_group_segment(&mut self, group: &Group, number: u32, content: Vec<u8>) -> Result<(), StoreError> {
        let filter = group.filter.clone();
        let add = move |server: &mut StoreServer, random| {
            server.change_filters(random, |catalog| {
                catalog.add_group_segment(&filter, number, content);
                false
            });
        };
        self.write("add segment of group", add).await
    }

    async fn finish_group(&mut self, group: &Group) -> Result<(), StoreError> {
        self.inner.note(|| format!("has built {group:?}"));
        let group = group.clone();
        self.write("finish group", move |server, random| server.finish_group(&group, random)).await
    }
}
