//! Where keys are in memory: at places that nobody outside of the process can predict.
//!
//! A key is a hash of what a client sent, so a client can find events whose keys have the same first bits. If those
//! bits chose the place, it could choose one bucket for all of them, and this process would forget what it stored.

use sluice_event::ambient::random_u128;

/// A hash function of a process, chosen at random: multiply-shift (Dietzfelbinger, Hagerup, Katajainen, Penttonen: "A
/// Reliable Randomized Algorithm for the Closest-Pair Problem", 1997). Two keys share one of n places with a
/// probability of 2/n at most, whoever chose the keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    factor: u64,
}

impl Spread {
    /// Chooses a function.
    pub fn random() -> Self {
        Self::of(random_u128() as u64)
    }

    fn of(seed: u64) -> Self {
        // Only odd factors spread the last bits too.
        Self { factor: seed | 1 }
    }

    /// Returns the place of a key among so many.
    pub fn place(self, key: u128, places: usize) -> usize {
        let mixed = ((key >> 64) as u64).wrapping_mul(self.factor);
        ((u128::from(mixed) * places as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 1 << 12;

    fn hashed(n: u64) -> u128 {
        u128::from_be_bytes(sluice_event::key::hash128(&n.to_le_bytes()))
    }

    #[test]
    fn keys_that_share_a_place_in_one_process_do_not_in_another() {
        let (one, other) = (Spread::of(0x9e37_79b9_7f4a_7c15), Spread::of(0xbf58_476d_1ce4_e5b9));
        let chosen: Vec<u128> = (0..400_000).map(hashed).filter(|&key| one.place(key, PLACES) == 7).collect();
        assert!(chosen.len() > 50, "{}", chosen.len());
        let mut places: Vec<usize> = chosen.iter().map(|&key| other.place(key, PLACES)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > chosen.len() * 9 / 10, "{} places of {} keys", places.len(), chosen.len());
    }
}
