//! The figures of one window of time, by groups.

use std::collections::HashMap;

use crate::Damaged;
use crate::figure::Figure;
use crate::group::OTHER;

/// The largest number of groups of a window. All further ones are counted under [`OTHER`].
pub const MAX_GROUPS: usize = 10_000;
/// The largest size of their keys in bytes, all together.
const MAX_KEY_BYTES: usize = 1 << 20;
/// The largest number of hashes of different values, all together.
const MAX_HASHES: usize = 100_000;
/// The version of the encoding.
const VERSION: u8 = 1;

/// The figures of one window, by groups. What does not fit is counted under [`OTHER`], so that the sum over all groups is exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    groups: HashMap<Box<[u8]>, Figure>,
    key_bytes: usize,
    hashes: usize,
}

impl Window {
    /// Adds a figure to that of a group.
    ///
    /// # Errors
    /// [`Damaged`] if it is a figure of another aggregation.
    pub fn add(&mut self, group: &[u8], figure: Figure) -> Result<(), Damaged> {
        if let Some(sum) = self.groups.get_mut(group) {
            let before = sum.hashes();
            sum.add(figure, MAX_HASHES.saturating_sub(self.hashes))?;
            self.hashes += sum.hashes() - before;
            return Ok(());
        }
        let is_full = self.groups.len() >= MAX_GROUPS || self.key_bytes + group.len() > MAX_KEY_BYTES;
        if is_full && group != OTHER {
            return self.add(OTHER, figure);
        }
        let mut figure = figure;
        figure.leave_out_hashes(MAX_HASHES.saturating_sub(self.hashes));
        self.hashes += figure.hashes();
        self.key_bytes += group.len();
        self.groups.insert(group.into(), figure);
        Ok(())
    }

    /// Removes the latest value of a group if it is that of a figure. Returns whether it was.
    pub fn forget_latest(&mut self, group: &[u8], figure: &Figure) -> bool {
        // A group that did not fit is counted under the other one.
        let group = if self.groups.contains_key(group) { group } else { OTHER };
        self.groups.get_mut(group).is_some_and(|latest| latest.forget_latest(figure))
    }

    /// Adds all figures of another window of the same meter.
    ///
    /// # Errors
    /// [`Damaged`] as [`Window::add`].
    pub fn add_all(&mut self, other: &Self) -> Result<(), Damaged> {
        other.groups.iter().try_for_each(|(group, figure)| self.add(group, figure.clone()))
    }

    /// Returns the groups with their figures, in no order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Figure)> {
        self.groups.iter().map(|(group, figure)| (&**group, figure))
    }

    /// Returns the content of its row.
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(1 + self.key_bytes + self.groups.len() * 16);
        content.push(VERSION);
        for (group, figure) in self.groups() {
            put(&mut content, group, figure);
        }
        content
    }

    /// Adds the content of a row.
    ///
    /// # Errors
    /// [`Damaged`] if it cannot be read; then a part of it may have been added.
    pub fn add_encoded(&mut self, content: &[u8]) -> Result<(), Damaged> {
        figures(content, |group, figure| self.add(group, figure))
    }
}

/// Appends a group with its figure.
pub(crate) fn put(content: &mut Vec<u8>, group: &[u8], figure: &Figure) {
    // Writing to a vector cannot fail.
    if let Ok(extended) = postcard::to_extend(&(group, figure), std::mem::take(content)) {
        *content = extended;
    }
}

/// Passes each group of the content of a row to a function, with its figure.
///
/// # Errors
/// [`Damaged`], or the error of the function.
pub fn figures<E: From<Damaged>>(
    content: &[u8],
    mut each: impl FnMut(&[u8], Figure) -> Result<(), E>,
) -> Result<(), E> {
    let Some((&VERSION, mut rest)) = content.split_first() else { return Err(Damaged.into()) };
    while !rest.is_empty() {
        let ((group, figure), after) = postcard::take_from_bytes::<(&[u8], Figure)>(rest).map_err(Damaged::from)?;
        each(group, figure)?;
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal::Decimal;
    use crate::definition::Aggregation;

    #[test]
    fn a_window_is_read_as_it_was_written_and_damage_is_noticed() {
        let mut window = Window::default();
        let decimal = |text| Decimal::parse(text).unwrap();
        window.add(b"\x02a", Figure::of_number(Aggregation::Sum, decimal("1.25"), 0)).unwrap();
        window.add(b"\x02b", Figure::of_number(Aggregation::Sum, decimal("-3"), 0)).unwrap();
        window.add(OTHER, Figure::of_number(Aggregation::Sum, decimal("1e37"), 0)).unwrap();
        let content = window.encode();
        let mut read = Window::default();
        read.add_encoded(&content).unwrap();
        assert_eq!(read, window);
        for length in [0, 2, content.len() - 1] {
            assert_eq!(Window::default().add_encoded(&content[..length]), Err(Damaged), "{length}");
        }
    }

    #[test]
    fn groups_beyond_the_bound_are_counted_under_other() {
        let mut window = Window::default();
        for n in 0..MAX_GROUPS as u32 + 5 {
            window.add(&n.to_be_bytes(), Figure::Count(1)).unwrap();
        }
        window.add(&1_u32.to_be_bytes(), Figure::Count(1)).unwrap();
        let of = |group: &[u8]| window.groups().find(|(key, _)| *key == group).map(|(_, figure)| figure.clone());
        assert_eq!(window.groups().len(), MAX_GROUPS + 1);
        assert_eq!(of(OTHER), Some(Figure::Count(5)));
        assert_eq!(of(&1_u32.to_be_bytes()), Some(Figure::Count(2)));
        let mut long = Window::default();
        for n in 0..1_000_u32 {
            long.add(&[&n.to_be_bytes()[..], &[1; 2_000]].concat(), Figure::Count(1)).unwrap();
        }
        assert!(long.key_bytes <= MAX_KEY_BYTES + OTHER.len(), "{}", long.key_bytes);
        assert_eq!(long.groups().map(|(_, figure)| figure.shown(Aggregation::Count).events).sum::<u64>(), 1_000);
    }

    #[test]
    fn hashes_beyond_the_bound_of_a_window_are_left_out() {
        let mut window = Window::default();
        for hash in 0..MAX_HASHES as u64 + 3 {
            window.add(&(hash % 10).to_be_bytes(), Figure::of_hash(hash)).unwrap();
        }
        assert_eq!(window.hashes, MAX_HASHES);
        let shown: Vec<_> = window.groups().map(|(_, figure)| figure.shown(Aggregation::Unique)).collect();
        assert_eq!(shown.iter().filter(|shown| !shown.is_exact).count(), 3);
        assert_eq!(shown.iter().map(|shown| shown.events).sum::<u64>(), MAX_HASHES as u64 + 3);
    }
}
