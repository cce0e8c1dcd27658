//! The file of tokens: a YAML list of `{name, sha256, scopes, topics, expires, requests_per_second, events_per_second}`.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde_yaml::{Mapping, Value};
use sluice_event::Timestamp;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::limits::Rates;
use crate::{Scope, Scopes, Subject, TopicPattern, Topics};

/// The maximum number of tokens: each request compares its token with all of them. Whoever needs more uses JWTs.
const MAX_TOKENS: usize = 1_000;
const FIELDS: &str = "name, sha256, scopes, topics, expires, requests_per_second and events_per_second";
const MAX_NAME_BYTES: usize = 256;

/// A SHA-256 as four numbers, which are compared faster than its bytes.
type Hash = [u64; 4];

/// A token of the file.
#[derive(Debug)]
pub(crate) struct Token {
    sha256: Hash,
    pub(crate) subject: Arc<Subject>,
    /// The time at which it ends.
    pub(crate) expires: Option<Timestamp>,
    /// What it may send in a second, where that is not what the settings say.
    pub(crate) rates: Rates,
}

/// The tokens of a file.
#[derive(Debug)]
pub(crate) struct TokenFile {
    tokens: Vec<Token>,
}

impl TokenFile {
    /// Parses the content of a file.
    ///
    /// # Errors
    /// The item and the field, and what is wrong with it. Values are not repeated, because somebody may have written
    /// a token where its hash belongs.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        let items: Value = serde_yaml::from_slice(content).map_err(|error| format!("is no YAML: {error}"))?;
        let Value::Sequence(items) = items else { return Err("is no list of tokens".to_owned()) };
        if items.len() > MAX_TOKENS {
            return Err(format!("has more than {MAX_TOKENS} tokens"));
        }
        let mut seen = HashSet::new();
        let mut tokens = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let number = index + 1;
            let token = Item::new(number, item)?.token()?;
            if !seen.insert(token.sha256) {
                return Err(format!("item {number} ({}): sha256: another item has the same", token.subject.name));
            }
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    /// Returns the item of a presented token.
    ///
    /// Takes the same time for every token of the same length, whatever the file holds, by construction: the presented
    /// token is hashed, the hash is compared with that of every item without a branch, and the item that is equal is
    /// selected without a branch too. Only whether there is one decides what happens next, which the response tells
    /// anyway.
    pub(crate) fn find(&self, token: &str) -> Option<&Token> {
        let presented = words(digest(&SHA256, token.as_bytes()).as_ref());
        let mut found = u64::MAX;
        for (index, token) in (0u64..).zip(&self.tokens) {
            let equal = token.sha256.ct_eq(&presented);
            found.conditional_assign(&index, equal);
        }
        self.tokens.get(usize::try_from(found).ok()?)
    }

    /// Returns the number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// Checks the content of a file of tokens, for programs that make such a file.
///
/// # Errors
/// The item and the field, and what is wrong with it.
pub fn check_tokens(content: &[u8]) -> Result<(), String> {
    TokenFile::parse(content).map(|_| ())
}

/// Returns the words of 32 bytes. Missing bytes count as zeros, and further ones are left out.
fn words(bytes: &[u8]) -> Hash {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        *word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
    }
    words
}

/// An item of the list, of which fields are taken one after the other.
struct Item {
    number: usize,
    name: String,
    fields: Mapping,
}

impl Item {
    fn new(number: usize, item: Value) -> Result<Self, String> {
        let Value::Mapping(mut fields) = item else { return Err(format!("item {number}: is no mapping of fields")) };
        let name = match fields.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(format!("item {number}: name: must be a text")),
            None => return Err(format!("item {number}: name: is missing")),
        };
        check_name(&name).map_err(|reason| format!("item {number}: name: {reason}"))?;
        Ok(Self { number, name, fields })
    }

    fn token(mut self) -> Result<Token, String> {
        let sha256 = self.sha256()?;
        let scopes = self.scopes()?;
        let topics = self.topics()?;
        let expires = self.expires()?;
        let rates = Rates { requests: self.rate("requests_per_second")?, events: self.rate("events_per_second")? };
        if let Some(unknown) = self.fields.keys().next() {
            let field = unknown.as_str().unwrap_or("a field that is no text");
            return Err(self.error(field, format!("is no field of a token: use {FIELDS}")));
        }
        let subject = Arc::new(Subject { name: self.name.into(), scopes, topics });
        Ok(Token { sha256, subject, expires, rates })
    }

    fn sha256(&mut self) -> Result<Hash, String> {
        let text = self.text("sha256")?.ok_or_else(|| self.error("sha256", "is missing"))?;
        let mut bytes = [0; 32];
        let wrong = "must be the SHA-256 of the token as 64 hexadecimal digits";
        hex::decode_to_slice(text, &mut bytes).map_err(|_| self.error("sha256", wrong))?;
        Ok(words(&bytes))
    }

    fn scopes(&mut self) -> Result<Scopes, String> {
        let names = self.texts("scopes")?.ok_or_else(|| self.error("scopes", "is missing"))?;
        let scopes: Result<Scopes, _> = names.iter().map(|name| name.parse::<Scope>()).collect();
        scopes.map_err(|error| self.error("scopes", error))
    }

    fn topics(&mut self) -> Result<Topics, String> {
        let Some(patterns) = self.texts("topics")? else { return Ok(Topics::All) };
        let patterns: Result<Vec<TopicPattern>, _> = patterns.iter().map(|pattern| pattern.parse()).collect();
        patterns.map(|patterns| Topics::Only(patterns.into())).map_err(|error| self.error("topics", error))
    }

    fn expires(&mut self) -> Result<Option<Timestamp>, String> {
        let Some(text) = self.text("expires")? else { return Ok(None) };
        text.parse::<Timestamp>().map(Some).map_err(|error| self.error("expires", error))
    }

    fn rate(&mut self, field: &str) -> Result<Option<u32>, String> {
        let Some(value) = self.fields.remove(field) else { return Ok(None) };
        let rate = value.as_u64().and_then(|rate| u32::try_from(rate).ok()).filter(|&rate| rate > 0);
        rate.map(Some).ok_or_else(|| self.error(field, "must be a whole number of at least 1"))
    }

    fn text(&mut self, field: &str) -> Result<Option<String>, String> {
        match self.fields.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.error(field, "must be a text")),
        }
    }

    /// An empty list is refused: whoever writes `topics: []` may mean none or all.
    fn texts(&mut self, field: &str) -> Result<Option<Vec<String>>, String> {
        let texts: Option<Vec<String>> = match self.fields.remove(field) {
            None => return Ok(None),
            Some(Value::Sequence(values)) if !values.is_empty() => {
                values.into_iter().map(|value| value.as_str().map(str::to_owned)).collect()
            }
            Some(_) => None,
        };
        texts.map(Some).ok_or_else(|| self.error(field, "must be a list of one or more texts"))
    }

    fn error(&self, field: &str, reason: impl Display) -> String {
        format!("item {} ({}): {field}: {reason}", self.number, self.name)
    }
}

/// Checks the name of a subject.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let blank = name.trim().is_empty();
    if blank || name.len() > MAX_NAME_BYTES || name.chars().any(|c| c.is_control() || changes_lines(c)) {
        return Err(format!("must have 1 to {MAX_NAME_BYTES} bytes and no control characters"));
    }
    Ok(())
}

/// Returns whether a character ends a line, changes the direction of writing, or cannot be seen: with these, a name could
/// look like another one, or like a part of a line, where the log is read.
fn changes_lines(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(token: &str) -> String {
        hex::encode(digest(&SHA256, token.as_bytes()))
    }

    fn item(fields: &str) -> String {
        format!("- {{name: shop, sha256: {}, {fields}}}\n", sha256("secret"))
    }

    #[test]
    fn the_item_with_the_hash_of_the_token_is_found_among_others() {
        let others: String = (0..100)
            .map(|number| {
                let hash = sha256(&format!("token-{number}"));
                format!("- {{name: n{number}, sha256: '{hash}', scopes: [read]}}\n")
            })
            .collect();
        let file = TokenFile::parse((others + &item("scopes: [publish, admin], topics: ['orders.*']")).as_bytes());
        let file = file.unwrap();
        for number in 0..100 {
            let found = file.find(&format!("token-{number}")).unwrap();
            assert_eq!(&*found.subject.name, format!("n{number}"));
            assert!(found.subject.scopes.contains(Scope::Read) && found.subject.topics.allow("any"));
        }
        let found = file.find("secret").unwrap();
        assert_eq!(Scope::ALL.map(|scope| found.subject.scopes.contains(scope)), [true, false, true]);
        assert!(found.subject.topics.allow("orders.eu") && !found.subject.topics.allow("orders"));
        for token in ["", "token-100", "Secret", "secret "] {
            assert!(file.find(token).is_none(), "{token:?}");
        }
        let nobody = TokenFile::parse(b"[]").unwrap();
        assert!(nobody.find("secret").is_none());
    }

    #[test]
    fn the_time_at_which_a_token_ends_is_read_and_upper_case_in_a_hash_does_not_matter() {
        let upper = item("scopes: [read], expires: 2030-01-01T00:00:00+01:00")
            .replace(&sha256("secret"), &{ sha256("secret").to_uppercase() });
        let file = TokenFile::parse(upper.as_bytes()).unwrap();
        assert_eq!(file.find("secret").unwrap().expires.unwrap().to_string(), "2029-12-31T23:00:00Z");
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_item_and_the_field_and_without_the_value() {
        let other = format!("- {{name: other, sha256: {}, scopes: [read]}}\n", sha256("other"));
        for (text, expected) in [
            ("", "is no list of tokens"),
            ("tokens: []", "is no list of tokens"),
            ("- shop", "item 1: is no mapping of fields"),
            ("- {sha256: x}", "item 1: name: is missing"),
            ("- {name: 1}", "item 1: name: must be a text"),
            ("- {name: ' '}", "item 1: name: must have 1 to 256 bytes"),
            ("- {name: \"a\\nb\"}", "item 1: name: must have 1 to 256 bytes"),
            ("- {name: \"a\\u2028b\"}", "item 1: name: must have 1 to 256 bytes"),
            ("- {name: \"a\\u202Eb\"}", "item 1: name: must have 1 to 256 bytes"),
            ("- {name: \"a\\u200Bb\"}", "item 1: name: must have 1 to 256 bytes"),
            ("- {name: shop}", "item 1 (shop): sha256: is missing"),
            ("- {name: shop, sha256: my-secret}", "item 1 (shop): sha256: must be the SHA-256"),
            (&item("x: 1"), "item 1 (shop): scopes: is missing"),
            (&item("scopes: []"), "item 1 (shop): scopes: must be a list of one or more texts"),
            (&item("scopes: read"), "item 1 (shop): scopes: must be a list"),
            (&item("scopes: [root]"), "item 1 (shop): scopes: must be publish, read or admin"),
            (&item("scopes: [read], topics: []"), "item 1 (shop): topics: must be a list of one or more texts"),
            (&item("scopes: [read], topics: ['']"), "item 1 (shop): topics: a pattern of topics must not be empty"),
            (&item("scopes: [read], topics: [1]"), "item 1 (shop): topics: must be a list"),
            (&item("scopes: [read], expires: soon"), "item 1 (shop): expires: must be an RFC 3339 time"),
            (&item("scopes: [read], expires: 2030"), "item 1 (shop): expires: must be a text"),
            (&item("scopes: [read], events_per_second: 0"), "item 1 (shop): events_per_second: must be a whole number"),
            (&item("scopes: [read], requests_per_second: 1.5"), "item 1 (shop): requests_per_second: must be a whole"),
            (&item("scopes: [read], topic: ['a']"), "item 1 (shop): topic: is no field of a token"),
            (&item("scopes: [read], scopes: [admin]"), "is no YAML"),
            (&(other.clone() + &item("scopes: [read], 1: 2")), "item 2 (shop): a field that is no text"),
            (&(item("scopes: [read]") + &item("scopes: [read]")), "item 2 (shop): sha256: another item has the same"),
            ("- {name: shop", "is no YAML"),
        ] {
            let error = TokenFile::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("my-secret"), "{error}");
        }
        let many = (0..=MAX_TOKENS).map(|_| other.as_str()).collect::<String>();
        assert_eq!(TokenFile::parse(many.as_bytes()).unwrap_err(), "has more than 1000 tokens");
    }

    #[test]
    fn several_tokens_may_have_one_name() {
        let two = item("scopes: [read]") + &item("scopes: [read]").replace(&sha256("secret"), &sha256("next"));
        let file = TokenFile::parse(two.as_bytes()).unwrap();
        assert_eq!(file.find("secret").unwrap().subject.name, file.find("next").unwrap().subject.name);
    }
}
