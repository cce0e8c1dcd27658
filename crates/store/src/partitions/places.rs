//! In which partitions keys are looked up.

use sluice_event::EventKey;

use super::filters::Loaded;
use super::layout::Layout;

/// Keys, and the partition in which they are looked up; `None` is the open one.
pub type Place = (Option<i32>, Vec<EventKey>);

/// Returns the closed partitions that may have these keys.
pub fn closed_places(layout: &Layout, loaded: &Loaded, keys: &[EventKey]) -> Vec<Place> {
    let mut places = Vec::new();
    for closed in &layout.closed {
        let keys: Vec<_> = match loaded.of(closed) {
            Some(filter) => keys.iter().copied().filter(|key| filter.may_contain(*key)).collect(),
            None => keys.to_vec(),
        };
        if !keys.is_empty() {
            places.push((Some(closed.number), keys));
        }
    }
    places
}

/// Returns all partitions that may have these keys, with the open one.
pub fn anywhere(layout: &Layout, loaded: &Loaded, keys: Vec<EventKey>) -> Vec<Place> {
    let mut places = closed_places(layout, loaded, &keys);
    places.push((None, keys));
    places
}
