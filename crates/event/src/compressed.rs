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

use crate::entry::{DecodeError, HEADER, PackedEntry, VERSION};

/// The version byte of a compressed entry.
pub const COMPRESSED: u8 = 2;

/// Entries below this size, in bytes, are left as they are.
const SMALLEST: usize = 1024;
/// Bytes of length behind the header.
const LENGTH: usize = 4;
/// The most that LZ4 makes of a byte: what a corrupt length can have us allocate is bounded by it.
const MOST_PER_BYTE: usize = 255;

/// Compresses an entry, if that makes it smaller.
pub fn compress(entry: PackedEntry) -> PackedEntry {
    let Some((header, rest)) = entry.body.split_at_checked(HEADER).filter(|_| entry.body.len() >= SMALLEST) else {
        return entry;
    };
    let Ok(length) = u32::try_from(rest.len()) else { return entry };
    let start = HEADER + LENGTH;
    let mut body = vec![0; start + lz4_flex::block::get_maximum_output_size(rest.len())];
    body[..HEADER].copy_from_slice(header);
    body[0] = COMPRESSED;
    body[HEADER..start].copy_from_slice(&length.to_le_bytes());
    match lz4_flex::block::compress_into(rest, &mut body[start..]) {
        Ok(written) if start + written < entry.body.len() => {
            body.truncate(start + written);
            PackedEntry { body, ..entry }
        }
        _ => entry,
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
