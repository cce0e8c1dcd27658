//! Meters in the model: the real code counts, and each commit is checked against the rows that it inserts. What is lost by a
//! failover is lost as a whole, so this is enough for the sums.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use sluice_event::EventKey;
use sluice_meter::batch::{Record, records};
use sluice_meter::{Aggregation, Damaged, Definition, Meter, Set, group};

use super::transactions::StoredRow;

/// The meters, each by topic.
const METERS: [(Aggregation, &str); 5] = [
    (Aggregation::Count, r#"{"aggregation":"count","group_by":["topic"]}"#),
    (Aggregation::Sum, r#"{"aggregation":"sum","value":"/value","group_by":["topic"]}"#),
    (Aggregation::Min, r#"{"aggregation":"min","value":"/value","group_by":["topic"],"time":"received_at"}"#),
    (Aggregation::Max, r#"{"aggregation":"max","value":"/value","group_by":["topic"]}"#),
    (Aggregation::Unique, r#"{"aggregation":"unique","value":"/value","group_by":["topic"]}"#),
];

static SET: LazyLock<Arc<Set>> = LazyLock::new(|| {
    let meters = METERS.iter().enumerate().filter_map(|(id, (_, json))| {
        let definition = Definition::parse(json.as_bytes()).ok()?;
        Some(Meter { id: id as i64, definition })
    });
    Arc::new(Set::new(&meters.collect::<Vec<_>>()).unwrap_or_default())
});

/// Returns the meters that are in force in every transaction.
pub fn in_force() -> Arc<Set> {
    Arc::clone(&SET)
}

/// The figure and the number of events, by meter and topic. The minutes of a transaction are added up.
type Figures = BTreeMap<(usize, String), (u64, u64)>;

/// Returns how what the meters have counted differs from the rows that a transaction inserts.
pub fn fault(counted: &[Vec<u8>], inserted: &[(EventKey, StoredRow)]) -> Option<String> {
    let expected = expected(inserted);
    match read(counted) {
        Ok(figures) if figures == expected => None,
        Ok(figures) => Some(format!("a commit's meters have {figures:?}, and its rows {expected:?}")),
        Err(error) => Some(format!("a commit's meters cannot be read: {error}")),
    }
}

fn expected(inserted: &[(EventKey, StoredRow)]) -> Figures {
    let mut values: BTreeMap<&str, Vec<Option<u64>>> = BTreeMap::new();
    for (_, row) in inserted {
        values.entry(&row.topic).or_default().push(row.value);
    }
    let mut figures = Figures::new();
    for (topic, all) in values {
        let numbers: Vec<u64> = all.iter().copied().flatten().collect();
        for (meter, (aggregation, _)) in METERS.iter().enumerate() {
            let figure = match aggregation {
                Aggregation::Count => Some(all.len() as u64),
                Aggregation::Sum => Some(numbers.iter().sum()),
                Aggregation::Min => numbers.iter().copied().min(),
                Aggregation::Max => numbers.iter().copied().max(),
                _ => Some(numbers.iter().collect::<HashSet<_>>().len() as u64),
            };
            let events = if *aggregation == Aggregation::Count { all.len() } else { numbers.len() };
            if let Some(figure) = figure.filter(|_| events > 0) {
                figures.insert((meter, topic.to_owned()), (figure, events as u64));
            }
        }
    }
    figures
}

fn read(counted: &[Vec<u8>]) -> Result<Figures, Damaged> {
    let mut sums: BTreeMap<(usize, String), sluice_meter::Figure> = BTreeMap::new();
    for row in counted {
        records(row, |record| {
            let Record::Figure { meter, group, figure, .. } = record else { return Ok(()) };
            let meter = usize::try_from(meter).map_err(|_| Damaged)?;
            let topic = group::values(group).and_then(|values| values.first().copied().flatten()).ok_or(Damaged)?;
            match sums.entry((meter, topic.to_owned())) {
                std::collections::btree_map::Entry::Vacant(place) => {
                    place.insert(figure);
                    Ok(())
                }
                std::collections::btree_map::Entry::Occupied(mut sum) => sum.get_mut().add(figure, usize::MAX),
            }
        })?;
    }
    let shown = |((meter, topic), figure): ((usize, String), sluice_meter::Figure)| {
        let shown = figure.shown(METERS.get(meter).ok_or(Damaged)?.0);
        let value = shown.value.to_string().parse().map_err(|_| Damaged)?;
        Ok(((meter, topic), (value, shown.events)))
    };
    sums.into_iter().map(shown).collect()
}
