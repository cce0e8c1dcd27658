//! Finds damage in a write-ahead log of SQLite. At the first frame whose checksum is wrong SQLite takes the log for
//! ended, because a power cut may tear what was not synced yet. So a damaged frame would silently take back all
//! transactions from there on.
//!
//! A transaction is synced before the next one is written (synchronous FULL). If a complete commit is followed by a
//! frame of the next transaction, everything before that frame was on the disk: a frame that is wrong there is damaged.
//! In the last transaction damage cannot be told from a power cut.
//!
//! The format is part of SQLite's documentation ("Database File Format", section 4). The checksum of a frame goes on
//! from that of the frame before, so that a frame can be compared although an earlier one is damaged.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// The first four bytes; with the last bit set, checksums are over big-endian numbers.
const MAGIC: u32 = 0x377f_0682;

type Checksum = (u32, u32);

/// Returns the number of the first damaged frame, from 1, or 0 for the header; `None` if nothing is known to be damaged.
pub(super) fn find_damage(database: &Path, wal: &Path) -> io::Result<Option<u64>> {
    let Some(page_size) = page_size(database)? else { return Ok(None) };
    let mut file = BufReader::with_capacity(1 << 20, File::open(wal)?);
    let mut header = [0; HEADER];
    let mut frame = vec![0; FRAME_HEADER + page_size];
    if !read_whole(&mut file, &mut header)? || !read_whole(&mut file, &mut frame)? {
        return Ok(None);
    }
    let is_big_endian = match number(&header, 0) ^ MAGIC {
        bit @ 0..=1 => bit == 1,
        _ => cfg!(target_endian = "big"),
    };
    let mut before = (number(&header, 24), number(&header, 28));
    let header_is_right = number(&header, 0) & !1 == MAGIC && add((0, 0), &header[..24], is_big_endian) == before;
    // Those of the first frame, if the header is wrong.
    let salts = if header_is_right { &header[16..24] } else { &frame[8..16] }.to_vec();
    let (mut first_wrong, mut follows_commit) = ((!header_is_right).then_some(0), false);
    for count in 1.. {
        let stored = (number(&frame, 16), number(&frame, 20));
        let computed = add(add(before, &frame[..8], is_big_endian), &frame[FRAME_HEADER..], is_big_endian);
        let is_right = frame[8..16] == salts && stored == computed;
        if is_right && follows_commit && first_wrong.is_some() {
            return Ok(first_wrong);
        }
        if !is_right && first_wrong.is_none() {
            first_wrong = Some(count);
        }
        // The number of pages of the database, in the last frame of a transaction.
        follows_commit = is_right && number(&frame, 4) != 0;
        before = stored;
        if !read_whole(&mut file, &mut frame)? {
            break;
        }
    }
    Ok(None)
}

/// Returns the size of the pages of a database file; `None` if its header is damaged or not there.
fn page_size(database: &Path) -> io::Result<Option<usize>> {
    let mut header = [0; 18];
    if !read_whole(&mut File::open(database)?, &mut header)? {
        return Ok(None);
    }
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    Ok((size.is_power_of_two() && size >= 512).then_some(size))
}

/// Fills the buffer; returns false if the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the number at an offset of a header, big endian.
fn number(header: &[u8], at: usize) -> u32 {
    header[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Continues a checksum over more bytes.
fn add((mut first, mut second): Checksum, bytes: &[u8], is_big_endian: bool) -> Checksum {
    for pair in bytes.as_chunks::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *pair;
        let (x, y) = ([a, b, c, d], [e, f, g, h]);
        let (x, y) = if is_big_endian {
            (u32::from_be_bytes(x), u32::from_be_bytes(y))
        } else {
            (u32::from_le_bytes(x), u32::from_le_bytes(y))
        };
        first = first.wrapping_add(x).wrapping_add(second);
        second = second.wrapping_add(y).wrapping_add(first);
    }
    (first, second)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
    use sqlx::{ConnectOptions, Executor};

    use super::*;

    /// Writes a log of three transactions, of which the second has many frames. Returns its bytes.
    async fn written(folder: &Path) -> Vec<u8> {
        let file = folder.join("db");
        let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true).page_size(512);
        let mut connection = options.journal_mode(SqliteJournalMode::Wal).connect().await.unwrap();
        connection.execute("CREATE TABLE t (x)").await.unwrap();
        connection.execute("INSERT INTO t SELECT randomblob(2000) FROM (VALUES (1), (2))").await.unwrap();
        connection.execute("INSERT INTO t VALUES (1)").await.unwrap();
        // Read while it is open: it is removed when the file is closed.
        fs::read(folder.join("db-wal")).unwrap()
    }

    fn found(folder: &Path, wal: &[u8]) -> Option<u64> {
        let file = folder.join("copy");
        fs::write(&file, wal).unwrap();
        find_damage(&folder.join("db"), &file).unwrap()
    }

    #[tokio::test]
    async fn a_byte_that_changed_before_the_last_transaction_is_found_and_a_torn_end_is_not_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let wal = written(folder).await;
        let size = FRAME_HEADER + 512;
        let frames = (wal.len() - HEADER) / size;
        let is_commit = |frame: usize| number(&wal, HEADER + frame * size + 4) != 0;
        assert!(frames > 10 && is_commit(frames - 1), "{frames} frames");

        assert_eq!(found(folder, &wal), None);
        for length in (0..wal.len()).step_by(97) {
            assert_eq!(found(folder, &wal[..length]), None, "cut to {length} bytes");
        }
        for at in 0..HEADER {
            let mut damaged = wal.clone();
            damaged[at] ^= 0x10;
            assert_eq!(found(folder, &damaged), Some(0), "byte {at} of the header");
        }
        for at in HEADER..wal.len() {
            let (frame, byte) = ((at - HEADER) / size, (at - HEADER) % size);
            // Every byte of a frame's header, and some of its page.
            if byte >= FRAME_HEADER && !at.is_multiple_of(61) {
                continue;
            }
            let mut damaged = wal.clone();
            damaged[at] ^= 0x10;
            // The next frame goes on from the checksum of this one.
            let is_wrong = |other| other == frame || (other == frame + 1 && (16..24).contains(&byte));
            let is_known = |commit| is_commit(commit) && !is_wrong(commit) && !is_wrong(commit + 1);
            let expected = (frame..frames - 1).any(is_known).then_some(frame as u64 + 1);
            assert_eq!(found(folder, &damaged), expected, "byte {byte} of frame {frame}");
        }
    }

    #[tokio::test]
    async fn frames_that_a_transaction_left_when_it_was_rolled_back_are_not_taken_for_damage() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let options = SqliteConnectOptions::new().filename(folder.join("db")).create_if_missing(true).page_size(512);
        let options = options.journal_mode(SqliteJournalMode::Wal).pragma("cache_size", "10");
        let mut connection = options.connect().await.unwrap();
        connection.execute("CREATE TABLE t (x)").await.unwrap();
        connection.execute("BEGIN").await.unwrap();
        let many = "INSERT INTO t SELECT randomblob(2000) FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9))";
        connection.execute(many).await.unwrap();
        connection.execute("ROLLBACK").await.unwrap();
        let left = fs::metadata(folder.join("db-wal")).unwrap().len();
        connection.execute("INSERT INTO t VALUES (1)").await.unwrap();
        connection.execute("INSERT INTO t VALUES (2)").await.unwrap();
        let wal = fs::read(folder.join("db-wal")).unwrap();
        assert_eq!(wal.len() as u64, left, "frames of the first transaction are behind those of the last one");
        assert_eq!(found(folder, &wal), None);
    }
}
