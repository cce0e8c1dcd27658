//! The format of the files of a spool. Numbers are little-endian.
//!
//! A **segment**, `0000000000000001.segment`, is a header and frames. It is written at its end only.
//!
//! ```text
//! header   7 bytes  "SLSPOOL"
//!          1 byte   version: 1
//!
//! frame    4 bytes  "FRAM"
//!          4 bytes  length of the body, at least 1
//!         16 bytes  the Idempotency-Key of the request: a UUID
//!          4 bytes  CRC-32 of the body
//!          4 bytes  CRC-32 of the 28 bytes before
//!          …        the body of the request: an event on each line, each of which ends with a line feed
//! ```
//!
//! A frame is one request, so the identical body is repeated under the identical key. Because its header has a checksum of
//! its own, a frame whose end is missing can be told from one that is damaged.
//!
//! The **acknowledgments** of a segment, `0000000000000001.acks`, name the frames that need not be sent any more.
//!
//! ```text
//! record  16 bytes  the key of the frame
//!          4 bytes  CRC-32 of the 16 bytes before
//! ```
//!
//! They are not synced. A record that is lost or damaged only means that a frame is sent again under its key.

use std::collections::HashSet;

use uuid::Uuid;

/// The version that is written. A change of the format needs another one.
pub(super) const VERSION: u8 = 1;
/// The start of a segment.
pub(super) const HEADER: [u8; 8] = [b'S', b'L', b'S', b'P', b'O', b'O', b'L', VERSION];
/// The length of a frame without its body.
pub(super) const FRAME_HEADER: usize = 32;

const MARK: [u8; 4] = *b"FRAM";
const ACK: usize = 20;

/// A frame at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<'b> {
    Frame(Frame<'b>),
    /// The bytes end before the frame does.
    Incomplete,
    /// These bytes were not written like this.
    Damaged,
}

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'b> {
    pub(super) key: Uuid,
    pub(super) body: &'b [u8],
}

impl Frame<'_> {
    pub(super) fn events(&self) -> u64 {
        self.body.iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Returns its length with its header.
    pub(super) fn len(&self) -> usize {
        FRAME_HEADER + self.body.len()
    }
}

/// Returns a request as a frame; `None` if its body is longer than the format has numbers for.
pub(super) fn frame(key: Uuid, body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok()?;
    let mut bytes = Vec::with_capacity(FRAME_HEADER + body.len());
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// Reads the header of a frame: its key, the length of its body, and the checksum of that. `None` if it is damaged.
pub(super) fn frame_header(bytes: &[u8; FRAME_HEADER]) -> Option<(Uuid, usize, u32)> {
    let (header, checksum) = bytes.split_last_chunk::<4>()?;
    if header[..4] != MARK || crc32fast::hash(header) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let length = u32::from_le_bytes(*header[4..].first_chunk()?);
    let key = Uuid::from_bytes(*header[8..].first_chunk()?);
    let body_checksum = u32::from_le_bytes(*header[24..].first_chunk()?);
    (length > 0).then_some((key, length as usize, body_checksum))
}

/// Reads the frame at the start of `bytes`, which must not be empty.
pub(super) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
        let start = bytes.len().min(MARK.len());
        return if bytes[..start] == MARK[..start] { Parsed::Incomplete } else { Parsed::Damaged };
    };
    let Some((key, length, checksum)) = frame_header(header) else { return Parsed::Damaged };
    match rest.get(..length) {
        None => Parsed::Incomplete,
        Some(body) if crc32fast::hash(body) == checksum => Parsed::Frame(Frame { key, body }),
        Some(_) => Parsed::Damaged,
    }
}

/// Returns where the next whole frame begins, behind the start of `bytes`.
pub(super) fn next_frame(bytes: &[u8]) -> Option<usize> {
    let places = (1..bytes.len()).filter(|at| bytes[*at..].starts_with(&MARK));
    places.into_iter().find(|at| matches!(parse(&bytes[*at..]), Parsed::Frame(_)))
}

/// Returns the record that acknowledges a frame.
pub(super) fn ack(key: Uuid) -> [u8; ACK] {
    let mut record = [0; ACK];
    record[..16].copy_from_slice(key.as_bytes());
    record[16..].copy_from_slice(&crc32fast::hash(key.as_bytes()).to_le_bytes());
    record
}

/// Returns the keys that are acknowledged by these records.
pub(super) fn acks(bytes: &[u8]) -> HashSet<Uuid> {
    let records =
        bytes.chunks_exact(ACK).filter_map(|record| Some(Uuid::from_bytes(*record.first_chunk()?)).zip(Some(record)));
    records.filter(|(key, record)| ack(*key) == **record).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_format_is_as_it_was() {
        // What is on disks: if this test fails, the version must change, and older versions must still be read.
        assert_eq!(hex(&HEADER), "534c53504f4f4c01");
        assert_eq!(
            hex(&frame(KEY, b"1\n").unwrap()),
            "4652414d0200000000112233445566778899aabbccddeeff53fc5167423cfe5c310a"
        );
        assert_eq!(hex(&ack(KEY)), "00112233445566778899aabbccddeeff9b750784");
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut bytes = frame(KEY, b"1\n22\n").unwrap();
        bytes.extend_from_slice(b"what follows");
        let Parsed::Frame(read) = parse(&bytes) else { panic!("{:?}", parse(&bytes)) };
        assert_eq!((read.key, read.body, read.events(), read.len()), (KEY, &b"1\n22\n"[..], 2, 37));
    }

    #[test]
    fn a_frame_without_its_end_is_incomplete_at_every_length() {
        let bytes = frame(KEY, b"1\n22\n").unwrap();
        for length in 1..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Parsed::Incomplete, "{length}");
        }
    }

    #[test]
    fn a_change_of_any_byte_is_noticed_and_the_frame_behind_it_is_found() {
        let first = frame(KEY, b"1\n22\n").unwrap();
        let both = [first.clone(), frame(Uuid::max(), b"3\n").unwrap()].concat();
        for at in 0..first.len() {
            let mut changed = both.clone();
            changed[at] ^= 1;
            assert_eq!(parse(&changed), Parsed::Damaged, "byte {at}");
            assert_eq!(next_frame(&changed), Some(first.len()), "byte {at}");
        }
    }

    #[test]
    fn acknowledgments_without_their_end_or_with_damage_are_passed_over() {
        let mut bytes = [ack(KEY), ack(Uuid::max()), ack(Uuid::nil())].concat();
        bytes[25] ^= 1;
        assert_eq!(acks(&bytes[..59]), HashSet::from([KEY]));
        assert_eq!(acks(&bytes), HashSet::from([KEY, Uuid::nil()]));
    }
}
