//! A load without end, for runs of minutes: all its requests are made of a few thousand that were rendered beforehand.
//!
//! All requests of ten minutes would not fit into memory, and rendering them meanwhile would take CPU time from what is
//! measured. Here a request is copied, and only the digits of the ids change from one repetition of the rendered
//! requests to the next: each repetition has new events, and its duplicates repeat events of the same and of some
//! earlier repetitions byte for byte.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::closed::{on_one_thread, send_until_accepted};
use super::events::{Random, render_event, request, topic};
use super::http::Connection;

/// The number of events in a request.
pub const PER_REQUEST: usize = 100;
/// The digits of an event's number in its id.
const DIGITS: usize = 10;
/// The repetitions that a duplicate reaches back to, with its own: all are equally probable.
const REACH: usize = 8;

/// The requests that are repeated.
#[derive(Debug)]
pub struct Template {
    requests: Vec<Rendered>,
    /// The new events of one repetition.
    unique: u64,
}

/// One request of a repetition.
#[derive(Debug)]
struct Rendered {
    bytes: Vec<u8>,
    ids: Vec<Id>,
    /// The new events in this and in all earlier requests of the repetition.
    unique_so_far: u64,
}

/// The id of one event in a request.
#[derive(Debug)]
struct Id {
    /// Where its digits begin.
    at: usize,
    /// The number of the event among the new ones of a repetition.
    event: u64,
    /// How many repetitions earlier the event was new.
    back: u64,
}

impl Template {
    /// Renders requests of 100 events.
    pub fn render(events: usize, duplicate_percent: u8) -> Self {
        let duplicates = events * usize::from(duplicate_percent) / 100;
        let unique = events - duplicates;
        let mut random = Random(u64::from(duplicate_percent) + 1);
        let (mut fresh, mut repeated) = (0, 0);
        let (mut requests, mut body, mut ids) = (Vec::new(), String::new(), Vec::new());
        for place in 0..events {
            // Selection sampling, as in `Workload::render`.
            let (event, back) = if fresh > 0 && random.below(events - place) < duplicates - repeated {
                repeated += 1;
                match random.below(REACH) {
                    0 => (random.below(fresh), 0),
                    back => (random.below(unique), back),
                }
            } else {
                fresh += 1;
                (fresh - 1, 0)
            };
            body.push(if body.is_empty() { '[' } else { ',' });
            let at = body.len();
            render_event(&mut body, topic(event as u64), event as u64);
            let digits = body[at..].find("evt-").map_or(at, |found| at + found + "evt-".len());
            ids.push(Id { at: digits, event: event as u64, back: back as u64 });
            if ids.len() == PER_REQUEST || place + 1 == events {
                body.push(']');
                let bytes = request(&body);
                let head = bytes.len() - body.len();
                ids.iter_mut().for_each(|id| id.at += head);
                requests.push(Rendered { bytes, ids: std::mem::take(&mut ids), unique_so_far: fresh as u64 });
                body.clear();
            }
        }
        Self { requests, unique: unique as u64 }
    }

    /// Puts request `number`, counted from 0, into a buffer.
    fn copy_request(&self, number: u64, buffer: &mut Vec<u8>) {
        let (repetition, rendered) = self.rendered(number);
        buffer.clear();
        buffer.extend_from_slice(&rendered.bytes);
        for id in &rendered.ids {
            let mut rest = self.event(repetition, id);
            for digit in buffer[id.at..id.at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }

    /// Returns the number of different events in the first `requests` requests.
    pub fn unique_in(&self, requests: u64) -> u64 {
        let Some(last) = requests.checked_sub(1) else { return 0 };
        let (repetition, rendered) = self.rendered(last);
        if repetition > 0 {
            return repetition * self.unique + rendered.unique_so_far;
        }
        // In the first repetition, an event that is repeated from an earlier one may be sent before it is new.
        let ids = (0..requests).flat_map(|number| &self.rendered(number).1.ids);
        ids.map(|id| id.event).collect::<HashSet<_>>().len() as u64
    }

    fn rendered(&self, number: u64) -> (u64, &Rendered) {
        let length = self.requests.len() as u64;
        (number / length, &self.requests[(number % length) as usize])
    }

    fn event(&self, repetition: u64, id: &Id) -> u64 {
        // There are no repetitions before the first one.
        repetition.saturating_sub(id.back) * self.unique + id.event
    }
}

/// Sends requests until the permits are closed, one for each permit: from the number that `next` has, which is that of
/// the first request that was not sent when this returns. Returns how often a request was answered with 429 and sent
/// again.
///
/// # Errors
/// If a request gets another status than 202 and 429, or no response.
pub async fn send(
    address: &str,
    template: &Arc<Template>,
    next: &Arc<AtomicU64>,
    permits: &Arc<Semaphore>,
    connections: usize,
) -> anyhow::Result<u64> {
    let (address, template) = (address.to_owned(), template.clone());
    let (next, permits) = (next.clone(), permits.clone());
    on_one_thread(move || async move {
        let mut senders = JoinSet::new();
        for _ in 0..connections {
            let mut connection = Connection::open(&address).await?;
            let (template, next, permits) = (template.clone(), next.clone(), permits.clone());
            senders.spawn(async move {
                let (mut buffer, mut refused) = (Vec::new(), 0);
                while let Ok(permit) = permits.acquire().await {
                    permit.forget();
                    template.copy_request(next.fetch_add(1, Ordering::Relaxed), &mut buffer);
                    refused += send_until_accepted(&mut connection, &buffer).await?;
                }
                anyhow::Ok(refused)
            });
        }
        let mut refused = 0;
        while let Some(sender) = senders.join_next().await {
            refused += sender.context("a sender failed")??;
        }
        Ok(refused)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::load::events::{Workload, WorkloadSpec};

    /// Returns the events of a request, as they are written.
    fn events(template: &Template, number: u64) -> Vec<serde_json::Value> {
        let mut buffer = vec![b'x'; 7];
        template.copy_request(number, &mut buffer);
        let text = std::str::from_utf8(&buffer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn each_event_is_the_same_whenever_it_is_repeated_and_the_number_of_different_ones_is_known() {
        let template = Template::render(2_000, 30);
        let mut seen: HashMap<String, serde_json::Value> = HashMap::new();
        for number in 0..20 * 12 + 7 {
            for event in events(&template, number) {
                let first = seen.entry(event["event_id"].to_string()).or_insert_with(|| event.clone());
                assert_eq!(*first, event, "request {number}");
            }
            assert_eq!(seen.len() as u64, template.unique_in(number + 1), "after request {number}");
        }
    }

    #[test]
    fn once_there_were_earlier_repetitions_three_events_in_ten_are_duplicates() {
        let template = Template::render(2_000, 30);
        assert_eq!(template.unique_in(20 * 12) - template.unique_in(20 * 11), 1_400);
    }

    #[test]
    fn the_first_event_is_written_as_in_a_workload() {
        let workload = Workload::render(WorkloadSpec::new(2_000, 30));
        let (_, body) = std::str::from_utf8(&workload.requests[0]).unwrap().split_once("\r\n\r\n").unwrap();
        let first: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
        assert_eq!(events(&Template::render(2_000, 30), 0)[0], first[0]);
    }
}
