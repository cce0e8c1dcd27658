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
    /// The indexes of all events that have one, in any order.
    indexes: Vec<usize>,
    count: usize,
    whole: bool,
    depends_on_time: bool,
}

impl Faults {
    pub(super) fn push(&mut self, mut error: ParseError) {
        self.count += 1;
        self.indexes.extend(error.index);
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

    /// Returns the indexes of the events without a fault, of as many as a body has that is not refused as a whole.
    pub fn good_indexes(&self) -> impl Iterator<Item = usize> {
        let mut faulty = self.indexes.clone();
        faulty.sort_unstable();
        let mut faulty = faulty.into_iter().peekable();
        (0..).filter(move |index| faulty.next_if_eq(index).is_none())
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

#[cfg(test)]
mod tests {
    use crate::{Format, Limits, Timestamp, parse_all};

    #[test]
    fn the_events_of_a_refused_body_keep_their_indexes() {
        let event = |n: usize| if n % 3 == 1 { "{}".into() } else { format!(r#"{{"id":"{n}","payload":1}}"#) };
        let body = format!("[{}]", (0..400).map(event).collect::<Vec<_>>().join(","));
        for (body, format) in
            [(body.clone(), Format::Document), (body[1..body.len() - 1].replace("},{", "}\n{"), Format::Lines)]
        {
            let refused = parse_all(body.as_bytes(), format, &Limits::default(), Timestamp::now()).unwrap_err();
            let ids = refused.events.iter().map(|event| event.event_id.to_string());
            assert_eq!(refused.events.len(), 267);
            assert!(ids.eq(refused.faults.good_indexes().take(267).map(|index| index.to_string())));
        }
    }
}
