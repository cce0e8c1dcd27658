//! All faults of a body that is refused.

use super::error::{ErrorKind, ParseError};
use crate::Event;

/// Faults of which the texts are kept. Beyond them faults are only counted.
const MAX_KEPT: usize = 100;
/// Bytes of a message that is kept: it may quote a key of a payload.
const MAX_MESSAGE: usize = 200;

/// The faults of a body: at most one for each event, and at most one that concerns the whole body, with which the
/// reading ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    kept: Vec<ParseError>,
    count: usize,
    whole: bool,
    depends_on_time: bool,
}

impl Faults {
    pub(super) fn push(&mut self, mut error: ParseError) {
        self.count += 1;
        self.whole |= error.index.is_none();
        self.depends_on_time |= error.kind == ErrorKind::TimestampOutOfRange;
        if self.kept.len() < MAX_KEPT {
            if error.message.len() > MAX_MESSAGE {
                let end = error.message.floor_char_boundary(MAX_MESSAGE);
                error.message.truncate(end);
                error.message.push('…');
            }
            self.kept.push(error);
        }
    }

    /// Returns the first faults, at most a hundred.
    pub fn kept(&self) -> &[ParseError] {
        &self.kept
    }

    /// Returns how many faults were found.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns whether a fault concerns the whole body.
    pub fn concern_the_whole(&self) -> bool {
        self.whole
    }

    /// Returns whether another time of arrival could lead to other faults.
    pub fn depend_on_time(&self) -> bool {
        self.depends_on_time
    }
}

/// A body with faults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused<'a> {
    /// The first fault, which is also that of [`parse`](super::parse).
    pub first: ParseError,
    /// All faults, the first one included.
    pub faults: Faults,
    /// The events without a fault; none when a fault concerns the whole body.
    pub events: Vec<Event<'a>>,
}

impl<'a> Refused<'a> {
    /// Returns a body of which nothing can be used.
    pub(crate) fn whole(first: ParseError) -> Box<Self> {
        let mut faults = Faults::default();
        faults.push(first.clone());
        Self::new(first, faults, Vec::new())
    }

    pub(super) fn new(first: ParseError, faults: Faults, mut events: Vec<Event<'a>>) -> Box<Self> {
        if faults.whole {
            events.clear();
        }
        Box::new(Self { first, faults, events })
    }
}
