//! Compressed entries: what is kept in the stream, and on disk twice, is mostly JSON of one shape.
//!
//! Version 2, around an entry of version 1 ([`crate::entry`]):
//!
//! ```text
//! version: 1 byte (2) · entry id: 16 bytes · length of the rest once expanded: 4 bytes, little endian
//! · LZ4 block of that rest
//! ```
//!
//! An entry that is small, or does not get smaller, stays version 1; readers take both.

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use crate::EntryId;
use crate::entry::{COMPRESSED, DecodeError, HEADER, PackedEntry, PackedRequest, VERSION, put_entry};

/// Entries below this size, in bytes, are left as they are.
const SMALLEST: usize = 1024;
/// Bytes of length behind the header.
const LENGTH: usize = 4;
/// The most that LZ4 makes of a byte: what a corrupt length can have us allocate is bounded by it.
const MOST_PER_BYTE: usize = 255;

/// Packs requests into one entry as [`PackedEntry::new`] does, and compresses it if that makes it
/// smaller.
pub fn pack<'r>(id: EntryId, requests: impl ExactSizeIterator<Item = &'r PackedRequest> + Clone) -> PackedEntry {
    Buffers::with(|Buffers { plain, block }| {
        plain.clear();
        let events = put_entry(plain, id, requests);
        let body = compressed(plain, block).unwrap_or_else(|| plain.clone());
        PackedEntry { id, events, body }
    })
}

/// Compresses an entry, if that makes it smaller.
pub fn compress(entry: PackedEntry) -> PackedEntry {
    match Buffers::with(|buffers| compressed(&entry.body, &mut buffers.block)) {
        Some(body) => PackedEntry { body, ..entry },
        None => entry,
    }
}

/// The compressed body of an entry, unless it would not be smaller.
fn compressed(plain: &[u8], block: &mut Vec<u8>) -> Option<Vec<u8>> {
    let (header, rest) = plain.split_at_checked(HEADER).filter(|_| plain.len() >= SMALLEST)?;
    let length = u32::try_from(rest.len()).ok()?;
    let most = lz4_flex::block::get_maximum_output_size(rest.len());
    if block.len() < most {
        block.resize(most, 0);
    }
    let written = lz4_flex::block::compress_into(rest, block).ok()?;
    let size = HEADER + LENGTH + written;
    if size >= plain.len() {
        return None;
    }
    // As large as it is: it waits for the log's answer, and most of the buffer is not used.
    let mut body = Vec::with_capacity(size);
    body.push(COMPRESSED);
    body.extend_from_slice(&header[1..]);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(&block[..written]);
    Some(body)
}

/// Where entries are packed and compressed. Kept from one entry to the next: new memory of that size
/// has to be zeroed, for LZ4, and is in no cache.
#[derive(Default)]
struct Buffers {
    plain: Vec<u8>,
    block: Vec<u8>,
}

/// Those that nobody uses at the moment.
static IDLE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());
/// So many are kept, for as many threads that pack at the same time.
const MOST_IDLE: usize = 4;
/// Larger ones, in bytes, are not kept: few entries are.
const MOST_KEPT: usize = 1 << 20;

impl Buffers {
    fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let idle = || IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffers = idle().pop().unwrap_or_default();
        let done = work(&mut buffers);
        if buffers.plain.capacity().max(buffers.block.capacity()) <= MOST_KEPT {
            let mut idle = idle();
            if idle.len() < MOST_IDLE {
                idle.push(buffers);
            }
        }
        done
    }
}

/// The entry as [`crate::entry::decode`] reads it.
///
/// # Errors
/// [`DecodeError::Corrupt`] when a compressed entry cannot be expanded. Versions that are not known
/// are left for `decode` to refuse.
pub fn expand(body: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    if body.first() != Some(&COMPRESSED) {
        return Ok(Cow::Borrowed(body));
    }
    let corrupt = DecodeError::Corrupt;
    let (header, rest) = body.split_at_checked(HEADER).ok_or(corrupt("it ends too early"))?;
    let (length, block) = rest.split_first_chunk::<LENGTH>().ok_or(corrupt("it ends too early"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > block.len().saturating_mul(MOST_PER_BYTE) {
        return Err(corrupt("its length is more than it can hold"));
    }
    let mut expanded = vec![0; HEADER + length];
    expanded[..HEADER].copy_from_slice(header);
    expanded[0] = VERSION;
    match lz4_flex::block::decompress_into(block, &mut expanded[HEADER..]) {
        Ok(written) if written == length => Ok(Cow::Owned(expanded)),
        Ok(_) => Err(corrupt("it is shorter than its length")),
        Err(_) => Err(corrupt("it cannot be expanded")),
    }
}
