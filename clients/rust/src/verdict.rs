//! What an answer says about the events of a request.

use reqwest::StatusCode;
use serde::Deserialize;

use crate::error::Failure;
use crate::http::Reply;
use crate::outcome::Rejection;

/// What is to be done after a reply.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All events that are not among these were accepted, if no more were rejected than are listed.
    Accepted { rejected: u64, listed: Vec<(usize, Rejection)> },
    /// None was accepted.
    Refused { reason: Rejection, listed: Vec<(usize, Rejection)> },
    /// Nothing is known or the server asks for it: the same request again.
    Again { failure: Failure, now: bool },
}

/// The body of a 202.
#[derive(Deserialize)]
struct Accepted {
    count: u64,
    #[serde(default)]
    rejected: u64,
    #[serde(default)]
    errors: Vec<Fault>,
}

/// A problem document.
#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    detail: String,
    field: Option<String>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    index: Option<usize>,
    field: Option<String>,
    code: String,
    #[serde(default)]
    detail: String,
}

impl Verdict {
    /// Returns what a reply to a request with so many events says.
    pub(crate) fn of(reply: Reply, events: usize) -> Self {
        let (status, body, retry_after, token_changed) = match reply {
            Reply::Lost(failure) => return Self::Again { failure, now: false },
            Reply::Answer { status, body, retry_after, token_changed } => (status, body, retry_after, token_changed),
        };
        let failure = || Failure { reason: text_of(status, &body), retry_after, error: None };
        if status == StatusCode::ACCEPTED {
            // Anything else comes from something in between that is broken: repeating is safe, and guessing is not.
            return match serde_json::from_slice::<Accepted>(&body) {
                Ok(answer) if answer.count + answer.rejected == events as u64 => {
                    Self::Accepted { rejected: answer.rejected, listed: listed(status, answer.errors, events) }
                }
                _ => Self::Again { failure: failure(), now: false },
            };
        }
        let is_final = status.is_client_error()
            && !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            && !token_changed;
        if !is_final {
            return Self::Again { failure: failure(), now: token_changed };
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(Problem { code, detail, field, errors }) => Self::Refused {
                reason: Rejection { status: status.as_u16(), code, field, detail },
                listed: listed(status, errors, events),
            },
            // Not an answer of Sluice, but one of something in between.
            Err(_) => {
                let detail = text_of(status, &body);
                let code = "unknown".to_owned();
                let reason = Rejection { status: status.as_u16(), code, field: None, detail };
                Self::Refused { reason, listed: Vec::new() }
            }
        }
    }
}

/// Whether the refusal of a request concerns what is in it, so that a part of its events may be accepted without the others.
pub(crate) fn concerns_content(reason: &Rejection) -> bool {
    let codes = ["malformed_json", "topic_not_allowed", "invalid_event", "payload_too_deep"];
    reason.status == 413 || codes.contains(&reason.code.as_str())
}

fn listed(status: StatusCode, faults: Vec<Fault>, events: usize) -> Vec<(usize, Rejection)> {
    let of_events = faults.into_iter().filter_map(|Fault { index, field, code, detail }| {
        let index = index.filter(|index| *index < events)?;
        Some((index, Rejection { status: status.as_u16(), code, field, detail }))
    });
    of_events.collect()
}

/// Returns the start of an answer, for a message.
fn text_of(status: StatusCode, body: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned();
    format!("{status}: {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Verdict {
        let status = StatusCode::from_u16(status).unwrap();
        let body = body.to_owned().into();
        Verdict::of(Reply::Answer { status, body, retry_after: None, token_changed: false }, 2)
    }

    #[test]
    fn only_an_answer_that_counts_every_event_is_final() {
        let all = answer(202, r#"{"status":"accepted","count":2}"#);
        assert!(matches!(&all, Verdict::Accepted { rejected: 0, listed } if listed.is_empty()), "{all:?}");
        for broken in ["", "{}", "<html>", r#"{"status":"accepted","count":1}"#, r#"{"count":2,"rejected":1}"#] {
            assert!(matches!(answer(202, broken), Verdict::Again { .. }), "{broken}");
        }
    }

    #[test]
    fn rejected_events_are_listed_with_their_place() {
        let body = r#"{"count":1,"rejected":1,"errors":[{"index":1,"field":"payload","code":"c","detail":"d"}]}"#;
        let field = Some("payload".to_owned());
        let reason = Rejection { status: 202, code: "c".into(), field, detail: "d".into() };
        let Verdict::Accepted { rejected, listed } = answer(202, body) else { panic!("it is accepted") };
        assert_eq!((rejected, listed), (1, vec![(1, reason)]));
    }

    #[test]
    fn statuses_that_pass_are_repeated_and_other_refusals_end_the_request() {
        for passing in [408, 429, 500, 502, 503, 504, 200, 301] {
            assert!(matches!(answer(passing, "{}"), Verdict::Again { now: false, .. }), "{passing}");
        }
        for ending in [400, 401, 403, 404, 413, 422] {
            assert!(matches!(answer(ending, "<html>"), Verdict::Refused { .. }), "{ending}");
        }
    }

    #[test]
    fn a_refused_token_is_repeated_at_once_if_there_is_another_by_now() {
        let (status, body) = (StatusCode::UNAUTHORIZED, "{}".into());
        let reply = Reply::Answer { status, body, retry_after: None, token_changed: true };
        assert!(matches!(Verdict::of(reply, 1), Verdict::Again { now: true, .. }));
    }
}
