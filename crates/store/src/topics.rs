//! The topics that a subject may read.
//!
//! [`Patterns::allow`] alone decides which topics match. What a database compares with `LIKE` or `GLOB` only keeps it
//! from returning most of the others: SQLite, for example, does not tell U+FFFE from U+FFFD.

use std::sync::Arc;

use sluice_auth::{TopicPattern, Topics};

/// The largest number of topics whose events are merged. Each step of a page looks at the newest event of each: so many
/// take PostgreSQL 60 ms.
const MAX_LISTED: usize = 10_000;
/// The largest number of bytes that their names may have: they are in memory as long as a list is sent.
const MAX_LISTED_BYTES: usize = 1 << 20;

/// The patterns of a subject that is bounded by topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(Arc<[TopicPattern]>);

impl Patterns {
    /// Returns the patterns of these topics; `None` if every topic is allowed.
    pub fn of(topics: &Topics) -> Option<Self> {
        match topics {
            Topics::All => None,
            Topics::Only(patterns) => Some(Self(Arc::clone(patterns))),
        }
    }

    /// Returns whether a topic matches one of them.
    pub fn allow(&self, topic: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }

    /// Returns patterns for `LIKE`, with its default escape character, which match every topic that these match.
    pub(crate) fn like(&self) -> Vec<String> {
        let like = |pattern: &str| {
            pattern.chars().fold(String::new(), |mut like, c| {
                match c {
                    '*' => like.push_str("_%"),
                    '%' | '_' | '\\' => like.extend(['\\', c]),
                    _ => like.push(c),
                }
                like
            })
        };
        self.usable().map(like).collect()
    }

    /// Returns patterns for `GLOB`, as a JSON array, which match every topic that these match.
    pub(crate) fn globs(&self) -> String {
        let glob = |pattern: &str| {
            pattern.chars().fold(String::new(), |mut glob, c| {
                match c {
                    '*' => glob.push_str("?*"),
                    '?' | '[' => glob.extend(['[', c, ']']),
                    _ => glob.push(c),
                }
                glob
            })
        };
        json(&self.usable().map(glob).collect::<Vec<_>>())
    }

    /// Returns the patterns that can match a topic. No topic has NUL, and PostgreSQL takes none in a text.
    fn usable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(TopicPattern::as_str).filter(|pattern| !pattern.contains('\0'))
    }
}

/// Returns values as a JSON array, which is how SQLite takes several as one parameter.
pub(crate) fn json<T: Clone + Into<serde_json::Value>>(values: &[T]) -> String {
    serde_json::Value::from(values).to_string()
}

/// The topics whose events a list has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TopicSelection {
    /// All.
    #[default]
    All,
    /// These, sorted. Their events are merged by the index on topic and `seq`: no rows of other topics are looked at.
    Listed(Arc<[String]>),
    /// Those that match: they are too many to be listed, so rows of other topics are looked at too.
    Matching(Patterns),
}

impl TopicSelection {
    /// The number of topics that a store reads at most to select from: one more than can be listed.
    pub(crate) const MAX_FOUND: i64 = MAX_LISTED as i64 + 1;

    /// Returns the selection of patterns that no store is needed for, because each of them is a name.
    pub(crate) fn of_names(patterns: &Patterns) -> Option<Self> {
        let names = patterns.0.iter().all(TopicPattern::is_exact);
        names.then(|| Self::of_found(patterns, patterns.usable().map(str::to_owned).collect()))
    }

    /// Returns the selection of patterns, from the topics that a store has found.
    pub(crate) fn of_found(patterns: &Patterns, mut found: Vec<String>) -> Self {
        let too_many = found.len() > MAX_LISTED || found.iter().map(String::len).sum::<usize>() > MAX_LISTED_BYTES;
        if too_many {
            return Self::Matching(patterns.clone());
        }
        found.retain(|topic| patterns.allow(topic));
        found.sort_unstable();
        found.dedup();
        Self::Listed(found.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns<const N: usize>(texts: [&str; N]) -> Patterns {
        Patterns(texts.map(|text| text.parse().unwrap()).into())
    }

    #[test]
    fn what_has_a_meaning_in_like_or_glob_is_escaped() {
        let patterns = patterns(["a*", "100%_\\", "[a]?", "nul\0"]);
        assert_eq!(patterns.like(), ["a_%", r"100\%\_\\", "[a]?"]);
        assert_eq!(patterns.globs(), r#"["a?*","100%_\\","[[]a][?]"]"#);
    }

    #[test]
    fn names_are_listed_without_a_store_and_what_matches_is_listed_unless_it_is_too_much() {
        let listed = |topics: &[&str]| TopicSelection::Listed(topics.iter().map(|&topic| topic.to_owned()).collect());
        assert_eq!(TopicSelection::of_names(&patterns(["b", "a", "b"])), Some(listed(&["a", "b"])));
        assert_eq!(TopicSelection::of_names(&patterns([])), Some(listed(&[])));
        let starred = patterns(["b", "a*"]);
        assert_eq!(TopicSelection::of_names(&starred), None);
        let found = ["b", "a", "a1"].map(str::to_owned).to_vec();
        assert_eq!(TopicSelection::of_found(&starred, found), listed(&["a1", "b"]));
        let many = (0..=MAX_LISTED).map(|n| format!("a{n}")).collect();
        assert_eq!(TopicSelection::of_found(&starred, many), TopicSelection::Matching(starred.clone()));
        let large = vec!["a".repeat(MAX_LISTED_BYTES + 1)];
        assert_eq!(TopicSelection::of_found(&starred, large), TopicSelection::Matching(starred));
    }
}
