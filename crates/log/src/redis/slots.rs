//! The hash slots of a cluster, and hash tags that spread streams evenly over its nodes.

use std::sync::OnceLock;

/// The number of slots.
const SLOTS: u32 = 16_384;
/// Ranges of slots, one per stream: 3^7, which is more than the 1024 streams that there can be.
const DIGITS: u32 = 7;
const RANGES: u32 = 3_u32.pow(DIGITS);
/// The number of streams whose tags are looked for once.
const CACHED: usize = 1024;

static TAGS: [OnceLock<String>; CACHED] = [const { OnceLock::new() }; CACHED];

/// Returns the slot of a key: that of its hash tag, if it has one.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        rest.iter().position(|&byte| byte == b'}').filter(|&length| length > 0).map(|length| &rest[..length])
    });
    (u32::from(crc16(tag.unwrap_or(key))) % SLOTS) as u16
}

/// Returns the hash tag of a stream on a cluster, in the range of slots of its number ([`range`]).
///
/// It must stay the same for ever: the entries of a stream are found by it.
pub(super) fn tag(stream: u16) -> String {
    match TAGS.get(usize::from(stream)) {
        Some(cached) => cached.get_or_init(|| search(stream)).clone(),
        None => search(stream),
    }
}

/// The first of `7`, `7.1`, `7.2`, … that is in the range of stream 7. About one in 2,187 is.
fn search(stream: u16) -> String {
    let slots = range(stream);
    let is_within = |tag: &String| slots.contains(&u32::from(slot(tag.as_bytes())));
    let number = stream.to_string();
    let mut candidates = std::iter::once(number.clone()).chain((1_u64..).map(|try_| format!("{number}.{try_}")));
    candidates.find(is_within).unwrap_or(number)
}

/// Returns the slots of a stream: the numbers of streams in base 3, with the digits in reverse, are a van der Corput
/// sequence. So the first 3 streams are in different thirds of all slots, the first 9 in different ninths, and any
/// number of them is spread almost evenly. The nodes of a new cluster have consecutive slots, in equal numbers.
fn range(stream: u16) -> std::ops::Range<u32> {
    let mut rest = u32::from(stream) % RANGES;
    let mut reversed = 0;
    for _ in 0..DIGITS {
        reversed = reversed * 3 + rest % 3;
        rest /= 3;
    }
    // Rounded up, so that a range does not begin with the last slot of the node before it.
    (SLOTS * reversed).div_ceil(RANGES)..(SLOTS * (reversed + 1)).div_ceil(RANGES)
}

/// CRC-16/XMODEM, as Redis Cluster defines it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8)
            .fold(crc ^ (u16::from(byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn streams_are_spread_evenly_over_nodes_with_equal_shares_of_the_slots() {
        for (streams, nodes, most) in [(3, 3, 1), (9, 3, 3), (27, 3, 9), (9, 9, 1), (6, 2, 4), (16, 4, 5), (15, 5, 4)] {
            let mut on_node = vec![0; nodes];
            for stream in 0..streams {
                on_node[usize::from(slot(tag(stream).as_bytes())) * nodes / SLOTS as usize] += 1;
            }
            assert!(on_node.iter().all(|&number| number <= most), "{streams} streams on {nodes} nodes: {on_node:?}");
        }
    }

    #[test]
    fn tags_never_change_because_entries_are_found_by_them() {
        let tags: Vec<_> = (0..4).chain([1023]).map(tag).collect();
        assert_eq!(tags, ["0.2322", "1.9250", "2.251", "3.4592", "1023.204"]);
        let all: std::collections::HashSet<_> = (0..1024).map(tag).collect();
        assert_eq!(all.len(), 1024);
    }
}
