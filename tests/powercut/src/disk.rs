//! A disk with a power switch.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::io::Errno;

use crate::Loss;
use crate::tree::{Inode, Tree};

/// A disk that several threads use.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    power: Power,
    tree: Tree,
    /// Names of files whose sync is answered and not done.
    unsynced: BTreeSet<OsString>,
    /// Names of files whose writes and syncs wait.
    held: BTreeSet<OsString>,
    /// Names of files whose syncs wait.
    sync_held: BTreeSet<OsString>,
    /// Whether a sync waits because of `sync_held`.
    sync_waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// Nothing is changed any more, and no request is answered.
    Cut,
    /// Every request fails.
    Gone,
}

impl Disk {
    /// Returns an empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State {
            power: Power::On,
            tree: Tree::new(seed),
            unsynced: BTreeSet::new(),
            held: BTreeSet::new(),
            sync_held: BTreeSet::new(),
            sync_waits: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Answers a request, unless the power is cut: then it waits, and fails when the disk is gone.
    pub fn request<T>(&self, answer: impl FnOnce(&mut Tree) -> Result<T, Errno>) -> Result<T, Errno> {
        answer(&mut self.powered(|_| false)?.tree)
    }

    /// Answers a write, which waits while the file is held.
    pub fn write(&self, inode: Inode, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut state = self.powered(|state| is_one_of(&state.held, &state.tree, inode))?;
        state.tree.write(inode, offset, bytes)
    }

    /// Answers `fsync` or `fdatasync`.
    pub fn sync(&self, inode: Inode) -> Result<(), Errno> {
        let sync_held = |state: &State| is_one_of(&state.sync_held, &state.tree, inode);
        let mut state = self.lock();
        let waits = sync_held(&state);
        state.sync_waits |= waits;
        drop(state);
        let mut state = self.powered(|state| sync_held(state) || is_one_of(&state.held, &state.tree, inode))?;
        if is_one_of(&state.unsynced, &state.tree, inode) {
            return Ok(());
        }
        state.tree.sync(inode)
    }

    fn powered(&self, waits: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.lock();
        let blocked = |state: &mut State| state.power == Power::Cut || (state.power == Power::On && waits(state));
        let state = self.changed.wait_while(state, blocked).expect("no request panics");
        if state.power == Power::Gone { Err(Errno::IO) } else { Ok(state) }
    }

    /// Makes everything durable, as it is long after the last change.
    pub fn sync_all(&self) {
        self.lock().tree.sync_all();
    }

    /// Answers a sync of files of this name without doing it, as a program would cause it that does not ask.
    pub fn ignore_sync(&self, name: &str) {
        self.lock().unsynced.insert(name.into());
    }

    /// Lets writes to files of this name, and their syncs, wait until the power cut.
    pub fn hold(&self, name: &str) {
        self.lock().held.insert(name.into());
    }

    /// Lets syncs of files of this name wait until the power cut.
    pub fn hold_syncs(&self, name: &str) {
        self.lock().sync_held.insert(name.into());
    }

    /// Returns whether a sync waits because of [`Disk::hold_syncs`].
    pub fn sync_waits(&self) -> bool {
        self.lock().sync_waits
    }

    /// Cuts the power: from now on nothing changes, and requests are not answered. Whoever waits for an answer must
    /// be killed before [`Disk::fail`], so that nobody sees an answer that a power cut would not give.
    pub fn cut(&self) {
        self.lock().power = Power::Cut;
    }

    /// Lets the requests fail that wait, and all that follow.
    pub fn fail(&self) {
        self.lock().power = Power::Gone;
        self.changed.notify_all();
    }

    /// Returns the power, with what is left on the disk. Nothing is held then.
    pub fn restore(&self, loss: Loss, seed: u64) {
        let mut state = self.lock();
        let tree = std::mem::replace(&mut state.tree, Tree::new(seed));
        state.tree = tree.after_cut(loss, seed);
        state.held.clear();
        state.sync_held.clear();
        state.sync_waits = false;
        state.power = Power::On;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request panics")
    }
}

fn is_one_of(names: &BTreeSet<OsString>, tree: &Tree, inode: Inode) -> bool {
    !names.is_empty() && tree.node(inode).is_ok_and(|node| names.contains(&node.name))
}
