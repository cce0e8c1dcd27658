//! Tests of the simulation itself: it repeats, and it finds mistakes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it found"
)]

use sluice_sim::{Outcome, Planted, run};

/// Schedules within which each planted mistake must be found: half of what fits into a minute.
const SCHEDULES: u64 = 5_000;

#[test]
fn a_seed_makes_the_same_schedule_every_time() {
    for seed in [1, 2, 3, 1 << 40] {
        let (first, second) = (run(seed, None, true).unwrap(), run(seed, None, true).unwrap());
        assert_eq!(first.violations, Vec::<String>::new(), "seed {seed}");
        assert_same(&first, &second);
        // Whether the trace is recorded makes no difference either.
        assert_eq!(run(seed, None, false).unwrap().simulated, first.simulated);
    }
    assert_ne!(run(1, None, true).unwrap().trace, run(2, None, true).unwrap().trace);
}

#[test]
fn a_schedule_has_three_replicas_fifty_requests_and_five_faults() {
    for seed in 0..20 {
        let trace = run(seed, None, true).unwrap().trace;
        let count = |what: &dyn Fn(&str) -> bool| trace.iter().filter(|line| what(line)).count();
        let starts = |pod: &str| count(&|line| line.contains(pod) && line.ends_with("starts"));
        assert!((0..3).all(|number| starts(&format!(" aggregator-{number}#")) > 0), "seed {seed}");
        assert!(
            (0..50).all(|number| count(&|line| line.contains(&format!(" request {number} as "))) > 0),
            "seed {seed}"
        );
        assert!(count(&|line| line.contains(" FAULT ")) >= 5, "seed {seed}");
    }
}

#[test]
fn an_acknowledgement_before_the_commit_is_found_and_repeats() {
    is_found(Planted::AcknowledgeBeforeCommit);
}

#[test]
fn a_new_entry_id_for_each_repetition_of_an_append_is_found_and_repeats() {
    is_found(Planted::NewIdPerRepetition);
}

#[test]
fn a_dedup_cache_that_outlives_a_lost_connection_is_found_and_repeats() {
    is_found(Planted::CacheOutlivesConnection);
}

#[test]
fn a_log_that_does_not_note_the_commits_is_found_and_repeats() {
    is_found(Planted::CommitsAreNotNoted);
}

#[test]
fn a_replay_that_reads_nothing_is_found_and_repeats() {
    is_found(Planted::ReplayReadsNothing);
}

#[test]
fn a_comparison_of_own_commits_only_is_found_and_repeats() {
    is_found(Planted::OwnCommitsOnly);
}

#[test]
fn a_filter_that_is_not_bound_to_its_partition_is_found_and_repeats() {
    is_found(Planted::FilterOfAnyPartition);
}

#[test]
fn a_list_of_partitions_from_memory_is_found_and_repeats() {
    is_found(Planted::ListFromMemory);
}

#[test]
fn a_version_of_the_list_that_comes_again_is_found_and_repeats() {
    is_found(Planted::VersionComesAgain);
}

#[test]
fn a_partition_that_is_closed_beside_batches_is_found_and_repeats() {
    is_found(Planted::CloseDoesNotWait);
}

#[test]
fn a_batch_that_has_no_place_in_the_open_partition_is_found_and_repeats() {
    is_found(Planted::RoomIsNotChecked);
}

#[test]
fn a_partition_that_is_not_looked_up_because_it_has_no_filter_is_found_and_repeats() {
    is_found(Planted::NoFilterMeansNo);
}

#[test]
fn a_damaged_filter_that_is_trusted_is_found_and_repeats() {
    is_found(Planted::DamageIsNotNoticed);
}

#[test]
fn a_group_with_a_partition_whose_keys_are_not_in_its_filter_is_found_and_repeats() {
    is_found(Planted::GroupOfOneMore);
}

#[test]
fn a_dedup_cache_that_outlives_a_removal_is_found_and_repeats() {
    is_found(Planted::RemovalsAreNotNoticed);
}

fn is_found(planted: Planted) {
    let fails = |seed: &u64| !run(*seed, Some(planted), false).unwrap().violations.is_empty();
    let seed = (0..SCHEDULES).find(fails).unwrap_or_else(|| panic!("{planted:?} is not found"));
    println!("{planted:?} is found by schedule {seed}");
    let failed = run(seed, Some(planted), true).unwrap();
    assert!(!failed.violations.is_empty());
    assert_same(&failed, &run(seed, Some(planted), true).unwrap());
    // It is the mistake that is found: without it the schedule is fine.
    assert_eq!(run(seed, None, false).unwrap().violations, Vec::<String>::new());
}

/// Compares everything but the log lines: how many of them there are depends on limits of the whole process, and on
/// the other tests in it.
fn assert_same(first: &Outcome, second: &Outcome) {
    let steps = |outcome: &Outcome| -> Vec<String> {
        outcome.trace.iter().filter(|line| !line.contains(" logged ")).cloned().collect()
    };
    let (one, other) = (steps(first), steps(second));
    if let Some(line) = one.iter().zip(&other).position(|(one, other)| one != other) {
        panic!("line {line} differs:\n{}\n{}", one[line], other[line]);
    }
    assert_eq!(one.len(), other.len());
    assert_eq!((&first.violations, first.simulated), (&second.violations, second.simulated));
}
