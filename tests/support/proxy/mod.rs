//! Proxies that cut a connection at a chosen message.

pub mod postgres;
pub mod redis;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// At which side of a message the connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the message.
    Before,
    /// The server does what the message says, and its answer is lost.
    After,
}

/// How often a proxy still cuts, and how often it did.
#[derive(Debug, Clone)]
pub(crate) struct Scissors {
    cut: Cut,
    left: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
}

impl Scissors {
    pub(crate) fn new(cut: Cut) -> Self {
        Self { cut, left: Arc::default(), done: Arc::default() }
    }

    /// Takes one cut, if any is left.
    pub(crate) fn take(&self) -> Option<Cut> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        taken.ok().map(|_| self.cut)
    }

    pub(crate) fn arm(&self, times: u64) {
        self.left.store(times, Ordering::SeqCst);
    }

    pub(crate) fn cut_once(&self) {
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
}
