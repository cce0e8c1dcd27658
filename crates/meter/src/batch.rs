//! The content of the rows that a transaction writes for meters.
//!
//! A row is a version and then records one after another, each with a tag: a meter, a minute of it, and the figures of the groups
//! in this minute.

use serde::de::Deserialize;
use serde::ser::Serialize;

use crate::Damaged;
use crate::figure::Figure;
use crate::part::Part;

/// The version of the encoding.
const VERSION: u8 = 1;
/// The size at which a row ends, so that no batch has one that no database takes.
const ROW_BYTES: usize = 4 << 20;

const METER: u8 = 1;
const MINUTE: u8 = 2;
const FIGURE: u8 = 3;

/// A record of a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// Events that a meter has skipped, with an example.
    Skipped {
        /// The meter.
        meter: i64,
        /// How many; maybe none.
        events: u64,
        /// One of them.
        example: Option<&'a str>,
    },
    /// The figure of a group in a minute.
    Figure {
        /// The meter.
        meter: i64,
        /// The minute since 1970.
        minute: i64,
        /// The group ([`crate::group`]).
        group: &'a [u8],
        /// The figure.
        figure: Figure,
    },
}

/// Writes what meters have counted, in as many rows as it needs.
pub(crate) fn encode<'p>(parts: impl Iterator<Item = (i64, &'p Part)>) -> Vec<Vec<u8>> {
    let mut rows = Rows::default();
    for (meter, part) in parts {
        if part.skipped == 0 && part.windows.is_empty() {
            continue;
        }
        rows.begin_meter(meter, part.skipped, part.example.as_deref());
        for (minute, window) in &part.windows {
            rows.begin_minute(*minute);
            for (group, figure) in window.groups() {
                if rows.row.len() > ROW_BYTES {
                    rows.end();
                    rows.begin_meter(meter, 0, None);
                    rows.begin_minute(*minute);
                }
                rows.put(FIGURE, &(group, figure));
            }
        }
    }
    rows.end();
    rows.done
}

#[derive(Default)]
struct Rows {
    done: Vec<Vec<u8>>,
    row: Vec<u8>,
}

impl Rows {
    fn begin_meter(&mut self, meter: i64, skipped: u64, example: Option<&str>) {
        if self.row.is_empty() {
            self.row.push(VERSION);
        }
        self.put(METER, &(meter, skipped, example));
    }

    fn begin_minute(&mut self, minute: i64) {
        self.put(MINUTE, &minute);
    }

    fn put(&mut self, tag: u8, record: &impl Serialize) {
        self.row.push(tag);
        // Writing to a vector cannot fail.
        if let Ok(extended) = postcard::to_extend(record, std::mem::take(&mut self.row)) {
            self.row = extended;
        }
    }

    fn end(&mut self) {
        if !self.row.is_empty() {
            self.done.push(std::mem::take(&mut self.row));
        }
    }
}

/// Passes each record of a row to a function.
///
/// # Errors
/// [`Damaged`], or the error of the function.
pub fn records<'r, E: From<Damaged>>(
    row: &'r [u8],
    mut each: impl FnMut(Record<'r>) -> Result<(), E>,
) -> Result<(), E> {
    let Some((&VERSION, mut rest)) = row.split_first() else { return Err(Damaged.into()) };
    let (mut meter, mut minute) = (None, None);
    while let Some((tag, record)) = rest.split_first() {
        rest = match *tag {
            METER => {
                let ((id, events, example), rest) = take::<(i64, u64, Option<&str>)>(record)?;
                (meter, minute) = (Some(id), None);
                each(Record::Skipped { meter: id, events, example })?;
                rest
            }
            MINUTE => {
                let (begun, rest) = take::<i64>(record)?;
                minute = Some(begun);
                rest
            }
            FIGURE => {
                let ((group, figure), rest) = take::<(&[u8], Figure)>(record)?;
                let (meter, minute) = meter.zip(minute).ok_or(Damaged)?;
                each(Record::Figure { meter, minute, group, figure })?;
                rest
            }
            _ => return Err(Damaged.into()),
        };
    }
    Ok(())
}

fn take<'r, T: Deserialize<'r>>(record: &'r [u8]) -> Result<(T, &'r [u8]), Damaged> {
    Ok(postcard::take_from_bytes(record)?)
}
