//! Brings the events of a batch to the server: repeats requests until they are answered, and divides those that are refused
//! because of a part of their events.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::batch::Batch;
use crate::http::Http;
use crate::outcome::{Outcome, Rejection};
use crate::requests::Attempts;
use crate::stats::{Counters, add};
use crate::verdict::{Verdict, concerns_content};

/// Sends batches to one server.
#[derive(Debug)]
pub(crate) struct Courier {
    pub(crate) http: Http,
    pub(crate) first_backoff: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) counters: Arc<Counters>,
}

impl Courier {
    /// Sends a batch until there is an outcome of each of its events, which may be never: the caller bounds the time.
    pub(crate) async fn deliver(&self, batch: &Batch) -> Vec<Outcome> {
        let mut outcomes = vec![Outcome::Delivered; batch.len()];
        let mut open = vec![batch.all()];
        while let Some(part) = open.pop() {
            open.extend(match self.answered(batch, &part).await {
                Answered::Accepted { rejected, listed } => settle(&mut outcomes, &part, rejected, listed),
                Answered::Refused { reason, listed } => refuse(&mut outcomes, &part, &reason, listed),
            });
        }
        outcomes
    }

    /// Repeats a request until it is answered.
    async fn answered(&self, batch: &Batch, part: &Range<usize>) -> Answered {
        let key = batch.key_of(part);
        let backoff = Backoff::new(self.first_backoff, self.max_backoff);
        let mut request = Attempts::new(&self.http, key.clone(), batch.lines(part), part.len(), backoff);
        loop {
            let verdict = request.verdict().await;
            let attempts = request.number();
            if attempts > 1 {
                add(&self.counters.repeated, 1);
            }
            let failure = match verdict {
                Verdict::Accepted { rejected, listed } => return Answered::Accepted { rejected, listed },
                Verdict::Refused { reason, listed } => return Answered::Refused { reason, listed },
                Verdict::Again { failure, .. } => failure,
            };
            let reason = failure.reason;
            if attempts == 1 {
                tracing::warn!(key, reason, "a request to the server is repeated");
            } else {
                tracing::debug!(key, reason, attempts, "a request to the server is repeated again");
            }
            self.counters.failed(reason);
        }
    }
}

/// An answer that ends a request.
enum Answered {
    Accepted { rejected: u64, listed: Vec<(usize, Rejection)> },
    Refused { reason: Rejection, listed: Vec<(usize, Rejection)> },
}

/// Notes the outcomes of a part that was accepted but for some events, and returns what has to be sent again to know them all.
///
/// An answer lists the first 100 errors. If there are more, the events behind the last one that is listed are sent again, as a
/// request of their own: each of them that was accepted before is a duplicate then, which is stored once.
fn settle(
    outcomes: &mut [Outcome],
    part: &Range<usize>,
    rejected: u64,
    listed: Vec<(usize, Rejection)>,
) -> Vec<Range<usize>> {
    let is_complete = listed.len() as u64 >= rejected;
    let known = listed.iter().map(|(index, _)| index + 1).max().unwrap_or(0);
    note(outcomes, part, listed);
    if is_complete {
        return Vec::new();
    }
    match known {
        0 if part.len() > 1 => halves(part),
        0 => {
            let detail = "the server refused the event and gave no reason".to_owned();
            let reason = Rejection { status: 202, code: "unknown".to_owned(), field: None, detail };
            outcomes[part.clone()].fill(Outcome::Rejected(reason));
            Vec::new()
        }
        _ => remaining(part.start + known..part.end),
    }
}

/// Notes the outcomes of a part that was refused as a whole, and returns the parts of which it is still to be known which
/// events were the reason.
fn refuse(
    outcomes: &mut [Outcome],
    part: &Range<usize>,
    reason: &Rejection,
    listed: Vec<(usize, Rejection)>,
) -> Vec<Range<usize>> {
    if part.len() > 1 && concerns_content(reason) {
        if listed.len() < part.len() {
            return halves(part);
        }
        note(outcomes, part, listed);
        return Vec::new();
    }
    outcomes[part.clone()].fill(Outcome::Rejected(reason.clone()));
    note(outcomes, part, listed);
    Vec::new()
}

fn note(outcomes: &mut [Outcome], part: &Range<usize>, listed: Vec<(usize, Rejection)>) {
    for (index, reason) in listed {
        if let Some(outcome) = outcomes[part.clone()].get_mut(index) {
            *outcome = Outcome::Rejected(reason);
        }
    }
}

fn remaining(part: Range<usize>) -> Vec<Range<usize>> {
    if part.is_empty() { Vec::new() } else { vec![part] }
}

fn halves(part: &Range<usize>) -> Vec<Range<usize>> {
    let middle = part.start + part.len() / 2;
    // They are taken from the end.
    [middle..part.end, part.start..middle].into_iter().flat_map(remaining).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(code: &str) -> Rejection {
        Rejection { status: 422, code: code.into(), field: None, detail: String::new() }
    }

    fn rejected(code: &str) -> Outcome {
        Outcome::Rejected(reason(code))
    }

    #[test]
    fn events_behind_the_last_listed_error_are_sent_again_if_more_were_rejected() {
        let mut outcomes = vec![Outcome::Delivered; 8];
        let listed = vec![(0, reason("a")), (2, reason("b"))];
        assert!(settle(&mut outcomes, &(2..8), 2, listed.clone()).is_empty());
        assert_eq!(settle(&mut outcomes, &(2..8), 3, listed), vec![Range { start: 5, end: 8 }]);
        assert_eq!((&outcomes[2], &outcomes[3], &outcomes[4]), (&rejected("a"), &Outcome::Delivered, &rejected("b")));
    }

    #[test]
    fn a_part_that_is_refused_because_of_some_events_is_divided() {
        let mut outcomes = vec![Outcome::Delivered; 5];
        assert_eq!(refuse(&mut outcomes, &(0..5), &reason("topic_not_allowed"), vec![]), [2..5, 0..2]);
        assert!(refuse(&mut outcomes, &(4..5), &reason("topic_not_allowed"), vec![]).is_empty());
        assert_eq!(outcomes[3..], [Outcome::Delivered, rejected("topic_not_allowed")]);
    }

    #[test]
    fn a_refusal_that_concerns_no_event_ends_all_of_them() {
        let mut outcomes = vec![Outcome::Delivered; 2];
        assert!(refuse(&mut outcomes, &(0..2), &reason("unauthorized"), vec![]).is_empty());
        assert_eq!(outcomes, [rejected("unauthorized"), rejected("unauthorized")]);
    }

    #[test]
    fn a_refusal_that_lists_every_event_needs_no_division() {
        let mut outcomes = vec![Outcome::Delivered; 2];
        let listed = vec![(0, reason("a")), (1, reason("b"))];
        assert!(refuse(&mut outcomes, &(0..2), &reason("invalid_event"), listed).is_empty());
        assert_eq!(outcomes, [rejected("a"), rejected("b")]);
    }
}
