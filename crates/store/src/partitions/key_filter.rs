//! A filter of the keys of rows that never change again. "No" is certain: the key is in none of these rows.
//!
//! It is a [binary fuse filter] of the crate `xorf`, in segments of at most [`SEGMENT_KEYS`] keys, so that building one
//! takes bounded memory however many rows there are. The first bits of a key choose its segment, and the last 64 bits of
//! it are what the filter knows. They are combined with a random number of each filter, because the hash functions of
//! the crate are the same in all processes: a client could otherwise look for keys of which no filter can be built.
//!
//! A filter has 16 bits for each key and takes 2.3 bytes. It can be narrowed to 8 bits, since the shorter fingerprint of
//! a key is the first half of the longer one. About one of 65,000 other keys looks as if it were there, or one of 256.
//!
//! A segment is stored with a checksum, and with the names of the filter and of what it was built from. So bytes that
//! were damaged, or that belong to another filter, are never taken for this one.
//!
//! [binary fuse filter]: https://arxiv.org/abs/2201.01174

use std::fmt;

use sluice_event::EventKey;
use sluice_event::key::hash128;
use xorf::{BinaryFuse8, BinaryFuse16, Descriptor, Filter as _};

/// About the largest number of keys in a segment: building one takes about 50 bytes for each.
pub const SEGMENT_KEYS: u64 = 1 << 18;
/// The first bytes of a stored segment: the format.
const FORMAT: &[u8; 8] = b"sluicef1";
/// Bytes of the checksum at the end of a stored segment.
const CHECKSUM: usize = 16;
/// Bytes of a fingerprint that is not narrowed.
const WIDE: usize = 2;

/// Which filter a segment belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterName {
    /// The part of the table whose keys it has.
    pub partition: i32,
    /// The random id that the filter got when it was built.
    pub id: String,
}

impl FilterName {
    /// Returns the salt of a segment: a number that nobody knows before the filter is built.
    pub fn salt(&self, segment: u32) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = hash128(format!("{} {segment}", self.id).as_bytes());
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Why stored bytes are not the segment that they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    /// A bit of it was changed, or it is cut off.
    #[error("it does not match its checksum")]
    Checksum,
    /// Its bytes are as they were written.
    #[error("it has another format, or is a segment of another filter")]
    Other,
}

/// The width of the fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    Wide,
    /// 8 bits.
    Narrow,
}

impl Width {
    /// Returns about how many bytes the fingerprints of so many keys take.
    pub fn bytes(self, keys: u64) -> u64 {
        // The crate makes 12.5% more fingerprints than keys of a large segment.
        let fingerprints = keys + keys / 8;
        match self {
            Self::Wide => 2 * fingerprints,
            Self::Narrow => fingerprints,
        }
    }
}

/// Returns how many bits of a key choose its segment in a filter of so many keys.
pub fn segment_bits(keys: u64) -> u32 {
    keys.div_ceil(SEGMENT_KEYS).next_power_of_two().trailing_zeros()
}

/// Returns the segment of a key.
fn segment_of(key: EventKey, bits: u32) -> usize {
    // A shift by 128 would be an overflow.
    key.as_u128().checked_shr(u128::BITS - bits).map_or(0, |first| usize::try_from(first).unwrap_or(usize::MAX))
}

/// Returns the smallest key of a segment.
pub fn first_key(segment: u32, bits: u32) -> EventKey {
    EventKey::from_u128(u128::from(segment).checked_shl(u128::BITS - bits).unwrap_or(0))
}

/// Returns what a filter knows of a key.
fn reduced(key: EventKey, salt: u64) -> u64 {
    // The last 64 bits.
    (key.as_u128() as u64) ^ salt
}

/// A part of a filter, as it is built and stored.
pub struct Segment {
    salt: u64,
    keys: u64,
    filter: BinaryFuse16,
}

impl Segment {
    /// Builds a segment of these keys.
    ///
    /// # Errors
    /// If none can be built, which happens about never.
    pub fn build(keys: &[EventKey], salt: u64) -> Result<Self, String> {
        let mut reduced: Vec<u64> = keys.iter().map(|key| self::reduced(*key, salt)).collect();
        // Two keys may differ in their first bits alone, and the crate takes distinct numbers.
        reduced.sort_unstable();
        reduced.dedup();
        let filter = BinaryFuse16::try_from(&reduced).map_err(|error| format!("no filter can be built: {error}"))?;
        Ok(Self { salt, keys: keys.len() as u64, filter })
    }

    /// Returns the bytes by which it is stored.
    pub fn encode(&self, name: &FilterName, number: u32, bits: u32) -> Vec<u8> {
        let Descriptor { seed, segment_length, segment_length_mask, segment_count_length } = self.filter.descriptor;
        let mut out = header(name, number, bits);
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.keys.to_le_bytes());
        out.extend_from_slice(&seed.to_le_bytes());
        for part in [segment_length, segment_length_mask, segment_count_length] {
            out.extend_from_slice(&part.to_le_bytes());
        }
        out.extend(self.filter.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_le_bytes()));
        let checksum = hash128(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// Reads what [`Segment::encode`] returned for the same name and number.
    ///
    /// # Errors
    /// If these bytes are anything else.
    pub fn decode(bytes: &[u8], name: &FilterName, number: u32, bits: u32) -> Result<Self, BadSegment> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(BadSegment::Checksum)?;
        if hash128(content) != *checksum {
            return Err(BadSegment::Checksum);
        }
        let mut rest = content.strip_prefix(&*header(name, number, bits)).ok_or(BadSegment::Other)?;
        let salt = u64::from_le_bytes(take(&mut rest)?);
        let keys = u64::from_le_bytes(take(&mut rest)?);
        let descriptor = Descriptor {
            seed: u64::from_le_bytes(take(&mut rest)?),
            segment_length: u32::from_le_bytes(take(&mut rest)?),
            segment_length_mask: u32::from_le_bytes(take(&mut rest)?),
            segment_count_length: u32::from_le_bytes(take(&mut rest)?),
        };
        let (fingerprints, []) = rest.as_chunks::<WIDE>() else { return Err(BadSegment::Other) };
        let fingerprints = fingerprints.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        Ok(Self { salt, keys, filter: BinaryFuse16 { descriptor, fingerprints } })
    }

    /// Narrows it, if that is asked for.
    fn of_width(self, width: Width) -> Loaded {
        let Self { salt, keys, filter } = self;
        let filter = match width {
            Width::Wide => Fingerprints::Wide(filter),
            Width::Narrow => Fingerprints::Narrow(narrow(&filter)),
        };
        Loaded { salt, is_empty: keys == 0, filter }
    }
}

/// Halves the width of the fingerprints: the lower half of each is the fingerprint of a filter of half the width.
fn narrow(BinaryFuse16 { descriptor, fingerprints }: &BinaryFuse16) -> BinaryFuse8 {
    let fingerprints = fingerprints.iter().map(|fingerprint| *fingerprint as u8).collect();
    BinaryFuse8 { descriptor: descriptor.clone(), fingerprints }
}

/// Returns how the bytes of a segment begin.
fn header(FilterName { partition, id }: &FilterName, number: u32, bits: u32) -> Vec<u8> {
    let mut out = FORMAT.to_vec();
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&hash128(id.as_bytes()));
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&bits.to_le_bytes());
    out
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], BadSegment> {
    let (first, others) = rest.split_first_chunk::<N>().ok_or(BadSegment::Other)?;
    *rest = others;
    Ok(*first)
}

/// A filter in memory.
pub struct KeyFilter {
    segments: Vec<Loaded>,
    width: Width,
}

struct Loaded {
    salt: u64,
    is_empty: bool,
    filter: Fingerprints,
}

enum Fingerprints {
    Wide(BinaryFuse16),
    Narrow(BinaryFuse8),
}

impl KeyFilter {
    /// Returns a filter that has none of its segments yet.
    pub fn of_width(width: Width) -> Self {
        Self { segments: Vec::new(), width }
    }

    /// Adds the next of its segments, and narrows it if that is its width: a filter of many keys never takes the memory of
    /// a wide one.
    pub fn push(&mut self, segment: Segment) {
        self.segments.push(segment.of_width(self.width));
    }

    /// Returns the same filter with fingerprints of half the width.
    pub fn narrowed(&self) -> Self {
        let narrowed = |Loaded { salt, is_empty, filter }: &Loaded| {
            let filter = match filter {
                Fingerprints::Wide(filter) => Fingerprints::Narrow(narrow(filter)),
                Fingerprints::Narrow(filter) => Fingerprints::Narrow(filter.clone()),
            };
            Loaded { salt: *salt, is_empty: *is_empty, filter }
        };
        Self { segments: self.segments.iter().map(narrowed).collect(), width: Width::Narrow }
    }

    /// Returns the width of its fingerprints.
    pub fn width(&self) -> Width {
        self.width
    }

    /// Returns how many bytes its fingerprints take.
    pub fn bytes(&self) -> u64 {
        let bytes = |segment: &Loaded| match &segment.filter {
            Fingerprints::Wide(filter) => filter.fingerprints.len() * WIDE,
            Fingerprints::Narrow(filter) => filter.fingerprints.len(),
        };
        self.segments.iter().map(bytes).sum::<usize>() as u64
    }

    /// Returns false if none of the rows has this key.
    pub fn may_contain(&self, key: EventKey) -> bool {
        let bits = self.segments.len().trailing_zeros();
        let Some(Loaded { salt, is_empty, filter }) = self.segments.get(segment_of(key, bits)) else { return true };
        if *is_empty {
            return false;
        }
        let reduced = reduced(key, *salt);
        match filter {
            Fingerprints::Wide(filter) => filter.contains(&reduced),
            Fingerprints::Narrow(filter) => filter.contains(&reduced),
        }
    }
}

impl fmt::Debug for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFilter").field("bytes", &self.bytes()).field("width", &self.width).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashed(n: u64) -> EventKey {
        EventKey::from_bytes(hash128(&n.to_le_bytes()))
    }

    fn name() -> FilterName {
        FilterName { partition: 7, id: "an id".to_owned() }
    }

    /// Builds a filter of keys as they are found in a table, segment by segment.
    fn filter(keys: &[EventKey], bits: u32, width: Width) -> KeyFilter {
        let mut filter = KeyFilter::of_width(width);
        for segment in 0..1 << bits {
            let keys: Vec<_> = keys.iter().copied().filter(|key| segment_of(*key, bits) == segment as usize).collect();
            let built = Segment::build(&keys, 0x5eed ^ u64::from(segment)).unwrap();
            filter.push(Segment::decode(&built.encode(&name(), segment, bits), &name(), segment, bits).unwrap());
        }
        filter
    }

    #[test]
    fn every_key_is_found_and_few_others_are() {
        let keys: Vec<_> = (0..40_000).map(hashed).collect();
        for (width, at_most) in [(Width::Wide, 20), (Width::Narrow, 600)] {
            for bits in [0, 1, 3] {
                let filter = filter(&keys, bits, width);
                assert!(keys.iter().all(|key| filter.may_contain(*key)), "{filter:?}");
                let others = (40_000..140_000).filter(|n| filter.may_contain(hashed(*n))).count();
                assert!(others <= at_most, "{others} of 100,000, {filter:?}");
                assert!(filter.bytes() < width.bytes(40_000) * 5 / 4, "{filter:?}");
            }
        }
    }

    #[test]
    fn a_narrowed_filter_has_the_same_keys() {
        let keys: Vec<_> = (0..10_000).map(hashed).collect();
        let wide = filter(&keys, 1, Width::Wide);
        let narrow = wide.narrowed();
        assert!(keys.iter().all(|key| narrow.may_contain(*key) && narrow.narrowed().may_contain(*key)));
        assert_eq!((narrow.width(), narrow.bytes()), (Width::Narrow, wide.bytes() / 2));
    }

    #[test]
    fn a_filter_of_no_keys_has_none() {
        for bits in [0, 2] {
            let filter = filter(&[], bits, Width::Wide);
            assert!((0..1000).all(|n| !filter.may_contain(hashed(n))));
        }
    }

    #[test]
    fn segments_begin_with_their_first_keys_and_hold_few_enough() {
        for (keys, bits) in [(0, 0), (1, 0), (SEGMENT_KEYS, 0), (SEGMENT_KEYS + 1, 1), (5 * SEGMENT_KEYS, 3)] {
            assert_eq!(segment_bits(keys), bits, "{keys}");
        }
        for bits in [0, 1, 3] {
            for segment in 0..1 << bits {
                let first = first_key(segment, bits);
                assert_eq!(segment_of(first, bits), segment as usize);
                if segment > 0 {
                    assert_eq!(segment_of(EventKey::from_u128(first.as_u128() - 1), bits), segment as usize - 1);
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let keys: Vec<_> = (0..100).map(hashed).collect();
        let bytes = Segment::build(&keys, 1).unwrap().encode(&name(), 0, 0);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Segment::decode(&damaged, &name(), 0, 0).err(), Some(BadSegment::Checksum), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Segment::decode(&bytes[..length], &name(), 0, 0).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_segment_of_another_filter_is_not_taken_for_this_one() {
        let bytes = Segment::build(&[hashed(1)], 1).unwrap().encode(&name(), 0, 1);
        let another = |partition, id: &str| FilterName { partition, id: id.to_owned() };
        for (name, number, bits) in [
            (another(8, "an id"), 0, 1),
            // The same number of a partition, used once more with other keys.
            (another(7, "another id"), 0, 1),
            (name(), 1, 1),
            (name(), 0, 2),
        ] {
            assert_eq!(Segment::decode(&bytes, &name, number, bits).err(), Some(BadSegment::Other));
        }
        assert!(Segment::decode(&bytes, &name(), 0, 1).is_ok());
    }

    proptest! {
        #[test]
        fn keys_that_differ_in_few_bits_are_all_found(keys in prop::collection::vec(0..u128::MAX, 0..300)) {
            let near: Vec<_> = keys.iter().flat_map(|key| [*key, key ^ 1, key ^ (1 << 127)]).collect();
            let keys: Vec<_> = near.into_iter().map(EventKey::from_u128).collect();
            for width in [Width::Wide, Width::Narrow] {
                let filter = filter(&keys, 0, width);
                prop_assert!(keys.iter().all(|key| filter.may_contain(*key)));
            }
        }
    }
}
