//! Makes groups of closed partitions, and builds their filters.
//!
//! Eight partitions share the filter of a group, and eight such groups that of a larger one, which takes their place.
//!
//! The filter of a group is built segment by segment, a few of them in each call of the maintenance. How far it is built is
//! stored with it, so any replica goes on with it. While it is not complete, nobody asks it.
//!
//! A partition that is removed leaves its keys in the filter of its group. The filter is removed with the last one.

use super::group::{NewGroup, Unfinished};
use super::key_filter::{first_key, segment_bits};
use super::layout::{Layout, Run};
use super::tables::PartitionTables;
use crate::StoreError;

/// How many partitions, or groups, a group is made of.
const MEMBERS: usize = 8;
/// The level of groups that no larger one is made of. One more level would save little: with two billion events there
/// are 16 filters of 64 partitions each.
const MAX_LEVEL: u32 = 2;
/// How many segments of a group's filter one call builds, in a few seconds: meanwhile this replica closes no partition.
const SEGMENTS_PER_CALL: u32 = 16;

/// Goes on with the filter of the oldest group that is to have one. Returns whether it was completed; if not, or if another
/// replica is building a filter, the next call goes on.
pub(super) async fn build_group(
    tables: &mut (impl PartitionTables + ?Sized),
    layout: &Layout,
) -> Result<bool, StoreError> {
    // If building fails, the connection is closed, and another replica may build.
    if next_group(layout).is_none() || !tables.begin_building().await? {
        return Ok(false);
    }
    // Another replica may have completed it since the layout was read.
    let layout = tables.read_layout().await?;
    let is_complete = match next_group(&layout) {
        Some(group) => build(tables, &layout, &group).await?,
        None => true,
    };
    tables.end_building().await?;
    Ok(is_complete)
}

/// Builds a few segments. Returns whether the filter was completed.
async fn build(
    tables: &mut (impl PartitionTables + ?Sized),
    layout: &Layout,
    wanted: &NewGroup,
) -> Result<bool, StoreError> {
    let Unfinished { group, segments: begun } = begin(tables, wanted).await?;
    let bits = segment_bits(group.keys);
    let end = (1 << bits).min(begun.saturating_add(SEGMENTS_PER_CALL));
    for segment in begun..end {
        let before = (segment + 1 < 1 << bits).then(|| first_key(segment + 1, bits));
        let mut keys = Vec::new();
        // Those that were removed meanwhile need no place in the filter.
        for closed in layout.closed.iter().filter(|closed| group.has(closed.number)) {
            keys.extend(tables.keys(closed.number, first_key(segment, bits), before).await?);
        }
        let built = tables.build_segment(keys, group.filter.salt(segment)).await?;
        tables.add_group_segment(&group, segment, built.encode(&group.filter, segment, bits)).await?;
    }
    if end < 1 << bits {
        return Ok(false);
    }
    tables.finish_group(&group).await?;
    tracing::info!(
        first = group.first,
        last = group.last,
        keys = group.keys,
        "the filter of a group of partitions of events was built"
    );
    Ok(true)
}

/// Returns the group that was begun, or begins it.
async fn begin(tables: &mut (impl PartitionTables + ?Sized), wanted: &NewGroup) -> Result<Unfinished, StoreError> {
    while let Some(unfinished) = tables.unfinished_group().await? {
        if unfinished.group.is_of(wanted) {
            return Ok(unfinished);
        }
        // Partitions of it were removed, or a filter of an older group was damaged.
        tables.forget_filter(&unfinished.group.filter).await?;
    }
    Ok(Unfinished { group: tables.begin_group(wanted).await?, segments: 0 })
}

/// Returns the oldest group that is to have a filter.
fn next_group(layout: &Layout) -> Option<NewGroup> {
    let mut members: Vec<NewGroup> = Vec::with_capacity(MEMBERS);
    let runs: Vec<_> = layout.runs().collect();
    for run in runs.into_iter().rev() {
        let member = member(layout, run);
        if member.is_none_or(|member| members.last().is_some_and(|last| last.level != member.level)) {
            members.clear();
        }
        members.extend(member);
        if let ([oldest, .., newest], MEMBERS) = (&*members, members.len()) {
            let keys = members.iter().map(|member| member.keys).sum();
            return Some(NewGroup { first: oldest.first, last: newest.last, level: oldest.level + 1, keys });
        }
    }
    None
}

/// Returns a group, or a partition as if it were a group of level 0, if a larger group can be made of it. What was the table
/// of all events is left alone: it can have as many keys as all others.
fn member(layout: &Layout, Run { group, closed }: Run<'_>) -> Option<NewGroup> {
    let mut keys = 0;
    for closed in closed.iter().filter(|closed| layout.former != Some(closed.number)) {
        keys += closed.filter.as_ref()?.1;
    }
    match (group, closed) {
        (Some(group), _) => {
            let level = Some(group.level).filter(|level| *level < MAX_LEVEL)?;
            Some(NewGroup { first: group.first, last: group.last, level, keys })
        }
        (None, [closed]) if layout.former != Some(closed.number) => {
            Some(NewGroup { first: closed.number, last: closed.number, level: 0, keys })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes groups until none is due, and returns them as first and last partition.
    fn grouped(numbers: std::ops::RangeInclusive<i32>, mut groups: Vec<(i32, i32, u32)>) -> Vec<(i32, i32)> {
        let closed: Vec<_> = numbers.rev().map(|number| (number, 10)).collect();
        while let Some(NewGroup { first, last, level, keys }) = next_group(&Layout::of_closed(&closed, &groups)) {
            let members = closed.iter().filter(|(number, _)| (first..=last).contains(number)).count();
            assert_eq!(keys, members as u64 * 10, "{first} to {last}");
            groups.retain(|(smaller, _, _)| !(first..=last).contains(smaller));
            groups.push((first, last, level));
            groups.sort_by_key(|(first, _, _)| std::cmp::Reverse(*first));
        }
        groups.into_iter().map(|(first, last, _)| (first, last)).collect()
    }

    #[test]
    fn eight_partitions_make_a_group_and_eight_groups_a_larger_one() {
        assert_eq!(grouped(1..=7, vec![]), []);
        assert_eq!(grouped(1..=8, vec![]), [(1, 8)]);
        assert_eq!(grouped(1..=63, vec![]).len(), 7);
        assert_eq!(grouped(1..=64, vec![]), [(1, 64)]);
        assert_eq!(grouped(1..=64 * 9 + 8, vec![]).len(), 10, "there is no larger one");
    }

    #[test]
    fn a_group_that_is_lost_is_made_again_in_its_place() {
        assert_eq!(grouped(1..=24, vec![(17, 24, 1), (1, 8, 1)]), [(17, 24), (9, 16), (1, 8)]);
        assert_eq!(grouped(1..=80, vec![(73, 80, 1), (65, 72, 1)]), [(73, 80), (65, 72), (1, 64)]);
    }

    #[test]
    fn a_group_of_which_partitions_were_removed_becomes_a_part_of_a_larger_one() {
        let groups = (0..8).rev().map(|n| (n * 8 + 1, n * 8 + 8, 1)).collect();
        assert_eq!(grouped(6..=64, groups), [(1, 64)]);
        assert_eq!(grouped(6..=15, vec![]), [(6, 13)]);
    }

    #[test]
    fn partitions_without_a_filter_and_the_former_table_are_in_no_group() {
        let closed: Vec<_> = (1..=12).rev().map(|number| (number, 10)).collect();
        let mut layout = Layout::of_closed(&closed, &[]);
        layout.former = Some(1);
        let group = next_group(&layout).map(|NewGroup { first, last, .. }| (first, last));
        assert_eq!(group, Some((2, 9)), "the former one is left alone");
        layout.closed[6].filter = None;
        assert_eq!(next_group(&layout), None, "partition 6 has no filter");
    }
}
