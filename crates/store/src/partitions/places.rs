//! In which partitions keys are looked up.

use std::borrow::Cow;

use sluice_event::EventKey;

use super::filters::Loaded;
use super::key_filter::KeyFilter;
use super::layout::{Layout, Run};

/// Keys, and the partition in which they are looked up; `None` is the open one.
pub type Place = (Option<i32>, Vec<EventKey>);

/// Returns the closed partitions that may have these keys.
pub fn closed_places(layout: &Layout, loaded: &Loaded, keys: &[EventKey]) -> Vec<Place> {
    let mut places = Vec::new();
    for Run { group, closed } in layout.runs() {
        let keys = possible(group.and_then(|group| loaded.of_group(group)), keys);
        if keys.is_empty() {
            continue;
        }
        for closed in closed {
            let keys = possible(loaded.of(closed), &keys);
            if !keys.is_empty() {
                places.push((Some(closed.number), keys.into_owned()));
            }
        }
    }
    places
}

/// Returns the keys that a filter may have: all of them if it is not in memory.
fn possible<'a>(filter: Option<&KeyFilter>, keys: &'a [EventKey]) -> Cow<'a, [EventKey]> {
    match filter {
        Some(filter) => keys.iter().copied().filter(|key| filter.may_contain(*key)).collect(),
        None => keys.into(),
    }
}

/// Returns all partitions that may have these keys, with the open one.
pub fn anywhere(layout: &Layout, loaded: &Loaded, keys: Vec<EventKey>) -> Vec<Place> {
    let mut places = closed_places(layout, loaded, &keys);
    places.push((None, keys));
    places
}
