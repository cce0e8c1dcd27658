//! Compressed entries. The stream stores each entry in memory and twice on disk, and the JSON of its events
//! is mostly alike, so it compresses well.
//!
//! Version 2, around an entry of version 1 ([`crate::entry`]):
//!
//! ```text
//! version: 1 byte (2) · entry id: 16 bytes · length of the expanded rest: 4 bytes, little endian
//! · LZ4 block of that rest
//! ```
//!
//! An entry that is small, or would not become smaller, stays version 1. Readers accept both.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::EntryId;
use crate::entry::{COMPRESSED, DecodeError, HEADER, PackedEntry, PackedRequest, VERSION, put_entry};

/// Entries below this size, in bytes, are not compressed.
const MIN_BYTES: usize = 1024;
/// Bytes of the length after the header.
const LENGTH: usize = 4;
/// LZ4 expands a byte to at most this many. It bounds the allocation for a corrupt length.
const MAX_EXPANSION: usize = 255;
/// The largest entry that is compressed, and so the most that is expanded, in bytes. Whoever can write to the stream
/// could otherwise make a reader allocate 4 GiB. An entry of the publisher has a quarter of a MiB, or is one
/// request; one beyond this size is stored as it is.
pub const MAX_EXPANDED_BYTES: usize = 64 << 20;

/// Packs requests into one entry as [`PackedEntry::new`] does, and compresses it if it becomes smaller.
pub fn pack<'r>(id: EntryId, requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone) -> PackedEntry {
    Buffers::with(|Buffers { plain, block }| {
        plain.clear();
        let events = put_entry(plain, id, requests);
        let body = compress(plain, block).unwrap_or_else(|| plain.clone());
        PackedEntry { id, events, body }
    })
}

/// Compresses the body of an entry; `None` when it is small or would not become smaller.
fn compress(plain: &[u8], block: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (header, rest) =
        plain.split_at_checked(HEADER).filter(|_| (MIN_BYTES..=MAX_EXPANDED_BYTES).contains(&plain.len()))?;
    let length = u32::try_from(rest.len()).ok()?;
    let max_size = lz4_flex::block::get_maximum_output_size(rest.len());
    if block.len() < max_size {
        block.resize(max_size, 0);
    }
    let written = lz4_flex::block::compress_into(rest, block).ok()?;
    let size = HEADER + LENGTH + written;
    if size >= plain.len() {
        return None;
    }
    // Allocated at its exact size, because the body stays in memory until the log has stored it, and
    // most of `block` is unused.
    let mut body = Vec::with_capacity(size);
    body.push(COMPRESSED);
    body.extend_from_slice(&header[1..]);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&block[..written]);
    Some(body)
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
/// be expanded counts as it is.
pub fn expanded_len(body: &[u8]) -> usize {
    let header = body.split_at_checked(HEADER).filter(|(header, _)| header.first() == Some(&COMPRESSED));
    let length = header.and_then(|(_, rest)| rest.split_first_chunk::<LENGTH>());
    let Some((length, block)) = length else { return body.len() };
    let length = u32::from_le_bytes(*length) as usize;
    if length > block.len().saturating_mul(MAX_EXPANSION) { body.len() } else { HEADER + length }
}

/// Returns the entry in the form that [`crate::entry::decode`] reads.
///
/// # Errors
/// [`DecodeError::Corrupt`] when a compressed entry cannot be expanded. An entry of an unknown version is
/// returned unchanged: `decode` refuses it.
pub fn expand(body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    if body.first() != Some(&COMPRESSED) {
        return Ok(Cow::Borrowed(body));
    }
    let corrupt = DecodeError::Corrupt;
    let (header, rest) = body.split_at_checked(HEADER).ok_or(corrupt("it is truncated"))?;
    let (length, block) = rest.split_first_chunk::<LENGTH>().ok_or(corrupt("it is truncated"))?;
    let length = u32::from_le_bytes(*length) as usize;
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
        Ok(written) if written == length => Ok(Cow::Owned(expanded)),
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
        let mut body = vec![COMPRESSED];
        body.extend_from_slice(&[7; HEADER - 1]);
        body.extend_from_slice(&u32::try_from(rest.len()).unwrap().to_le_bytes());
        body.extend_from_slice(&lz4_flex::block::compress(&rest));
        body
    }

    #[test]
    fn an_entry_is_expanded_up_to_the_largest_size_and_not_beyond() {
        assert_eq!(expand(&compressed(MAX_EXPANDED_BYTES)).unwrap().len(), MAX_EXPANDED_BYTES);
        assert!(matches!(expand(&compressed(MAX_EXPANDED_BYTES + 1)), Err(DecodeError::Corrupt(_))));
    }

    #[test]
    fn what_could_not_be_expanded_is_not_compressed() {
        let mut plain = vec![0; MAX_EXPANDED_BYTES];
        plain[0] = VERSION;
        assert!(compress(&plain, &mut Vec::new()).is_some());
        plain.push(0);
        assert_eq!(compress(&plain, &mut Vec::new()), None);
    }
}
