//! Sorts the members of an object by their keys.

use std::cmp::Ordering;

use super::error::PayloadError;

/// Objects with at most this many members are sorted by insertion, larger ones by the library's sort.
const MAX_INSERTION_SORT: usize = 12;

/// The position of a member in the output: of its key, quotes included, and of the end of its value and comma.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) start: usize,
    pub(super) key_end: usize,
    pub(super) end: usize,
    /// The first bytes of the key after its quote. Where two prefixes differ, they decide the order
    /// without a comparison of the keys. [`sort`] computes it.
    pub(super) prefix: u64,
}

impl Member {
    /// Compares the bytes of the keys, quotes included: so no key is a prefix of another.
    #[inline]
    fn compare(&self, other: &Self, out: &[u8]) -> Ordering {
        let key = |member: &Self| member.start..member.key_end;
        match self.prefix.cmp(&other.prefix) {
            Ordering::Equal => out[key(self)].cmp(&out[key(other)]),
            order => order,
        }
    }
}

/// Sorts the members of one object, which is the part of `out` that begins at `body`.
///
/// # Errors
/// [`PayloadError::DuplicateKey`] when two members have the same key.
pub(super) fn sort(out: &mut Vec<u8>, body: usize, members: &mut [Member]) -> Result<(), PayloadError> {
    for member in members.iter_mut() {
        member.prefix = prefix(out, member.start + 1, member.key_end);
    }
    if members.is_sorted_by(|a, b| a.compare(b, out) == Ordering::Less) {
        return Ok(());
    }
    if members.len() <= MAX_INSERTION_SORT {
        insertion_sort(members, out)
    } else {
        members.sort_unstable_by(|a, b| a.compare(b, out))
    }
    if let Some(pair) = members.windows(2).find(|pair| pair[0].compare(&pair[1], out) == Ordering::Equal) {
        return Err(duplicate(&out[pair[0].start..pair[0].key_end]));
    }
    let end = out.len();
    for member in members {
        out.extend_from_within(member.start..member.end);
    }
    out.copy_within(end.., body);
    out.truncate(end);
    Ok(())
}

/// Sorts a few members, which most objects have. Inlined, it takes less than half of the time that the
/// library's sort takes for them.
#[inline]
fn insertion_sort(members: &mut [Member], out: &[u8]) {
    for sorted in 1..members.len() {
        let mut place = sorted;
        while place > 0 && members[place].compare(&members[place - 1], out) == Ordering::Less {
            members.swap(place, place - 1);
            place -= 1;
        }
    }
}

#[cold]
fn duplicate(key: &[u8]) -> PayloadError {
    PayloadError::DuplicateKey(String::from_utf8_lossy(key).trim_matches('"').to_owned())
}

/// Returns the first eight bytes of the text from `start` to `end` as a number that compares as the bytes
/// do. A shorter text is padded with zeros.
#[inline]
fn prefix(out: &[u8], start: usize, end: usize) -> u64 {
    let length = end - start;
    match out[start..].first_chunk() {
        Some(eight) if length >= 8 => u64::from_be_bytes(*eight),
        Some(eight) => u64::from_be_bytes(*eight) & !(u64::MAX >> (8 * length)),
        None => out[start..end]
            .iter()
            .zip((0..8).rev())
            .fold(0, |prefix, (&byte, place)| prefix | u64::from(byte) << (8 * place)),
    }
}
