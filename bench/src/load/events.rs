//! Renders the requests: whole HTTP requests, with events whose content depends on their number alone.

use std::fmt::Write;

/// The topics that the events are distributed over.
pub const TOPICS: [&str; 5] = ["orders", "payments", "shipments", "inventory", "telemetry"];
/// The topic of the markers, events whose latency is measured: see [`WorkloadSpec::markers`].
pub const MARKERS: &str = "markers";

/// How each request begins.
const REQUEST_LINE: &str = "POST /publish HTTP/1.1\r\n";

/// Describes a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkloadSpec {
    /// The number of events.
    pub events: usize,
    /// The percentage of events that repeat an earlier one, byte for byte. Which one is chosen at random, with
    /// the same probability for each earlier event.
    pub duplicate_percent: u8,
    /// The number of events in one request.
    pub per_request: usize,
    /// The number of new events that earlier workloads sent. Duplicates repeat these too, with the same
    /// probability.
    pub after: u64,
    /// Whether the last event of each request is a marker: a new event of the topic [`MARKERS`], whose id is
    /// the number of the request.
    pub markers: bool,
}

impl WorkloadSpec {
    /// Describes a workload in requests of 100 events, with no earlier one.
    pub fn new(events: usize, duplicate_percent: u8) -> Self {
        Self { events, duplicate_percent, per_request: 100, after: 0, markers: false }
    }
}

/// The requests to send, and how many of their events must be stored.
#[derive(Debug)]
pub struct Workload {
    /// The requests, each a whole HTTP/1.1 request.
    pub requests: Vec<Vec<u8>>,
    /// The number of events in all requests.
    pub events: u64,
    /// The number of events that repeat an earlier one.
    pub duplicates: u64,
    /// The average number of bytes of JSON per event.
    pub bytes_per_event: f64,
}

impl Workload {
    /// Renders the requests, with exactly the share of duplicates that is asked for. The same description gives
    /// the same requests.
    pub fn render(spec: WorkloadSpec) -> Self {
        let WorkloadSpec { events, duplicate_percent, per_request, after, markers } = spec;
        let all_markers = if markers { events / per_request } else { 0 };
        let ordinary = events - all_markers;
        let duplicates = ordinary * usize::from(duplicate_percent) / 100;
        let mut random = Random(u64::from(duplicate_percent) + 1 + (after << 8));
        let (mut fresh, mut repeated, mut sent, mut bytes) = (after, 0, 0, 0);
        let mut requests = Vec::with_capacity(events.div_ceil(per_request));
        let mut body = String::new();
        for place in 1..=events {
            body.push(if body.is_empty() { '[' } else { ',' });
            if markers && place % per_request == 0 {
                bytes += render_event(&mut body, MARKERS, requests.len() as u64);
            } else {
                // Selection sampling (Knuth, algorithm S): exactly `duplicates` of the places are chosen, and
                // each set of so many places has the same probability.
                let repeats = fresh > 0 && random.below(ordinary - sent) < duplicates - repeated;
                let number = if repeats { random.below(fresh as usize) as u64 } else { fresh };
                if repeats {
                    repeated += 1
                } else {
                    fresh += 1
                }
                sent += 1;
                bytes += render_event(&mut body, topic(number), number);
            }
            if place % per_request == 0 || place == events {
                if per_request > 1 {
                    body.push(']');
                }
                // A request of one event is an object, as a client with one event sends it.
                requests.push(request(if per_request > 1 { &body } else { &body[1..] }));
                body.clear();
            }
        }
        let bytes_per_event = bytes as f64 / events.max(1) as f64;
        Self { requests, events: events as u64, duplicates: repeated as u64, bytes_per_event }
    }

    /// Returns the same requests with this value of the header `Authorization`.
    pub fn authorized(&self, authorization: &str) -> Self {
        let header = format!("Authorization: {authorization}\r\n");
        let add =
            |request: &Vec<u8>| [REQUEST_LINE.as_bytes(), header.as_bytes(), &request[REQUEST_LINE.len()..]].concat();
        Self { requests: self.requests.iter().map(add).collect(), ..*self }
    }

    /// Returns the number of events that must be stored.
    pub fn unique(&self) -> u64 {
        self.events - self.duplicates
    }
}

/// Returns the topic of event `number`.
pub(super) fn topic(number: u64) -> &'static str {
    TOPICS[Random(number << 8).below(TOPICS.len())]
}

/// Returns the whole request with a body.
pub(super) fn request(body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "Host: sluice\r\nContent-Type: application/json\r\nContent-Length: ";
    format!("{REQUEST_LINE}{head}{length}\r\n\r\n{body}").into_bytes()
}

/// Appends the JSON of event `number`, which depends on nothing else. Returns its length in bytes.
pub(super) fn render_event(out: &mut String, topic: &str, number: u64) -> usize {
    let before = out.len();
    let mut random = Random((number << 8) + 1);
    let (seconds, millis) = (number / 1000, number % 1000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        r#"{{"topic":"{topic}","event_id":"evt-{number:010}","timestamp":"2026-11-20T{hour:02}:{minute:02}:{second:02}.{millis:03}Z","source":"service-{}","payload":{{"customer":{{"id":{},"region":"eu-{}","tier":"gold"}},"items":[{{"sku":"A-{:05}","quantity":{},"price":{}.{:02}}},{{"sku":"B-{:05}","quantity":{},"price":{}.{:02}}}],"total":{}.{:02},"currency":"EUR","paid":true,"trace":"{:016x}{:016x}"}}}}"#,
        random.below(20),
        random.below(1_000_000),
        random.below(4),
        random.below(100_000),
        random.below(9) + 1,
        random.below(500),
        random.below(100),
        random.below(100_000),
        random.below(9) + 1,
        random.below(500),
        random.below(100),
        random.below(9000),
        random.below(100),
        random.next(),
        random.next(),
    );
    out.len() - before
}

/// SplitMix64 (Steele, Lea and Flood, 2014): a small generator whose numbers are the same on every machine.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn bodies(workload: &Workload) -> Vec<serde_json::Value> {
        let events = workload.requests.iter().flat_map(|request| {
            let text = std::str::from_utf8(request).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            let events: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
            assert!(events.len() <= 100);
            events
        });
        events.collect()
    }

    fn ids(events: &[serde_json::Value]) -> HashSet<&str> {
        events.iter().map(|e| e["event_id"].as_str().unwrap()).collect()
    }

    #[test]
    fn the_share_of_duplicates_is_exact_and_they_repeat_what_came_before_to_the_byte() {
        for percent in [0, 30, 90] {
            let workload = Workload::render(WorkloadSpec::new(10_050, percent));
            let events = bodies(&workload);
            assert_eq!(events.len(), 10_050);
            let distinct: HashSet<String> = events.iter().map(ToString::to_string).collect();
            assert_eq!(workload.duplicates, 10_050 * u64::from(percent) / 100);
            assert_eq!((ids(&events).len() as u64, distinct.len() as u64), (workload.unique(), workload.unique()));
        }
    }

    #[test]
    fn duplicates_reach_back_to_what_was_sent_before() {
        let first = Workload::render(WorkloadSpec::new(5000, 0));
        let second = Workload::render(WorkloadSpec { after: 5000, ..WorkloadSpec::new(5000, 30) });
        let (first, events) = (bodies(&first), bodies(&second));
        let sent_before: HashSet<String> = first.iter().map(ToString::to_string).collect();
        let back = events.iter().filter(|event| sent_before.contains(&event.to_string())).count();
        assert!((1000..1500).contains(&back), "{back} of 1500 duplicates repeat the first 5000");
        let all: HashSet<&str> = ids(&first).union(&ids(&events)).copied().collect();
        assert_eq!(all.len() as u64, 5000 + second.unique());
    }

    #[test]
    fn a_marker_ends_each_request_under_its_number() {
        let workload = Workload::render(WorkloadSpec { markers: true, ..WorkloadSpec::new(1000, 30) });
        let events = bodies(&workload);
        let last: Vec<_> = events.chunks(100).map(|request| &request[99]).collect();
        for (number, marker) in last.iter().enumerate() {
            assert_eq!((&marker["topic"], &marker["event_id"]), (&MARKERS.into(), &format!("evt-{number:010}").into()));
        }
        assert_eq!(workload.duplicates, 990 * 30 / 100);
        assert_eq!(events.iter().filter(|event| event["topic"] == MARKERS).count(), 10);
    }

    #[test]
    fn events_are_as_large_as_those_of_earlier_measurements() {
        let size = Workload::render(WorkloadSpec::new(20_000, 30)).bytes_per_event;
        assert!((350.0..=372.0).contains(&size), "{size} bytes per event");
    }

    #[test]
    fn a_request_of_one_event_is_an_object_and_the_same_description_gives_the_same_requests() {
        let spec = WorkloadSpec { per_request: 1, ..WorkloadSpec::new(1000, 30) };
        let workload = Workload::render(spec);
        assert_eq!(workload.requests.len(), 1000);
        assert!(workload.requests[7].windows(5).any(|bytes| bytes == b"\r\n\r\n{"));
        assert_eq!(workload.requests, Workload::render(spec).requests);
    }
}
