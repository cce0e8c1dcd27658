//! What is sent: whole HTTP requests, rendered before anything is timed, so that sending them
//! costs little on the cores that are being measured.

use std::fmt::Write;

/// Events in one request.
pub const PER_REQUEST: usize = 100;
/// How many topics they are spread over.
pub const TOPICS: [&str; 5] = ["orders", "payments", "shipments", "inventory", "telemetry"];

/// Requests to send, and what must come out of them.
#[derive(Debug)]
pub struct Workload {
    /// Each a whole HTTP/1.1 request.
    pub requests: Vec<Vec<u8>>,
    /// Events in all of them.
    pub events: u64,
    /// Of these, those that repeat an earlier one.
    pub duplicates: u64,
    /// Bytes of JSON per event, on average.
    pub bytes_per_event: f64,
}

impl Workload {
    /// `events` events of which exactly `duplicate_percent` in a hundred repeat, byte for byte, one
    /// chosen evenly among all before it. The same arguments give the same requests.
    pub fn render(events: usize, duplicate_percent: u8) -> Self {
        let duplicates = events * usize::from(duplicate_percent) / 100;
        let mut random = Random(u64::from(duplicate_percent) + 1);
        let (mut fresh, mut repeated, mut bytes) = (0, 0, 0);
        let mut requests = Vec::with_capacity(events.div_ceil(PER_REQUEST));
        let mut body = String::new();
        for sent in 0..events {
            // Selection sampling: exactly `duplicates` of the places, each set of them as likely.
            let repeats = fresh > 0 && random.below(events - sent) < duplicates - repeated;
            let number = if repeats { random.below(fresh) } else { fresh };
            if repeats {
                repeated += 1
            } else {
                fresh += 1
            }
            body.push(if body.is_empty() { '[' } else { ',' });
            bytes += render_event(&mut body, number as u64);
            if (sent + 1) % PER_REQUEST == 0 || sent + 1 == events {
                body.push(']');
                requests.push(request(&body));
                body.clear();
            }
        }
        let bytes_per_event = bytes as f64 / events.max(1) as f64;
        Self { requests, events: events as u64, duplicates: repeated as u64, bytes_per_event }
    }

    /// Events that must be stored.
    pub fn unique(&self) -> u64 {
        self.events - self.duplicates
    }
}

fn request(body: &str) -> Vec<u8> {
    let length = body.len();
    let head = "POST /publish HTTP/1.1\r\nHost: sluice\r\nContent-Type: application/json\r\nContent-Length: ";
    format!("{head}{length}\r\n\r\n{body}").into_bytes()
}

/// Appends the JSON of event `number`, which depends on nothing else; answers its length.
fn render_event(out: &mut String, number: u64) -> usize {
    let before = out.len();
    let mut random = Random(number << 8);
    let topic = TOPICS[random.below(TOPICS.len())];
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

/// SplitMix64: small, even enough, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
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
            assert!(events.len() <= PER_REQUEST);
            events
        });
        events.collect()
    }

    #[test]
    fn the_share_of_duplicates_is_exact_and_they_repeat_what_came_before_to_the_byte() {
        for percent in [0, 30, 90] {
            let workload = Workload::render(10_050, percent);
            let events = bodies(&workload);
            assert_eq!(events.len(), 10_050);
            let distinct: HashSet<String> = events.iter().map(ToString::to_string).collect();
            let ids: HashSet<&str> = events.iter().map(|e| e["event_id"].as_str().unwrap()).collect();
            assert_eq!(workload.duplicates, 10_050 * u64::from(percent) / 100);
            assert_eq!((ids.len() as u64, distinct.len() as u64), (workload.unique(), workload.unique()));
        }
    }

    #[test]
    fn events_are_as_large_as_the_ones_that_were_measured_before() {
        let size = Workload::render(20_000, 30).bytes_per_event;
        assert!((350.0..=372.0).contains(&size), "{size} bytes per event");
    }

    #[test]
    fn the_same_arguments_give_the_same_requests() {
        assert_eq!(Workload::render(1000, 30).requests, Workload::render(1000, 30).requests);
    }
}
