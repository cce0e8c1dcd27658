//! What no caller passes: random numbers, and the time of day. A simulation replaces both on its own thread,
//! so that it can be repeated.

use std::cell::Cell;

thread_local! {
    static SIMULATED: Cell<Option<Simulated>> = const { Cell::new(None) };
}

/// What a simulation uses in the place of the operating system's random numbers and clock.
#[derive(Clone, Copy)]
struct Simulated {
    /// The state of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
    state: u64,
    /// Microseconds since 1970.
    now: i64,
}

/// Returns 64 random bits.
fn random_u64() -> u64 {
    let Some(simulated) = SIMULATED.get() else { return rand::random() };
    let state = simulated.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SIMULATED.set(Some(Simulated { state, ..simulated }));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Returns 128 random bits.
pub fn random_u128() -> u128 {
    (u128::from(random_u64()) << 64) | u128::from(random_u64())
}

/// Returns a random number from 0 up to, but not including, 1.
pub fn random_fraction() -> f64 {
    // As many bits as the fraction of a 64-bit floating-point number has.
    (random_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Returns microseconds since 1970, by this machine's clock.
pub(crate) fn now_micros() -> i64 {
    SIMULATED.get().map_or_else(|| jiff::Timestamp::now().as_microsecond(), |simulated| simulated.now)
}

/// From now on, random numbers on this thread follow from `seed`, and the time stands at `now` (microseconds
/// since 1970). Only for simulations: identifiers must not be predictable elsewhere.
#[doc(hidden)]
pub fn simulate_for_tests(seed: u64, now: i64) {
    SIMULATED.set(Some(Simulated { state: seed, now }));
}

/// Sets the time of this thread's simulation, if there is one.
#[doc(hidden)]
pub fn set_time_for_tests(now: i64) {
    if let Some(simulated) = SIMULATED.get() {
        SIMULATED.set(Some(Simulated { now, ..simulated }));
    }
}

/// Ends this thread's simulation.
#[doc(hidden)]
pub fn end_simulation_for_tests() {
    SIMULATED.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_repeats_its_numbers_and_its_time_and_ends() {
        let numbers = |seed| {
            simulate_for_tests(seed, 5);
            (random_u128(), random_fraction().to_bits(), now_micros())
        };
        let (first, other) = (numbers(1), numbers(2));
        assert_eq!((numbers(1), first.2), (first, 5));
        assert_ne!(first.0, other.0);
        end_simulation_for_tests();
        assert_ne!(random_u128(), first.0);
        assert!(now_micros() > 5);
    }

    #[test]
    fn fractions_are_from_zero_to_below_one_and_spread_evenly() {
        let fractions: Vec<_> = (0..10_000).map(|_| random_fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let mean = fractions.iter().sum::<f64>() / 10_000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
