//! The connections of a server: how many there may be, and which are closed when they run short.
//!
//! A connection *waits* while no request of it is handled: it is idle between two requests, or has sent a part of a
//! head. When few places are left, the connections that have waited longest are closed, so that clients which
//! connect and send nothing cannot exclude those that send requests, such as probes.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::open_files;

/// Files that are left to everything else: the connections to Redis, to PostgreSQL and to aggregators.
const OTHER_FILES: usize = 256;
/// The minimum number of connections, however few files the process may open.
const MIN_CONNECTIONS: usize = 64;
/// Fewer free places than this share of all (one in 32) are too few.
const FREE_SHARE: usize = 32;
/// And fewer than these, of a server that has few places (but never more than one in four): each connection that is
/// closed may take a second to go, and whoever waits for a place must not wait for each in turn.
const MIN_FREE: usize = 16;
/// The bytes of the buffers of all heads together beyond the first [`HEAD_FREE`] of each.
const MAX_HEAD_BYTES: usize = 16 << 20;
/// Bytes of a head that every connection may send: the size of the buffer that hyper begins with.
const HEAD_FREE: usize = 8 << 10;
/// The value of [`Connection::waiting_since`] while a request is handled.
const BUSY: u64 = 0;

/// The connections of one server.
pub(crate) struct OpenConnections {
    places: Arc<Semaphore>,
    max: usize,
    head_bytes: Arc<Semaphore>,
    /// Orders the moments at which connections began to wait; cheaper than the time.
    clock: Arc<AtomicU64>,
    open: Arc<Mutex<HashMap<u64, Arc<Connection>>>>,
}

/// The state of one connection.
pub(crate) struct Connection {
    waiting_since: AtomicU64,
    clock: Arc<AtomicU64>,
    /// Bytes read since the connection began to wait: those of a request's head, or of a handshake.
    head: AtomicUsize,
    /// The permits that it holds for the part of their buffer beyond [`HEAD_FREE`].
    long_head: AtomicUsize,
    head_bytes: Arc<Semaphore>,
    /// Cancelled when the server shuts down, and when this connection is closed to make room.
    pub(crate) closing: CancellationToken,
}

/// The place of one connection. It is free again when this is dropped.
pub(crate) struct Place {
    number: u64,
    open: Arc<Mutex<HashMap<u64, Arc<Connection>>>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl OpenConnections {
    /// Returns the bounds of a server in this process: not more connections than its limit of open files allows.
    pub(crate) fn new(max: usize) -> Self {
        let files = open_files::limit().unwrap_or(usize::MAX);
        Self::with_max(files.saturating_sub(OTHER_FILES).max(MIN_CONNECTIONS).min(max))
    }

    fn with_max(max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(max)),
            max,
            head_bytes: Arc::new(Semaphore::new(MAX_HEAD_BYTES)),
            clock: Arc::new(AtomicU64::new(BUSY + 1)),
            open: Arc::default(),
        }
    }

    /// Waits for a place for one more connection. Closes waiting connections as soon as few places are left.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let few = few(self.max);
        let free = self.places.available_permits();
        if free < few {
            self.close_longest_waiting(few - free);
        }
        self.places.clone().acquire_owned().await.ok()
    }

    /// Registers a connection that was accepted. It is closed when `shutdown` is cancelled.
    pub(crate) fn register(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        shutdown: &CancellationToken,
    ) -> (Arc<Connection>, Place) {
        let number = self.clock.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            waiting_since: AtomicU64::new(number),
            clock: self.clock.clone(),
            head: AtomicUsize::new(0),
            long_head: AtomicUsize::new(0),
            head_bytes: self.head_bytes.clone(),
            closing: shutdown.child_token(),
        });
        lock(&self.open).insert(number, connection.clone());
        (connection, Place { number, open: self.open.clone(), _permit: permit })
    }

    /// Closes as many connections as are needed for `count` places; those that are being closed already are some of
    /// them. A client can take a second to close its side, and more connections arrive meanwhile.
    fn close_longest_waiting(&self, count: usize) {
        let open = lock(&self.open);
        let since = |connection: &Connection| connection.waiting_since.load(Ordering::Relaxed);
        let (closing, open): (Vec<_>, Vec<_>) = open.values().partition(|open| open.closing.is_cancelled());
        let count = count.saturating_sub(closing.len());
        let mut waiting: Vec<_> = open
            .into_iter()
            .map(|connection| (since(connection), connection))
            .filter(|(since, _)| *since != BUSY)
            .collect();
        if waiting.len() > count {
            waiting.select_nth_unstable_by_key(count, |(since, _)| *since);
            waiting.truncate(count);
        }
        for (_, connection) in waiting {
            connection.closing.cancel();
        }
    }
}

impl Connection {
    /// Records that a request is handled, until the returned value is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.waiting_since.store(BUSY, Ordering::Relaxed);
        self.forget_head();
        Busy(self.clone())
    }

    /// Returns whether a request is handled, which ends when hyper has taken the last piece of its response.
    pub(crate) fn is_busy(&self) -> bool {
        self.waiting_since.load(Ordering::Relaxed) == BUSY
    }

    /// Counts bytes that were read.
    ///
    /// # Errors
    /// When they belong to a long head, and the long heads of all connections have too many bytes.
    pub(crate) fn count_head(&self, bytes: usize) -> io::Result<()> {
        if self.is_busy() {
            return Ok(()); // A body.
        }
        // Nothing else changes it at the same time: one task serves the connection.
        let head = self.head.load(Ordering::Relaxed) + bytes;
        self.head.store(head, Ordering::Relaxed);
        let more = long_head(head).saturating_sub(self.long_head.load(Ordering::Relaxed));
        if more == 0 {
            return Ok(());
        }
        let permits = u32::try_from(more).ok().and_then(|more| self.head_bytes.try_acquire_many(more).ok());
        permits.ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, "too many long heads"))?.forget();
        self.long_head.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the permits of a head that is no longer in memory, and counts the next one from zero.
    pub(crate) fn forget_head(&self) {
        self.head.store(0, Ordering::Relaxed);
        if self.long_head.load(Ordering::Relaxed) > 0 {
            self.head_bytes.add_permits(self.long_head.swap(0, Ordering::Relaxed));
        }
    }
}

/// Returns how many free places of a server are too few.
fn few(max: usize) -> usize {
    (max / FREE_SHARE).max(MIN_FREE.min(max / 4)).max(1)
}

/// Returns the bytes beyond [`HEAD_FREE`] that the buffer of a head of this length has at most. hyper makes room for
/// more than a head has, and a buffer that grows is doubled.
fn long_head(head: usize) -> usize {
    if head <= HEAD_FREE { 0 } else { 2 * head.next_multiple_of(HEAD_FREE) - HEAD_FREE }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.forget_head();
    }
}

/// A request that is handled. When this is dropped, its connection waits again.
pub(crate) struct Busy(Arc<Connection>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.waiting_since.store(self.0.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.open).remove(&self.number);
    }
}

fn lock(open: &Mutex<HashMap<u64, Arc<Connection>>>) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_connection_that_has_waited_longest_is_closed_when_no_place_is_left() {
        let connections = OpenConnections::with_max(3);
        let shutdown = CancellationToken::new();
        let mut open = Vec::new();
        for _ in 0..3 {
            let place = connections.place().await;
            open.push(connections.register(place, &shutdown));
        }
        // The first handles a request, and the second has handled one since the third was opened.
        let busy = open[0].0.busy();
        drop(open[1].0.busy());
        let next = tokio::spawn({
            let (connection, place) = open.pop().unwrap();
            async move {
                connection.closing.cancelled().await;
                drop(place);
            }
        });
        let place = tokio::time::timeout(Duration::from_secs(20), connections.place()).await;
        assert!(place.is_ok_and(|permit| permit.is_some()), "no connection was closed");
        next.await.unwrap();
        assert!(open.iter().all(|(connection, _)| !connection.closing.is_cancelled()));
        drop(busy);
    }

    #[tokio::test]
    async fn no_more_connections_are_closed_than_places_are_needed() {
        for (max, free) in [(8, 2), (64, 16), (320, 16), (3_200, 100)] {
            let connections = OpenConnections::with_max(max);
            let shutdown = CancellationToken::new();
            let mut open = Vec::new();
            // None of those that are told to close does so meanwhile.
            for _ in 0..max {
                let place = connections.place().await;
                open.push(connections.register(place, &shutdown));
            }
            let closing = open.iter().filter(|(connection, _)| connection.closing.is_cancelled()).count();
            // One place was still free when they were counted for the last time.
            assert_eq!(closing, free - 1, "of {max} connections");
        }
    }
}
