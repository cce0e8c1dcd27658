//! The form in which entries are stored: with a checksum, and mostly compressed. The stream stores each entry in memory
//! and twice on disk, and the JSON of its events is mostly alike, so it compresses well. Neither the append-only file of
//! Redis nor SQLite has checksums of its own: a byte that changes on the disk would otherwise be stored as an event.
//!
//! Version 3, around the rest of an entry of version 1 ([`crate::entry`]), which is all behind the entry id:
//!
//! ```text
//! version: 1 byte (3) · entry id: 16 bytes · length of the rest: 4 bytes, little endian; 0 if it is not compressed
//! · LZ4 block of the rest, or the rest · CRC-32 of all bytes before it: 4 bytes, little endian
//! ```
//!
//! The rest of an entry that is small, or would not become smaller, is not compressed. Versions 4 and 5 differ in the version
//! byte only. Readers also accept version 1, and version 2, which earlier builds wrote:
//!
//! ```text
//! version: 1 byte (2) · entry id: 16 bytes · length of the rest: 4 bytes, little endian · LZ4 block of the rest
//! ```

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::EntryId;
use crate::entry::{CHECKED, COMPRESSED, DecodeError, HEADER, PackedEntry, PackedRequest, TRACED, VERSION, put_entry};

/// Entries below this size, in bytes, are not compressed.
const MIN_BYTES: usize = 1024;
/// Bytes of the length after the header.
const LENGTH: usize = 4;
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;
/// LZ4 expands a byte to at most this many. It bounds the allocation for a corrupt length.
const MAX_EXPANSION: usize = 255;
/// The largest entry that is compressed, and so the most that is expanded, in bytes. Whoever can write to the stream
/// could otherwise make a reader allocate 4 GiB. An entry of the publisher has a quarter of a MiB, or is one
/// request; one beyond this size is not compressed.
pub const MAX_EXPANDED_BYTES: usize = 64 << 20;

/// Packs requests into one entry of version 3, of version 4 if the client of one of them waits, or of version 5 if one of them
/// is traced.
pub fn pack<'r>(id: EntryId, requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone) -> PackedEntry {
    Buffers::with(|Buffers { plain, block }| {
        plain.clear();
        let version = requests.clone().map(PackedRequest::version).max().unwrap_or(CHECKED);
        let events = put_entry(plain, id, requests);
        plain[0] = version;
        let (header, rest) = plain.split_at(HEADER);
        let body = match compress(rest, block) {
            Some((length, block)) => checked(header, length, block),
            None => checked(header, 0, rest),
        };
        PackedEntry { id, events, body }
    })
}

/// Packs requests into one entry of version 3 that is not compressed, so that whoever shows it need not bound what it
/// expands to.
pub fn pack_uncompressed<'r>(
    id: EntryId,
    requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone,
) -> PackedEntry {
    let mut plain = Vec::new();
    let events = put_entry(&mut plain, id, requests);
    plain[0] = CHECKED;
    let (header, rest) = plain.split_at(HEADER);
    PackedEntry { id, events, body: checked(header, 0, rest) }
}

/// Compresses the rest of an entry. Returns its length and the LZ4 block; `None` when the rest is small, would not
/// become smaller, or could not be expanded again.
fn compress<'b>(rest: &[u8], block: &'b mut Vec<u8>) -> Option<(u32, &'b [u8])> {
    if !(MIN_BYTES..=MAX_EXPANDED_BYTES).contains(&(HEADER + rest.len())) {
        return None;
    }
    let length = u32::try_from(rest.len()).ok()?;
    let max_size = lz4_flex::block::get_maximum_output_size(rest.len());
    if block.len() < max_size {
        block.resize(max_size, 0);
    }
    let written = lz4_flex::block::compress_into(rest, block).ok()?;
    (written < rest.len()).then(|| (length, &block[..written]))
}

/// Returns the body of an entry, with its checksum. The version is that of the header.
fn checked(header: &[u8], length: u32, content: &[u8]) -> Vec<u8> {
    // Allocated at its exact size, because the body stays in memory until the log has stored it.
    let mut body = Vec::with_capacity(HEADER + LENGTH + content.len() + CHECKSUM);
    body.extend_from_slice(header);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(content);
    let checksum = crc32fast::hash(&body);
    body.extend_from_slice(&checksum.to_le_bytes());
    body
}

/// The buffers in which entries are packed and compressed. They are reused: new memory of that size would
/// have to be zeroed for LZ4, and is not in the processor's cache.
#[derive(Default)]
struct Buffers {
    plain: Vec<u8>,
    block: Vec<u8>,
}

/// The buffers that are not in use at the moment.
static IDLE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());
/// At most this many are retained, which is enough for as many threads that pack at the same time.
const MAX_IDLE: usize = 4;
/// Larger buffers, in bytes, are freed instead of retained: few entries need them.
const MAX_RETAINED_BYTES: usize = 1 << 20;

impl Buffers {
    fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffers = idle().pop().unwrap_or_default();
        let done = work(&mut buffers);
        if buffers.plain.capacity().max(buffers.block.capacity()) <= MAX_RETAINED_BYTES {
            let mut idle = idle();
            if idle.len() < MAX_IDLE {
                idle.push(buffers);
            }
        }
        done
    }
}

/// Returns the number of bytes that [`expand`] makes of an entry, by its header and without expanding it. What cannot
/// be expanded, or is not compressed, counts as it is.
pub fn expanded_len(body: &[u8]) -> usize {
    let is_expanded = |(header, _): &(&[u8], &[u8])| matches!(header.first(), Some(COMPRESSED..=TRACED));
    let header = body.split_at_checked(HEADER).filter(is_expanded);
    let length = header.and_then(|(_, rest)| rest.split_first_chunk::<LENGTH>());
    let Some((length, block)) = length else { return body.len() };
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 || length > block.len().saturating_mul(MAX_EXPANSION) { body.len() } else { HEADER + length }
}

/// Returns the entry in the form that [`crate::entry::decode`] reads.
///
/// # Errors
/// [`DecodeError::Damaged`] when the checksum does not match, also if the version is unknown.
/// [`DecodeError::Corrupt`] when an entry without a checksum cannot be expanded. Another entry of an unknown version is
/// returned unchanged: `decode` refuses it.
pub fn expand(body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    match body.first() {
        None | Some(&VERSION) => Ok(Cow::Borrowed(body)),
        Some(&COMPRESSED) => expand_rest(body).map(Cow::Owned),
        Some(&version) => {
            let (content, checksum) = body.split_last_chunk::<CHECKSUM>().ok_or(DecodeError::Damaged)?;
            if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
                return Err(DecodeError::Damaged);
            }
            if matches!(version, CHECKED..=TRACED) {
                expand_rest(content).map(Cow::Owned)
            } else {
                Ok(Cow::Borrowed(body))
            }
        }
    }
}

/// Returns the entry with its rest expanded, from its body without the checksum.
fn expand_rest(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let corrupt = DecodeError::Corrupt;
    let (header, rest) = body.split_at_checked(HEADER).ok_or(corrupt("it is truncated"))?;
    let (length, block) = rest.split_first_chunk::<LENGTH>().ok_or(corrupt("it is truncated"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length == 0 && header[0] != COMPRESSED {
        let mut plain = Vec::with_capacity(HEADER + block.len());
        plain.extend_from_slice(header);
        plain.extend_from_slice(block);
        plain[0] = VERSION;
        return Ok(plain);
    }
    if length > block.len().saturating_mul(MAX_EXPANSION) {
        return Err(corrupt("its length is larger than LZ4 can expand it to"));
    }
    if length > MAX_EXPANDED_BYTES - HEADER {
        return Err(corrupt("it expands to more bytes than any entry that is compressed"));
    }
    let mut expanded = vec![0; HEADER + length];
    expanded[..HEADER].copy_from_slice(header);
    expanded[0] = VERSION;
    match lz4_flex::block::decompress_into(block, &mut expanded[HEADER..]) {
        Ok(written) if written == length => Ok(expanded),
        Ok(_) => Err(corrupt("it expands to fewer bytes than its length says")),
        Err(_) => Err(corrupt("it is not a valid LZ4 block")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a compressed entry of so many bytes.
    fn compressed(bytes: usize) -> Vec<u8> {
        let rest = vec![0; bytes - HEADER];
        checked(&[CHECKED; HEADER], u32::try_from(rest.len()).unwrap(), &lz4_flex::block::compress(&rest))
    }

    #[test]
    fn an_entry_is_expanded_up_to_the_largest_size_and_not_beyond() {
        assert_eq!(expand(&compressed(MAX_EXPANDED_BYTES)).unwrap().len(), MAX_EXPANDED_BYTES);
        assert!(matches!(expand(&compressed(MAX_EXPANDED_BYTES + 1)), Err(DecodeError::Corrupt(_))));
    }

    #[test]
    fn what_could_not_be_expanded_is_not_compressed() {
        let mut rest = vec![0; MAX_EXPANDED_BYTES - HEADER];
        assert!(compress(&rest, &mut Vec::new()).is_some());
        rest.push(0);
        assert_eq!(compress(&rest, &mut Vec::new()), None);
    }
}
