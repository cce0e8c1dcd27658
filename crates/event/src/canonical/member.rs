//! The members of an object in the order of their keys.

use std::cmp::Ordering;

use super::PayloadError;

/// So many members are sorted by insertion.
const FEW: usize = 12;

/// Where a member stands in the output: its key, quotes included, and the end of its value and comma.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) start: usize,
    pub(super) key_end: usize,
    pub(super) end: usize,
    /// The first bytes of the key, behind its quote: where they differ, they say the order. Filled in
    /// for sorting.
    pub(super) prefix: u64,
}

impl Member {
    /// By the keys' bytes, quotes included: no key is the beginning of another.
    #[inline]
    fn compare(&self, other: &Self, out: &[u8]) -> Ordering {
        let key = |member: &Self| member.start..member.key_end;
        match self.prefix.cmp(&other.prefix) {
            Ordering::Equal => out[key(self)].cmp(&out[key(other)]),
            order => order,
        }
    }
}

/// Puts the members of one object, which are what stands in `out` from `body` on, in order.
pub(super) fn sort(out: &mut Vec<u8>, body: usize, members: &mut [Member]) -> Result<(), PayloadError> {
    for member in members.iter_mut() {
        member.prefix = prefix(out, member.start + 1, member.key_end);
    }
    if members.is_sorted_by(|a, b| a.compare(b, out) == Ordering::Less) {
        return Ok(());
    }
    if members.len() <= FEW {
        insert_in_order(members, out)
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

/// Sorts a few, as most objects have: inlined, this takes less than half of what the library's takes.
#[inline]
fn insert_in_order(members: &mut [Member], out: &[u8]) {
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

/// The first eight bytes of the text from `start` to `end` as a number that compares as they do;
/// where there are fewer, zeros follow.
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
