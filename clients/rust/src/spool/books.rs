//! What the writer, the reader and the acknowledgments of a spool share: which segments there are, and what is left in them.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use super::files::{self, ACKS, SEGMENT, path};
use super::format::{HEADER, ack};
use super::recover;

/// The books of one directory.
#[derive(Debug)]
pub(super) struct Books {
    dir: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
    /// Wakes the writer when something was removed, or could be.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<u64, Segment>,
    /// The segment that is written.
    active: Option<u64>,
    /// Bytes of all segments.
    bytes: u64,
    /// Bytes of dead letters and of what is damaged.
    aside: u64,
    /// Places that were found damaged.
    damaged: u64,
}

#[derive(Debug)]
struct Segment {
    /// Where the last frame ends that is synced.
    end: u64,
    /// Frames that are not acknowledged.
    left: u64,
    acks: Option<File>,
}

/// What a spool takes on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) segments: u64,
    pub(crate) aside: u64,
    pub(crate) damaged: u64,
}

impl Books {
    pub(super) fn new(dir: PathBuf, max_bytes: u64, found: &[recover::Segment], aside: u64, damaged: u64) -> Self {
        let segment =
            |found: &recover::Segment| (found.number, Segment { end: found.bytes, left: found.frames, acks: None });
        let bytes = found.iter().map(|segment| segment.bytes).sum();
        let segments = found.iter().map(segment).collect();
        let state = Mutex::new(State { segments, active: None, bytes, aside, damaged });
        Self { dir, max_bytes, state, freed: Notify::new() }
    }

    pub(super) fn freed(&self) -> &Notify {
        &self.freed
    }

    pub(super) fn usage(&self) -> Usage {
        let State { bytes, aside, damaged, .. } = *self.state();
        Usage { segments: bytes, aside, damaged }
    }

    /// Whether so many bytes more are within the bound, after the segment that is written was removed if it has nothing left.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let mut state = self.state();
        let is_within = |state: &State| state.bytes + state.aside + bytes <= self.max_bytes;
        if !is_within(&state)
            && let Some(active) = state.active
        {
            let has_frames = state.segments.get(&active).is_some_and(|segment| segment.end > HEADER.len() as u64);
            if has_frames && self.remove_if_done(&mut state, active) {
                state.active = None;
            }
        }
        is_within(&state)
    }

    pub(super) fn is_active(&self, segment: u64) -> bool {
        self.state().active == Some(segment)
    }

    /// Notes a new segment, which is written from now on. The one before is removed if it has nothing left.
    pub(super) fn begin(&self, number: u64) {
        self.end_active();
        let mut state = self.state();
        let end = HEADER.len() as u64;
        state.bytes += end;
        state.segments.insert(number, Segment { end, left: 0, acks: None });
        state.active = Some(number);
    }

    /// Notes that no segment is written any more.
    pub(super) fn end_active(&self) {
        let mut state = self.state();
        if let Some(active) = state.active.take() {
            self.remove_if_done(&mut state, active);
        }
    }

    /// Notes a frame that is synced, up to this end of its segment. From now on it is read.
    pub(super) fn add(&self, number: u64, end: u64) {
        let mut state = self.state();
        let State { segments, bytes, .. } = &mut *state;
        if let Some(segment) = segments.get_mut(&number) {
            *bytes += end - segment.end;
            segment.end = end;
            segment.left += 1;
        }
    }

    /// Remembers that a frame need not be sent any more.
    pub(super) fn acknowledge(&self, number: u64, key: Uuid) {
        let mut state = self.state();
        let Some(segment) = state.segments.get_mut(&number) else { return };
        if let Err(error) = segment.write(&self.dir, number, key) {
            // Then it is sent again after a restart, under its key.
            tracing::warn!(%error, "an acknowledgment cannot be written to the spool");
        }
        segment.left = segment.left.saturating_sub(1);
        if segment.left == 0 {
            if state.active != Some(number) {
                self.remove_if_done(&mut state, number);
            }
            self.freed.notify_waiters();
        }
    }

    /// Notes how many bytes only people remove.
    pub(super) fn set_aside(&self, bytes: u64) {
        self.state().aside = bytes;
    }

    /// Notes that a segment cannot be read any further. It is not written any more, and stays until it is opened again.
    pub(super) fn is_damaged(&self, number: u64) {
        let mut state = self.state();
        state.damaged += 1;
        if state.active == Some(number) {
            state.active = None;
        }
    }

    /// Returns where a segment ends, and whether it is not written any more; `None` when it is removed.
    pub(super) fn extent(&self, number: u64) -> Option<(u64, bool)> {
        let state = self.state();
        Some((state.segments.get(&number)?.end, state.active != Some(number)))
    }

    /// Returns the first segment behind this one.
    pub(super) fn after(&self, number: u64) -> Option<u64> {
        self.state().segments.range(number + 1..).next().map(|(number, _)| *number)
    }

    /// Removes a segment of which every frame is acknowledged, and returns whether it did.
    fn remove_if_done(&self, state: &mut State, number: u64) -> bool {
        let Some(segment) = state.segments.get(&number).filter(|segment| segment.left == 0) else { return false };
        state.bytes -= segment.end;
        state.segments.remove(&number);
        // The segment first: without its acknowledgments all of it would be sent again.
        for extension in [SEGMENT, ACKS] {
            let file = path(&self.dir, number, extension);
            if let Err(error) = files::remove(&file) {
                tracing::warn!(file = %file.display(), %error, "a file of the spool cannot be removed");
            }
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Segment {
    fn write(&mut self, dir: &std::path::Path, number: u64, key: Uuid) -> io::Result<()> {
        let file = match &mut self.acks {
            Some(file) => file,
            None => {
                let opened = OpenOptions::new().create(true).append(true).open(path(dir, number, ACKS))?;
                self.acks.insert(opened)
            }
        };
        file.write_all(&ack(key))
    }
}
