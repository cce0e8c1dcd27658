//! The problems of authentication and authorization.

use std::time::Duration;

use sluice_service::code::Code;
use sluice_service::problem::Problem;

use crate::Scope;

/// The keys are fetched again after a pause that grows up to a minute.
const KEYS_RETRY: Duration = Duration::from_secs(5);

/// The maximum number of characters of a topic in a message. That of an event is not longer, but a query may name any.
const MAX_TOPIC_CHARS: usize = 256;

/// The request has no token, and its route needs one.
pub(crate) fn no_token() -> Problem {
    let detail = "this needs a token: send the header Authorization with `Bearer` and the token";
    Problem::new(Code::Unauthorized, detail).challenge(r#"Bearer realm="sluice""#)
}

/// The request has a token that is not accepted. `reason` must tell nothing about tokens that are.
pub(crate) fn invalid_token(reason: &str) -> Problem {
    Problem::new(Code::Unauthorized, reason).challenge(r#"Bearer realm="sluice", error="invalid_token""#)
}

/// The keys of the issuer were not fetched yet, so that no JWT can be verified.
pub(crate) fn no_keys() -> Problem {
    let detail = "the keys of the issuer could not be fetched yet; try again";
    Problem::new(Code::KeysUnavailable, detail).public_detail(detail).retry_after(KEYS_RETRY)
}

/// The subject does not have the scope that the route needs.
pub(crate) fn missing_scope(scope: Scope) -> Problem {
    let challenge = match scope {
        Scope::Publish => r#"Bearer realm="sluice", error="insufficient_scope", scope="publish""#,
        Scope::Read => r#"Bearer realm="sluice", error="insufficient_scope", scope="read""#,
        Scope::Admin => r#"Bearer realm="sluice", error="insufficient_scope", scope="admin""#,
    };
    Problem::new(Code::MissingScope, format!("this needs the scope `{scope}`, which the token does not have"))
        .challenge(challenge)
}

/// The subject sends more than it may. `what` is requests or events.
pub(crate) fn rate_limited(what: &str, rate: u32, wait: Duration) -> Problem {
    Problem::new(Code::RateLimited, format!("the token is for {rate} {what} a second; come back later"))
        .retry_after(wait)
}

/// The subject is bounded by topics, and this is none of them.
pub fn topic_not_allowed(topic: &str) -> Problem {
    let shown: String = topic.chars().take(MAX_TOPIC_CHARS).collect();
    Problem::new(Code::TopicNotAllowed, format!("the token is not for the topic {shown:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_any_length_and_characters_is_a_short_line_of_the_answer_and_of_the_log() {
        assert_eq!(topic_not_allowed("a\nb").detail(), r#"the token is not for the topic "a\nb""#);
        let long = topic_not_allowed(&"ü".repeat(60_000)).detail().chars().count();
        assert!((MAX_TOPIC_CHARS..2 * MAX_TOPIC_CHARS).contains(&long), "{long} characters");
    }
}
