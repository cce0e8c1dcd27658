//! A process of the simulated system, seen from outside: it runs, it is frozen, or it is dead.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::world::lock;

/// One process. A restart is another one with the same name.
pub struct Process {
    /// Its name in the trace: that of its pod and the number of the process.
    pub label: String,
    life: Mutex<Life>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Frozen,
    Dead,
}

impl Process {
    /// Starts a process of this pod.
    pub fn new(pod: &str, number: u32) -> Self {
        Self { label: format!("{pod}#{number}"), life: Mutex::new(Life::Running), changed: Notify::new() }
    }

    /// Stops it where it is, until [`Process::thaw`]. It sends nothing and receives nothing meanwhile.
    pub fn freeze(&self) {
        self.change(Life::Running, Life::Frozen);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.change(Life::Frozen, Life::Running);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        *lock(&self.life) = Life::Dead;
        self.changed.notify_waiters();
    }

    /// Returns at once while it runs, waits while it is frozen, and never returns when it is dead.
    pub async fn running(&self) {
        self.until(|life| life == Life::Running).await;
    }

    /// Waits until it is killed.
    pub async fn died(&self) {
        self.until(|life| life == Life::Dead).await;
    }

    fn change(&self, from: Life, to: Life) {
        let mut life = lock(&self.life);
        if *life == from {
            *life = to;
            self.changed.notify_waiters();
        }
    }

    async fn until(&self, reached: impl Fn(Life) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(*lock(&self.life)) {
                return;
            }
            changed.await;
        }
    }
}
