//! What the claims of a verified JWT say about its subject.

use serde_json::{Map, Value};

use crate::token_file::check_name;
use crate::{Scope, Scopes, Subject, TopicPattern, Topics};

/// The claims of a JWT.
pub(super) type Claims = Map<String, Value>;

/// The names of the claims with the scopes and the topics.
#[derive(Debug, Clone)]
pub(crate) struct ClaimNames {
    pub(crate) scopes: String,
    pub(crate) topics: String,
}

impl ClaimNames {
    /// Returns the subject: its name is `sub`. Scopes that are not ours are left out, because a token may be for other
    /// services too. Without the claim with the topics it is for all topics.
    ///
    /// # Errors
    /// The claim that cannot be used, and why.
    pub(super) fn subject(&self, claims: &Claims) -> Result<Subject, String> {
        let Some(Value::String(name)) = claims.get("sub") else { return Err("sub: must be a text".to_owned()) };
        check_name(name).map_err(|reason| format!("sub: {reason}"))?;
        let scopes = texts(claims, &self.scopes)?.unwrap_or_default();
        let scopes: Scopes = scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect();
        let topics = match texts(claims, &self.topics)? {
            None => Topics::All,
            Some(patterns) => {
                let patterns: Result<Vec<TopicPattern>, _> = patterns.iter().map(|pattern| pattern.parse()).collect();
                Topics::Only(patterns.map_err(|error| format!("{}: {error}", self.topics))?.into())
            }
        };
        Ok(Subject { name: name.as_str().into(), scopes, topics })
    }
}

/// Returns the texts of a claim: those of a list, or those of a text that are separated by spaces (as `scope` is in
/// RFC 8693).
fn texts<'c>(claims: &'c Claims, name: &str) -> Result<Option<Vec<&'c str>>, String> {
    let texts = match claims.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) => Some(text.split_ascii_whitespace().collect()),
        Some(Value::Array(values)) => values.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    texts.map(Some).ok_or_else(|| format!("{name}: must be a list of texts, or a text with spaces between them"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn subject(claims: Value) -> Result<Subject, String> {
        let Value::Object(claims) = claims else { panic!("no claims") };
        ClaimNames { scopes: "scope".to_owned(), topics: "topics".to_owned() }.subject(&claims)
    }

    #[test]
    fn scopes_and_topics_are_lists_or_separated_by_spaces() {
        for (claims, scopes, orders, users) in [
            (json!({"sub": "a"}), [false; 3], true, true),
            (json!({"sub": "a", "scope": "openid publish read"}), [true, true, false], true, true),
            (json!({"sub": "a", "scope": ["admin", "publisher"]}), [false, false, true], true, true),
            (json!({"sub": "a", "scope": "", "topics": []}), [false; 3], false, false),
            (json!({"sub": "a", "topics": ["orders.*"]}), [false; 3], true, false),
            (json!({"sub": "a", "topics": "orders.* users"}), [false; 3], true, true),
        ] {
            let subject = subject(claims.clone()).unwrap();
            assert_eq!(Scope::ALL.map(|scope| subject.scopes.contains(scope)), scopes, "{claims}");
            assert_eq!((subject.topics.allow("orders.eu"), subject.topics.allow("users")), (orders, users), "{claims}");
        }
    }

    #[test]
    fn claims_of_another_type_are_refused_by_their_names() {
        for (claims, expected) in [
            (json!({}), "sub: must be a text"),
            (json!({"sub": 1}), "sub: must be a text"),
            (json!({"sub": ""}), "sub: must have"),
            (json!({"sub": "a\nb"}), "sub: must have"),
            (json!({"sub": "a\u{202e}b"}), "sub: must have"),
            (json!({"sub": "a", "scope": 1}), "scope: must be a list"),
            (json!({"sub": "a", "scope": null}), "scope: must be a list"),
            (json!({"sub": "a", "scope": [1]}), "scope: must be a list"),
            (json!({"sub": "a", "topics": {}}), "topics: must be a list"),
            (json!({"sub": "a", "topics": [""]}), "topics: a pattern of topics must not be empty"),
        ] {
            let error = subject(claims.clone()).unwrap_err();
            assert!(error.starts_with(expected), "{claims}: {error}");
        }
    }
}
