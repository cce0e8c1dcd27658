//! Adds up the events that a transaction inserts.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use sluice_event::key::hash128_of_parts;
use sluice_event::pointer::unquoted;
use sluice_event::{Event, Timestamp};

use crate::batch;
use crate::decimal::Decimal;
use crate::definition::{Aggregation, TimeField};
use crate::figure::Figure;
use crate::group::{self, OTHER};
use crate::part::Part;
use crate::set::{GroupSource, Plan, PlannedMeter, Set};

/// The longest example of a skipped event, in bytes.
const MAX_EXAMPLE: usize = 400;

/// What meters look at of an event.
#[derive(Debug, Clone, Copy)]
pub struct Counted<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its id.
    pub event_id: &'a str,
    /// Its source.
    pub source: Option<&'a str>,
    /// Its payload as JSON text.
    pub payload: &'a str,
    /// Its own time.
    pub timestamp: Timestamp,
    /// When the publisher accepted it.
    pub received_at: Timestamp,
}

impl<'a> Counted<'a> {
    /// Returns what meters look at of an event that was accepted at a time.
    pub fn of(event: &'a Event<'_>, received_at: Timestamp) -> Self {
        Self {
            topic: &event.topic,
            event_id: &event.event_id,
            source: event.source.as_deref(),
            payload: &event.payload,
            timestamp: event.timestamp,
            received_at,
        }
    }
}

/// Adds up events. It takes no more memory than a small multiple of what the events take.
#[derive(Debug)]
pub struct Recorder {
    set: Arc<Set>,
    parts: Vec<Part>,
    /// Which meters count the events of a topic: the position of their plan.
    topics: HashMap<Box<str>, usize>,
    plans: Vec<(u32, Plan)>,
    /// The key of a group while it is made.
    key: Vec<u8>,
}

impl Recorder {
    /// Begins with nothing.
    pub fn new(set: Arc<Set>) -> Self {
        let parts = (0..set.len()).map(|_| Part::default()).collect();
        Self { set, parts, topics: HashMap::new(), plans: Vec::new(), key: Vec::new() }
    }

    /// Adds events.
    pub fn add_all<'a>(&mut self, events: impl Iterator<Item = Counted<'a>>) {
        if self.set.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for event in events {
            let plan = self.plan_of(event.topic);
            let (_, plan) = &self.plans[plan];
            plan.pointers.find(event.payload, &mut found);
            for meter in &plan.meters {
                add(&mut self.parts[meter.index], &mut self.key, meter, &event, &found);
            }
        }
    }

    fn plan_of(&mut self, topic: &str) -> usize {
        if let Some(plan) = self.topics.get(topic) {
            return *plan;
        }
        let matching = self.set.matching(topic);
        let plan = self.plans.iter().position(|(bits, _)| *bits == matching).unwrap_or_else(|| {
            self.plans.push((matching, self.set.plan(matching)));
            self.plans.len() - 1
        });
        self.topics.insert(topic.into(), plan);
        plan
    }

    /// Returns the content of the rows that the transaction writes: none if no meter counted anything.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        batch::encode(self.parts.iter().enumerate().map(|(index, part)| (self.set.id(index), part)))
    }
}

/// Adds an event to what a meter has counted.
fn add(part: &mut Part, key: &mut Vec<u8>, meter: &PlannedMeter, event: &Counted<'_>, found: &[Option<&str>]) {
    let time = match meter.time {
        TimeField::Timestamp => event.timestamp,
        TimeField::ReceivedAt => event.received_at,
    };
    let value = meter.value.map(|position| found.get(position).copied().flatten());
    let figure = match figure(meter.aggregation, value, time) {
        Ok(figure) => figure,
        Err(why) => {
            part.skipped += 1;
            part.example.get_or_insert_with(|| example(event, &why));
            return;
        }
    };
    key.clear();
    let all = meter.groups.iter().all(|source| match source {
        GroupSource::Topic => group::push(key, Some(event.topic)),
        GroupSource::Source => group::push(key, event.source),
        GroupSource::Found(position) => push_json(key, found.get(*position).copied().flatten()),
    });
    let key = if all { &**key } else { OTHER };
    let minute = time.as_micros().div_euclid(60_000_000);
    let added = part.windows.entry(minute).or_default().add(key, figure);
    debug_assert!(added.is_ok(), "all figures of a meter are of one aggregation");
}

/// Returns the figure of an event, or why it has none.
fn figure(aggregation: Aggregation, value: Option<Option<&str>>, time: Timestamp) -> Result<Figure, String> {
    let Some(value) = value else { return Ok(Figure::Count(1)) };
    let value = value.ok_or("it has no value there")?;
    let text = match value.as_bytes() {
        [b'"', ..] => unquoted(value).ok_or("the value is damaged")?,
        [b'{' | b'[' | b'n', ..] => return Err("the value is an object, an array or null".to_owned()),
        _ => Cow::Borrowed(value),
    };
    if aggregation == Aggregation::Unique {
        let hash = hash128_of_parts(&[text.as_bytes()]);
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        return Ok(Figure::of_hash(u64::from_le_bytes(first)));
    }
    let number = Decimal::parse(&text).map_err(|why| format!("the value {why}"))?;
    Ok(Figure::of_number(aggregation, number, time.as_micros()))
}

/// Appends a value of the payload to the key of a group: the characters of a string, and the text of a number, `true` or `false`
/// as it was sent. All else is no value.
fn push_json(key: &mut Vec<u8>, value: Option<&str>) -> bool {
    match value {
        None => group::push(key, None),
        Some(json) => match json.as_bytes() {
            [b'"', ..] => group::push(key, unquoted(json).as_deref()),
            [b'{' | b'[' | b'n', ..] => group::push(key, None),
            _ => group::push(key, Some(json)),
        },
    }
}

/// Describes a skipped event.
fn example(event: &Counted<'_>, why: &str) -> String {
    let mut example = format!("{} of topic {}: {why}", event.event_id, event.topic);
    if example.len() > MAX_EXAMPLE {
        let end = (0..=MAX_EXAMPLE).rev().find(|end| example.is_char_boundary(*end)).unwrap_or(0);
        example.truncate(end);
        example.push('…');
    }
    example
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::batch::{Record, records};
    use crate::definition::Definition;
    use crate::set::Meter;
    use crate::{Damaged, MAX_METERS};

    fn set(definitions: &[&str]) -> Arc<Set> {
        let meter = |(id, json): (usize, &&str)| Meter {
            id: id as i64,
            definition: Definition::parse(json.as_bytes()).unwrap(),
        };
        Arc::new(Set::new(&definitions.iter().enumerate().map(meter).collect::<Vec<_>>()).unwrap())
    }

    fn event<'a>(topic: &'a str, source: Option<&'a str>, payload: &'a str, seconds: i64) -> Counted<'a> {
        let at = |seconds| Timestamp::from_micros(seconds * 1_000_000).unwrap();
        Counted { topic, event_id: "e", source, payload, timestamp: at(seconds), received_at: at(seconds + 3_600) }
    }

    type Figures = BTreeMap<(i64, i64, Option<Vec<Option<String>>>), (u64, String)>;

    /// Returns what the rows have, and the skipped events.
    fn read(rows: &[Vec<u8>], aggregations: &[Aggregation]) -> (Figures, Vec<(i64, u64, Option<String>)>) {
        let (mut figures, mut skipped) = (Figures::new(), Vec::new());
        for row in rows {
            records(row, |record| match record {
                Record::Skipped { meter, events, example } => {
                    skipped.push((meter, events, example.map(str::to_owned)));
                    Ok::<_, Damaged>(())
                }
                Record::Figure { meter, minute, group, figure } => {
                    let shown = figure.shown(aggregations[meter as usize]);
                    let group = group::values(group).map(|group| group.iter().map(|v| v.map(str::to_owned)).collect());
                    figures.insert((meter, minute, group), (shown.events, shown.value.to_string()));
                    Ok(())
                }
            })
            .unwrap();
        }
        (figures, skipped)
    }

    #[test]
    fn events_are_added_up_by_meter_minute_and_group() {
        let set = set(&[
            r#"{"aggregation":"count","group_by":["topic","source"],"time":"received_at"}"#,
            r#"{"aggregation":"sum","value":"/n","topics":["a"],"group_by":["/g"]}"#,
            r#"{"aggregation":"unique","value":"/n"}"#,
        ]);
        let mut recorder = Recorder::new(set);
        recorder.add_all(
            [
                event("a", Some("s"), r#"{"n":1.5,"g":"x"}"#, 59),
                event("a", None, r#"{"n":"2","g":"\u0078"}"#, 0),
                event("a", Some("s"), r#"{"n":2,"g":true}"#, 60),
                event("a", Some("s"), r#"{"n":"much","g":{}}"#, 60),
                event("ab", None, r#"{"g":"x"}"#, -1),
            ]
            .into_iter(),
        );
        let (figures, skipped) = read(&recorder.encode(), &[Aggregation::Count, Aggregation::Sum, Aggregation::Unique]);
        let group = |values: &[Option<&str>]| Some(values.iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>());
        let expected = [
            ((0, 60, group(&[Some("a"), Some("s")])), (1, "1")),
            ((0, 60, group(&[Some("a"), None])), (1, "1")),
            ((0, 61, group(&[Some("a"), Some("s")])), (2, "2")),
            ((0, 59, group(&[Some("ab"), None])), (1, "1")),
            ((1, 0, group(&[Some("x")])), (2, "3.5")),
            ((1, 1, group(&[Some("true")])), (1, "2")),
            ((2, 0, group(&[])), (2, "2")),
            ((2, 1, group(&[])), (2, "2")),
        ];
        assert_eq!(figures, expected.map(|(key, (events, value))| (key, (events, value.to_owned()))).into());
        assert_eq!(
            skipped,
            [
                (0, 0, None),
                (1, 1, Some("e of topic a: the value is no number".to_owned())),
                (2, 1, Some("e of topic ab: it has no value there".to_owned())),
            ]
        );
    }

    #[test]
    fn an_event_whose_group_is_too_long_is_counted_under_other() {
        let mut recorder = Recorder::new(set(&[r#"{"aggregation":"count","group_by":["/g"]}"#]));
        let payload = format!(r#"{{"g":"{}"}}"#, "x".repeat(group::MAX_VALUE + 1));
        recorder.add_all([event("a", None, &payload, 0)].into_iter());
        let (figures, _) = read(&recorder.encode(), &[Aggregation::Count]);
        assert_eq!(figures, Figures::from([((0, 0, None), (1, "1".to_owned()))]));
    }

    #[test]
    fn many_groups_are_written_in_several_rows() {
        let mut recorder = Recorder::new(set(&[r#"{"aggregation":"count","group_by":["/g"]}"#; MAX_METERS]));
        let payload = |n: u32| format!(r#"{{"g":"{n:0>100}"}}"#);
        let payloads: Vec<_> = (0..2_000).map(payload).collect();
        recorder.add_all(payloads.iter().map(|payload| event("a", None, payload, 0)));
        let rows = recorder.encode();
        assert!(rows.len() > 1 && rows.iter().all(|row| row.len() < 5 << 20));
        let (figures, skipped) = read(&rows, &[Aggregation::Count; MAX_METERS]);
        assert_eq!(figures.len(), 2_000 * MAX_METERS);
        assert!(skipped.iter().all(|(_, events, _)| *events == 0));
    }

    #[test]
    fn without_events_or_meters_there_are_no_rows() {
        let mut none = Recorder::new(set(&[]));
        none.add_all([event("a", None, "1", 0)].into_iter());
        assert!(none.encode().is_empty());
        let other_topics = Recorder::new(set(&[r#"{"aggregation":"count","topics":["b"]}"#]));
        assert!(other_topics.encode().is_empty());
    }
}
