//! The events that a run sends, their order and the duplicates among them, all determined by the seed alone.

use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The maximum distance of a near duplicate, in events: mostly within the same request or the previous one.
const NEAR: usize = 100;

/// The order of a run: position → number of the unique event that is sent there.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    seed: u64,
    topics: Vec<String>,
    order: Vec<u32>,
    unique: u32,
}

/// The expected row of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) topic: usize,
    pub(crate) event_id: String,
    pub(crate) payload: String,
}

impl Plan {
    /// Creates a plan of `events` events, of which exactly `round(events × duplicate)` are duplicates,
    /// half of them near their originals and half at any distance.
    pub(crate) fn new(seed: u64, run_id: &str, events: u32, duplicate: f64, topics: u32) -> Self {
        let duplicates = ((f64::from(events) * duplicate).round() as u32).min(events.saturating_sub(1));
        let mut random = StdRng::seed_from_u64(seed);
        let mut order = Vec::with_capacity(events as usize);
        let (mut unique, mut left) = (0u32, duplicates);
        for position in 0..events {
            // The first event cannot be a duplicate; of the others every choice of `duplicates`
            // positions is equally likely.
            let repeats = position > 0 && random.random_range(0..events - position) < left;
            if repeats {
                let sent = order.len();
                let from = if random.random() { sent.saturating_sub(NEAR) } else { 0 };
                order.push(order[random.random_range(from..sent)]);
                left -= 1;
            } else {
                order.push(unique);
                unique += 1;
            }
        }
        let topics = (0..topics).map(|number| format!("sim-{run_id}-{number}")).collect();
        Self { seed, topics, order, unique }
    }

    /// Returns the number of events that are sent, duplicates included.
    pub(crate) fn events(&self) -> usize {
        self.order.len()
    }

    /// Returns the number of different events.
    pub(crate) fn unique(&self) -> u32 {
        self.unique
    }

    /// Returns the names of the topics.
    pub(crate) fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Returns the numbers of events of each topic: all that are sent, and the different ones.
    pub(crate) fn per_topic(&self) -> Vec<(u64, u64)> {
        let mut counts = vec![(0, 0); self.topics.len()];
        for &number in &self.order {
            counts[self.topic_of(number)].0 += 1;
        }
        for number in 0..self.unique {
            counts[self.topic_of(number)].1 += 1;
        }
        counts
    }

    /// Returns one of the different events.
    pub(crate) fn event(&self, number: u32) -> Made {
        let mut random = self.random(number);
        let topic = random.random_range(0..self.topics.len());
        let event_id = format!("{:016x}-{number}", self.seed);
        let (user, cents) = (random.random_range(0..100_000), random.random_range(100..100_000));
        let currency = ["EUR", "USD", "IDR", "JPY"][random.random_range(0..4)];
        let (item, quantity) = (random.random_range(0..1_000), random.random_range(1..10));
        let trace: u128 = random.random();
        // As in payloads of real clients: nested objects, exact decimals, characters outside of ASCII.
        let payload = format!(
            r#"{{"user":{{"id":{user},"name":"Zoë {user}"}},"amount":{}.{:02},"currency":"{currency}","items":[{{"sku":"sku-{item}","quantity":{quantity}}},{{"sku":"gift","quantity":1}}],"trace":"{trace:032x}","note":"made by a simulation"}}"#,
            cents / 100,
            cents % 100,
        );
        Made { topic, event_id, payload }
    }

    /// Returns the body of the request that sends these positions.
    pub(crate) fn body(&self, positions: std::ops::Range<usize>) -> String {
        let mut body = String::with_capacity(positions.len() * 400);
        for &number in &self.order[positions] {
            let Made { topic, event_id, payload } = self.event(number);
            let separator = if body.is_empty() { '[' } else { ',' };
            let (topic, second, milli) = (&self.topics[topic], number / 1_000 % 86_400, number % 1_000);
            let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
            // Writing to a string cannot fail.
            let _ = write!(
                body,
                r#"{separator}{{"topic":"{topic}","event_id":"{event_id}","timestamp":"2026-01-01T{hour:02}:{minute:02}:{second:02}.{milli:03}Z","source":"simulator","payload":{payload}}}"#
            );
        }
        body.push(']');
        body
    }

    fn topic_of(&self, number: u32) -> usize {
        self.random(number).random_range(0..self.topics.len())
    }

    /// Each event has a random generator of its own, so that it can be created without those before it.
    fn random(&self, number: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sluice_event::{Limits, Timestamp};

    use super::*;

    #[test]
    fn exactly_the_rounded_share_of_events_is_sent_twice() {
        for (events, duplicate, duplicates) in
            [(20_000, 0.3, 6_000), (10, 0.25, 3), (7, 0.0, 0), (1, 0.9, 0), (2, 0.9, 1)]
        {
            let plan = Plan::new(42, "r", events, duplicate, 3);
            let different: HashSet<_> = plan.order.iter().collect();
            assert_eq!(plan.events(), events as usize);
            assert_eq!(different.len(), plan.unique() as usize);
            assert_eq!(events - plan.unique(), duplicates, "{events} × {duplicate}");
        }
    }

    #[test]
    fn duplicates_are_near_and_far() {
        let plan = Plan::new(1, "r", 20_000, 0.3, 5);
        let mut last = std::collections::HashMap::new();
        let mut distances = Vec::new();
        for (position, number) in plan.order.iter().enumerate() {
            if let Some(before) = last.insert(number, position) {
                distances.push(position - before);
            }
        }
        let near = distances.iter().filter(|&&distance| distance <= NEAR).count();
        let far = distances.iter().filter(|&&distance| distance > 2_000).count();
        assert!(near > 2_000 && far > 1_000, "{near} near, {far} far of {}", distances.len());
    }

    #[test]
    fn the_seed_decides_everything_but_the_topics_names() {
        let (a, b) = (Plan::new(7, "a", 500, 0.3, 5), Plan::new(7, "b", 500, 0.3, 5));
        assert_eq!(a.body(0..500).replace("sim-a-", "sim-b-"), b.body(0..500));
        assert_ne!(a.body(0..500), Plan::new(8, "a", 500, 0.3, 5).body(0..500));
    }

    #[test]
    fn bodies_are_valid_and_counts_agree() {
        let plan = Plan::new(3, "run", 1_000, 0.4, 4);
        let body = plan.body(0..1_000);
        let events = sluice_event::parse(body.as_bytes(), &Limits::default(), Timestamp::now()).unwrap();
        for (topic, (sent, unique)) in plan.per_topic().into_iter().enumerate() {
            let of_topic: Vec<_> = events.iter().filter(|event| event.topic == plan.topics()[topic]).collect();
            let ids: HashSet<_> = of_topic.iter().map(|event| &event.event_id).collect();
            assert_eq!((of_topic.len() as u64, ids.len() as u64), (sent, unique), "topic {topic}");
        }
    }
}
