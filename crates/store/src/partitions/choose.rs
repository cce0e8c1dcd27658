//! The choice of the filters that have room in memory.

use super::filters::Wanted;
use super::key_filter::Width;
use super::layout::{Layout, Run};

/// Returns the filters to have in memory.
///
/// A partition in a group has 8 bits for each key, and its group has 8 more; any other partition has 16. So a key is taken
/// for one of a partition by mistake as rarely in a group as outside. Where that needs too much memory, each partition
/// has 8 bits, the newest first, as many as there is room for, and groups have the room that is left. Then old
/// duplicates are still looked up in the partition that has them alone.
pub fn choose(layout: &Layout, max_bytes: u64) -> Vec<Wanted<'_>> {
    let all: Vec<_> = of_partitions(layout, Width::Wide).chain(of_groups(layout)).collect();
    if all.iter().map(Wanted::bytes).sum::<u64>() <= max_bytes {
        return all;
    }
    let mut room = max_bytes;
    let mut fits = |wanted: &Wanted<'_>| match room.checked_sub(wanted.bytes()) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    let mut chosen: Vec<_> = of_partitions(layout, Width::Narrow).take_while(&mut fits).collect();
    chosen.extend(of_groups(layout).take_while(&mut fits));
    chosen
}

/// Returns the filters of closed partitions, the newest first. Those in no group have this width.
fn of_partitions(layout: &Layout, alone: Width) -> impl Iterator<Item = Wanted<'_>> {
    layout.runs().flat_map(move |Run { group, closed }| {
        let width = if group.is_some() { Width::Narrow } else { alone };
        closed
            .iter()
            .filter_map(move |closed| closed.filter.as_ref().map(|(name, keys)| Wanted { name, keys: *keys, width }))
    })
}

/// Returns the filters of the groups, the newest first.
fn of_groups(layout: &Layout) -> impl Iterator<Item = Wanted<'_>> {
    layout.runs().filter_map(|Run { group, .. }| {
        group.map(|group| Wanted { name: &group.filter, keys: group.keys, width: Width::Narrow })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(layout: &Layout, max_bytes: u64) -> Vec<(&str, Width)> {
        choose(layout, max_bytes).into_iter().map(|Wanted { name, width, .. }| (&*name.id, width)).collect()
    }

    #[test]
    fn filters_are_narrowed_before_any_is_left_out_and_the_oldest_is_left_out_first() {
        use Width::{Narrow, Wide};
        let layout = Layout::of_closed(&[(2, 800), (1, 800), (0, 800)], &[]);
        assert_eq!(chosen(&layout, 5_400), [("2", Wide), ("1", Wide), ("0", Wide)]);
        assert_eq!(chosen(&layout, 5_399), [("2", Narrow), ("1", Narrow), ("0", Narrow)]);
        assert_eq!(chosen(&layout, 2_700), [("2", Narrow), ("1", Narrow), ("0", Narrow)]);
        assert_eq!(chosen(&layout, 2_699), [("2", Narrow), ("1", Narrow)]);
        assert_eq!(chosen(&layout, 0), []);
    }

    #[test]
    fn a_group_takes_half_of_the_memory_of_its_partitions_and_is_left_out_before_them() {
        use Width::{Narrow, Wide};
        let layout = Layout::of_closed(&[(2, 800), (1, 800), (0, 800)], &[(0, 1, 1)]);
        let partitions = |alone| vec![("2", alone), ("1", Narrow), ("0", Narrow)];
        let with_group = |alone| [partitions(alone), vec![("0 to 1", Narrow)]].concat();
        assert_eq!(chosen(&layout, 5_400), with_group(Wide));
        assert_eq!(chosen(&layout, 5_399), with_group(Narrow));
        assert_eq!(chosen(&layout, 4_500), with_group(Narrow));
        assert_eq!(chosen(&layout, 4_499), partitions(Narrow));
        assert_eq!(chosen(&layout, 1_800), [("2", Narrow), ("1", Narrow)]);
    }
}
