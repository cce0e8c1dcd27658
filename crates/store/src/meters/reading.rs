//! Reads figures.

use sluice_meter::batch::{Record, records};
use sluice_meter::window::figures;
use sluice_meter::{Answer, AnswerLimit};

use super::fold::damaged;
use crate::StoreError;

/// Figures while they are being read.
pub(crate) struct Reading {
    /// The meter.
    pub meter: i64,
    /// The first minute and the one after the last.
    pub minutes: (i64, i64),
    /// What was read so far.
    pub answer: Answer,
}

/// Adds a window. Returns false if there would be too many figures.
pub(crate) fn add_window(reading: &mut Reading, start: i64, content: &[u8]) -> Result<bool, StoreError> {
    converted(figures(content, |group, figure| reading.answer.add(start, group, figure)))
}

/// Adds what a batch has written. Returns false if there would be too many figures.
pub(crate) fn add_batch(reading: &mut Reading, row: &[u8]) -> Result<bool, StoreError> {
    let (first, end) = reading.minutes;
    converted(records(row, |record| match record {
        Record::Figure { meter, minute, group, figure } if meter == reading.meter && (first..end).contains(&minute) => {
            reading.answer.add(minute, group, figure)
        }
        _ => Ok(()),
    }))
}

fn converted(added: Result<(), AnswerLimit>) -> Result<bool, StoreError> {
    match added {
        Ok(()) => Ok(true),
        Err(AnswerLimit::TooLarge) => Ok(false),
        Err(AnswerLimit::Damaged(error)) => Err(damaged(error)),
    }
}
