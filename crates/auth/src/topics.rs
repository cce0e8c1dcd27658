//! Patterns of topics: `orders.*`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The maximum number of bytes of a pattern. A topic has 256 bytes by default, and each `*` stands for at least one.
const MAX_BYTES: usize = 1_024;

/// A pattern that covers the whole name of a topic. `*` matches one or more characters of any kind, dots included;
/// every other character matches itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicPattern(Arc<str>);

/// A pattern that is not usable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It is empty, so that it would match no topic.
    #[error("a pattern of topics must not be empty")]
    Empty,
    /// It is too long.
    #[error("a pattern of topics has at most {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
}

impl FromStr for TopicPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.len() {
            0 => Err(InvalidPattern::Empty),
            bytes if bytes > MAX_BYTES => Err(InvalidPattern::TooLong(bytes)),
            _ => Ok(Self(text.into())),
        }
    }
}

impl TopicPattern {
    /// Returns the pattern that every topic matches.
    pub fn of_every_topic() -> Self {
        Self("*".into())
    }

    /// Returns whether the pattern covers the whole name.
    ///
    /// In time proportional to the product of both lengths at most: only the last `*` is ever extended, because what
    /// the ones before it match can stay as short as it is.
    pub fn matches(&self, topic: &str) -> bool {
        let (mut pattern, mut rest) = (self.0.as_ref(), topic);
        // Where to continue when what follows the last `*` does not match: after the `*`, and one character later.
        let mut retry: Option<(&str, &str)> = None;
        while let Some(character) = rest.chars().next() {
            let later = &rest[character.len_utf8()..];
            if let Some(after) = pattern.strip_prefix('*') {
                retry = Some((after, later));
                (pattern, rest) = (after, later);
            } else if let Some(after) = pattern.strip_prefix(character) {
                (pattern, rest) = (after, later);
            } else if let Some((after, from)) = retry
                && let Some(skipped) = from.chars().next()
            {
                let later = &from[skipped.len_utf8()..];
                retry = Some((after, later));
                (pattern, rest) = (after, later);
            } else {
                return false;
            }
        }
        pattern.is_empty()
    }

    /// Returns the text of the pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern contains no `*`: it is the name of one topic.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topics that a subject may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topics {
    /// Every topic, also those that do not exist yet.
    All,
    /// Topics that match one of these patterns.
    Only(Arc<[TopicPattern]>),
}

impl Topics {
    /// Returns whether a topic is one of them.
    pub fn allow(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(patterns) => patterns.iter().any(|pattern| pattern.matches(topic)),
        }
    }

    /// Returns the patterns, or `None` if every topic is allowed.
    pub fn patterns(&self) -> Option<&[TopicPattern]> {
        match self {
            Self::All => None,
            Self::Only(patterns) => Some(patterns),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern.parse::<TopicPattern>().unwrap().matches(topic)
    }

    #[test]
    fn a_star_matches_one_or_more_characters_and_the_pattern_covers_the_whole_name() {
        for (pattern, topic, expected) in [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("orders", "order", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.eu.north", true),
            ("orders.*", "orders.", false),
            ("orders.*", "orders", false),
            ("orders.*", "my.orders.eu", false),
            ("*", "a", true),
            ("*", "", false),
            ("**", "a", false),
            ("**", "ab", true),
            ("*.eu", "orders.eu", true),
            ("*.eu", ".eu", false),
            ("*.eu", "a.eu.eu", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "abbc", false),
            ("a*b*c", "abbbc", true),
            ("Orders.*", "orders.eu", false),
            ("*", "ü", true),
            ("**", "ü", false),
            ("ü*", "üb", true),
            ("a*ü", "aöü", true),
            ("a%_", "a%_", true),
            ("a%_", "abc", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_decided_in_bounded_time() {
        let pattern = "a*".repeat(500);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(100_000))[..256]));
    }

    #[test]
    fn patterns_that_match_nothing_or_are_too_long_are_refused() {
        assert_eq!("".parse::<TopicPattern>(), Err(InvalidPattern::Empty));
        assert_eq!("x".repeat(2_000).parse::<TopicPattern>(), Err(InvalidPattern::TooLong(2_000)));
    }

    /// The definition, as slow as it is plain.
    fn by_definition(pattern: &[char], topic: &[char]) -> bool {
        match (pattern.first(), topic.first()) {
            (None, None) => true,
            (Some('*'), Some(_)) => by_definition(&pattern[1..], &topic[1..]) || by_definition(pattern, &topic[1..]),
            (Some(p), Some(t)) if p == t => by_definition(&pattern[1..], &topic[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_its_definition_says(pattern in "[ab*ü]{1,8}", topic in "[abü]{0,10}") {
            let (p, t): (Vec<_>, Vec<_>) = (pattern.chars().collect(), topic.chars().collect());
            prop_assert_eq!(matches(&pattern, &topic), by_definition(&p, &t));
        }
    }
}
