//! Places in the feed, across the generations of the store.

use std::fmt;
use std::str::FromStr;

use crate::StoreError;

/// The id of a generation. It is random: a backup that is restored does not know the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub u128);

/// The place of an event in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The generation in which it was shown.
    pub generation: Generation,
    /// Its number.
    pub seq: i64,
}

/// Where a page of the feed begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event.
    #[default]
    Oldest,
    /// After the newest event that can be shown: the page is empty.
    Newest,
    /// After an event that was shown.
    After(Cursor),
}

/// A text that is no cursor of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor of the feed")]
pub struct InvalidCursor;

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}-{:x}", self.generation, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (generation, seq) = text.strip_prefix('f').and_then(|rest| rest.split_once('-')).ok_or(InvalidCursor)?;
        if generation.len() != 32 || !is_hex(generation) || !is_hex(seq) {
            return Err(InvalidCursor);
        }
        let generation = u128::from_str_radix(generation, 16).map_err(|_| InvalidCursor)?;
        let seq = i64::from_str_radix(seq, 16).map_err(|_| InvalidCursor)?;
        Ok(Self { generation: Generation(generation), seq })
    }
}

/// The generations that a store knows, the first one first, each with the last number of the one before it.
pub(crate) struct Generations(Vec<(Generation, i64)>);

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// After this number.
    pub after: i64,
    /// Whether events that were shown after it may come again.
    pub repeats: bool,
}

/// Before every number.
const BEGINNING: i64 = 0;

impl Generations {
    /// Makes the list from its rows.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(rows: Vec<(Generation, i64)>) -> Result<Self, StoreError> {
        if rows.is_empty() {
            return Err(StoreError::Failed("the table feed_generations is empty".into()));
        }
        Ok(Self(rows))
    }

    /// Returns the present one.
    pub fn current(&self) -> Generation {
        self.0.last().map_or(Generation(0), |(generation, _)| *generation)
    }

    /// Returns whether a cursor of the present generation is beyond the last number that the store has given: the store has
    /// lost commits, and does not know it yet.
    pub fn is_beyond(&self, cursor: Cursor, last: i64) -> bool {
        cursor.generation == self.current() && cursor.seq > last
    }

    /// Returns where a page begins; `None` is after the newest event. `last` is the last number that the store has given.
    ///
    /// A cursor beyond that is of a later state, and one of an unknown generation is of another history. Nobody knows where
    /// these part from what is stored, so the feed begins anew.
    pub fn place(&self, start: Start, last: i64) -> Option<Place> {
        let cursor = match start {
            Start::Newest => return None,
            Start::Oldest => return Some(Place { after: BEGINNING, repeats: false }),
            Start::After(cursor) => cursor,
        };
        let known = self.0.iter().position(|(generation, _)| *generation == cursor.generation);
        let later = known.and_then(|at| self.0.get(at + 1..)).unwrap_or_default();
        Some(match (known, later.iter().map(|(_, from)| *from).min()) {
            (Some(_), Some(from)) => Place { after: cursor.seq.min(from), repeats: true },
            (Some(_), None) if cursor.seq <= last => Place { after: cursor.seq, repeats: false },
            _ => Place { after: BEGINNING, repeats: true },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(generation: u128, seq: i64) -> Cursor {
        Cursor { generation: Generation(generation), seq }
    }

    #[test]
    fn a_cursor_is_read_back() {
        for cursor in [cursor(0, 0), cursor(u128::MAX, i64::MAX), cursor(7, 1 << 40)] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let good = cursor(7, 255).to_string();
        for text in
            ["", "f", "s1", "f-", &good[1..], &good.replace('-', ""), &format!("{good}g"), &good.replace("-", "-+")]
        {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text:?}");
        }
    }

    #[test]
    fn a_cursor_of_a_former_generation_goes_on_where_the_histories_part() {
        let rows = vec![(Generation(1), 0), (Generation(2), 50), (Generation(3), 40), (Generation(4), 90)];
        let generations = Generations::new(rows).unwrap();
        let place = |generation, seq| generations.place(Start::After(cursor(generation, seq)), 100).unwrap();
        let at = |after, repeats| Place { after, repeats };
        assert_eq!(generations.current(), Generation(4));
        assert_eq!(place(4, 95), at(95, false));
        assert_eq!(place(3, 95), at(90, true));
        assert_eq!(place(3, 60), at(60, true));
        // Between them there was a generation that parted earlier.
        assert_eq!(place(1, 95), at(40, true));
        assert_eq!(place(2, 10), at(10, true));
    }

    #[test]
    fn a_cursor_of_another_history_or_of_a_later_state_begins_anew() {
        let generations = Generations::new(vec![(Generation(1), 0)]).unwrap();
        let anew = Some(Place { after: 0, repeats: true });
        assert_eq!(generations.place(Start::After(cursor(9, 5)), 100), anew);
        assert_eq!(generations.place(Start::After(cursor(1, 101)), 100), anew);
        assert_eq!(generations.place(Start::After(cursor(1, 100)), 100), Some(Place { after: 100, repeats: false }));
        assert_eq!(generations.place(Start::Newest, 100), None);
    }
}
