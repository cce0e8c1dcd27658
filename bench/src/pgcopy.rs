//! PostgreSQL's binary COPY format, as far as rows have to be cut out of it and put together anew.
//!
//! ```text
//! signature: 11 bytes · flags: 4 · length of the extension: 4 · extension · row* · 0xFFFF
//! row = number of fields: i16 · (length: i32, -1 for null · bytes)*
//! ```

use std::ops::Range;

use anyhow::{Context, ensure};
use sqlx::PgConnection;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = [0xff, 0xff];

/// All that a `COPY … TO STDOUT (FORMAT binary)` answers.
pub async fn read(connection: &mut PgConnection, statement: &str) -> anyhow::Result<Vec<u8>> {
    let mut chunks = connection.copy_out_raw(statement).await?;
    let mut all = Vec::new();
    while let Some(chunk) = std::future::poll_fn(|cx| chunks.as_mut().poll_next(cx)).await {
        all.extend_from_slice(&chunk?);
    }
    Ok(all)
}

/// One `COPY … FROM STDIN (FORMAT binary)`, committed when it returns.
pub async fn write(connection: &mut PgConnection, statement: &str, batch: &[u8]) -> anyhow::Result<()> {
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(batch).await?;
    copy.finish().await?;
    Ok(())
}

/// Cuts what was read into streams of up to `size` rows, each complete; answers the number of rows.
pub fn batches(stream: &[u8], size: usize) -> anyhow::Result<(Vec<Vec<u8>>, usize)> {
    let rows = rows(stream)?;
    let batch = |rows: &[Range<usize>]| -> Vec<u8> {
        let (first, last) = (rows.first().map_or(0, |row| row.start), rows.last().map_or(0, |row| row.end));
        [HEADER, &stream[first..last], &TRAILER].concat()
    };
    Ok((rows.chunks(size).map(batch).collect(), rows.len()))
}

/// Where each row stands.
fn rows(stream: &[u8]) -> anyhow::Result<Vec<Range<usize>>> {
    ensure!(stream.starts_with(SIGNATURE), "not in the binary COPY format");
    let extension = number::<4>(stream, SIGNATURE.len() + 4)?;
    let mut at = HEADER.len() + usize::try_from(i32::from_be_bytes(extension))?;
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

fn number<const N: usize>(stream: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let bytes = stream.get(at..at + N).context("the stream ends within a row")?;
    Ok(bytes.try_into()?)
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
