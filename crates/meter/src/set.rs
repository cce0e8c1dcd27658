//! The meters that are in force, prepared for counting.

use sluice_auth::TopicPattern;
use sluice_event::pointer::{Pointer, PointerTree};

use crate::MAX_METERS;
use crate::definition::{Aggregation, Definition, GroupBy, InvalidDefinition, TimeField};

/// A meter that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Its number. A meter that is changed gets another one.
    pub id: i64,
    /// What it counts.
    pub definition: Definition,
}

/// The meters that are in force in a transaction.
#[derive(Debug, Clone, Default)]
pub struct Set {
    meters: Vec<Prepared>,
}

/// A meter with what was read from its definition.
#[derive(Debug, Clone)]
struct Prepared {
    id: i64,
    aggregation: Aggregation,
    time: TimeField,
    topics: Vec<TopicPattern>,
    value: Option<Pointer>,
    group_by: Vec<GroupBy>,
}

/// What is counted of events of some topics: by those meters that count these.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub meters: Vec<PlannedMeter>,
    /// The pointers of all of them.
    pub pointers: PointerTree,
}

/// How a meter counts an event.
#[derive(Debug, Clone)]
pub(crate) struct PlannedMeter {
    /// Its position in the set.
    pub index: usize,
    pub aggregation: Aggregation,
    pub time: TimeField,
    /// The position of its value in what the pointers find.
    pub value: Option<usize>,
    pub groups: Vec<GroupSource>,
}

/// Where the value of a group is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GroupSource {
    Topic,
    Source,
    /// The position in what the pointers find.
    Found(usize),
}

impl Set {
    /// Prepares meters for counting.
    ///
    /// # Errors
    /// [`InvalidDefinition`] if one of them cannot be used, or if there are too many.
    pub fn new(meters: &[Meter]) -> Result<Self, InvalidDefinition> {
        if meters.len() > MAX_METERS {
            let reason = format!("there are more than {MAX_METERS} meters");
            return Err(InvalidDefinition { field: String::new(), reason });
        }
        let prepare = |meter: &Meter| {
            let Meter { id, definition } = meter;
            definition.check()?;
            Ok(Prepared {
                id: *id,
                aggregation: definition.aggregation,
                time: definition.time,
                topics: definition.topics.iter().filter_map(|pattern| pattern.parse().ok()).collect(),
                value: definition.pointer()?,
                group_by: definition.group_by.clone(),
            })
        };
        Ok(Self { meters: meters.iter().map(prepare).collect::<Result<_, _>>()? })
    }

    /// Returns whether there are no meters.
    pub fn is_empty(&self) -> bool {
        self.meters.is_empty()
    }

    /// Returns the number of meters.
    pub(crate) fn len(&self) -> usize {
        self.meters.len()
    }

    /// Returns the id of the meter at a position.
    pub(crate) fn id(&self, index: usize) -> i64 {
        self.meters.get(index).map_or(0, |meter| meter.id)
    }

    /// Returns which meters count events of a topic: a bit of each.
    pub(crate) fn matching(&self, topic: &str) -> u32 {
        let matches = |meter: &Prepared| meter.topics.iter().any(|pattern| pattern.matches(topic));
        self.meters.iter().enumerate().filter(|(_, meter)| matches(meter)).fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// Returns how these meters count an event.
    pub(crate) fn plan(&self, matching: u32) -> Plan {
        let mut pointers = Vec::new();
        let mut position = |pointer| {
            pointers.push(pointer);
            pointers.len() - 1
        };
        let selected = self.meters.iter().enumerate().filter(|(index, _)| matching & 1 << index != 0);
        let meters = selected
            .map(|(index, meter)| PlannedMeter {
                index,
                aggregation: meter.aggregation,
                time: meter.time,
                value: meter.value.as_ref().map(&mut position),
                groups: meter
                    .group_by
                    .iter()
                    .map(|field| match field {
                        GroupBy::Topic => GroupSource::Topic,
                        GroupBy::Source => GroupSource::Source,
                        GroupBy::Payload(pointer) => GroupSource::Found(position(pointer)),
                    })
                    .collect(),
            })
            .collect();
        Plan { meters, pointers: PointerTree::new(pointers) }
    }
}

const _: () = assert!(MAX_METERS <= u32::BITS as usize, "each meter has a bit");
