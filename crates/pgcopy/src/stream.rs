//! Splits a stream into smaller ones.

use std::ops::Range;

use crate::{HEADER, SIGNATURE, TRAILER};

/// Why a stream cannot be split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The stream does not begin with the signature.
    #[error("not in the binary COPY format")]
    NotBinaryCopy,
    /// The stream ends within a row.
    #[error("the stream ends within a row")]
    Truncated,
}

/// Splits a stream into streams of up to `size` rows, each complete, and returns them with the number
/// of rows.
///
/// # Errors
/// When `stream` is not in the format or ends within a row.
pub fn batches(stream: &[u8], size: usize) -> Result<(Vec<Vec<u8>>, usize), SplitError> {
    let rows = rows(stream)?;
    let batch = |rows: &[Range<usize>]| -> Vec<u8> {
        let (first, last) = (rows.first().map_or(0, |row| row.start), rows.last().map_or(0, |row| row.end));
        [HEADER, &stream[first..last], &TRAILER].concat()
    };
    Ok((rows.chunks(size).map(batch).collect(), rows.len()))
}

/// Returns the byte range of each row.
fn rows(stream: &[u8]) -> Result<Vec<Range<usize>>, SplitError> {
    if !stream.starts_with(SIGNATURE) {
        return Err(SplitError::NotBinaryCopy);
    }
    let extension = number::<4>(stream, SIGNATURE.len() + 4)?;
    let mut at =
        HEADER.len() + usize::try_from(i32::from_be_bytes(extension)).map_err(|_| SplitError::NotBinaryCopy)?;
    let mut rows = Vec::new();
    loop {
        let start = at;
        let fields = i16::from_be_bytes(number::<2>(stream, at)?);
        at += 2;
        if fields < 0 {
            return Ok(rows);
        }
        for _ in 0..fields {
            let length = i32::from_be_bytes(number::<4>(stream, at)?);
            at += 4 + usize::try_from(length).unwrap_or(0);
        }
        rows.push(start..at);
    }
}

fn number<const N: usize>(stream: &[u8], at: usize) -> Result<[u8; N], SplitError> {
    stream.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(SplitError::Truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
        let mut out = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            out.extend(field.map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
            out.extend(field.unwrap_or_default());
        }
        out
    }

    #[test]
    fn rows_are_cut_at_their_ends_and_each_batch_is_a_stream_of_its_own() {
        let rows = [row(&[Some(b"a"), None]), row(&[Some(b"\xff\xff"), Some(b"")]), row(&[None, Some(b"ccc")])];
        let stream = [HEADER, &rows.concat(), &TRAILER].concat();
        let (batches, count) = batches(&stream, 2).unwrap();
        assert_eq!(count, 3);
        assert_eq!(batches[0], [HEADER, &rows[0], &rows[1], &TRAILER].concat());
        assert_eq!(batches[1], [HEADER, &rows[2], &TRAILER].concat());
        assert_eq!(batches.len(), 2);
    }

    #[test]
    fn a_stream_that_breaks_off_is_an_error() {
        let stream = [HEADER, &row(&[Some(b"abc")]), &TRAILER].concat();
        for length in 0..stream.len() {
            assert!(batches(&stream[..length], 2).is_err(), "cut after {length} bytes");
        }
    }
}
