//! The making of a token.

use std::fmt::Write;

use clap::Args;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use sluice_event::Timestamp;

use crate::token_file::check_name;
use crate::{Scope, TopicPattern};

/// What tokens of ours begin with, so that they are recognised where they do not belong, such as in a repository.
const PREFIX: &str = "sluice_";

/// Settings of `token`.
#[derive(Debug, Clone, Args)]
pub struct NewToken {
    /// Name of the client. Several tokens may have the same name, so that one can replace the other
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub name: String,
    /// What the token is for: publish, read or admin; may be given several times
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    pub scopes: Vec<Scope>,
    /// Pattern of the topics that it is for, such as 'orders.*'; may be given several times. Without it the token is
    /// for all topics
    #[arg(long = "topic", value_name = "PATTERN")]
    pub topics: Vec<TopicPattern>,
    /// The time at which it ends, such as 2030-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub expires: Option<Timestamp>,
}

fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

impl NewToken {
    /// Makes a token of 256 random bits. Returns it, and its item for the file of `--tokens`.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn make(&self) -> anyhow::Result<(String, String)> {
        let patterns = self.topics.iter().map(TopicPattern::as_str);
        anyhow::ensure!(!patterns.flat_map(str::chars).any(char::is_control), "--topic: has control characters");
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
        let token = format!("{PREFIX}{}", hex::encode(random));
        let sha256 = hex::encode(digest(&SHA256, token.as_bytes()));
        let scopes: Vec<_> = self.scopes.iter().map(|scope| scope.as_str()).collect();
        let mut item =
            format!("- name: {}\n  sha256: '{sha256}'\n  scopes: [{}]\n", quoted(&self.name), { scopes.join(", ") });
        // Writing to a text cannot fail.
        if !self.topics.is_empty() {
            let topics: Vec<_> = self.topics.iter().map(|topic| quoted(topic.as_str())).collect();
            let _ = writeln!(item, "  topics: [{}]", topics.join(", "));
        }
        if let Some(expires) = self.expires {
            let _ = writeln!(item, "  expires: '{expires}'");
        }
        Ok((token, item))
    }
}

/// Returns a text in the quotes of YAML in which only they themselves are escaped.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_file::TokenFile;

    #[test]
    fn a_made_token_is_accepted_by_the_file_with_its_item() {
        let settings = NewToken {
            name: "it's: a 'shop' # 1".to_owned(),
            scopes: vec![Scope::Publish, Scope::Read],
            topics: vec!["orders.*".parse().unwrap(), "'a: b".parse().unwrap()],
            expires: Some("2030-01-01T00:00:00Z".parse().unwrap()),
        };
        let (token, item) = settings.make().unwrap();
        let (other, other_item) = settings.make().unwrap();
        assert_ne!(token, other);
        let digits = token.strip_prefix(PREFIX).unwrap();
        assert_eq!(hex::decode(digits).unwrap().len() * 8, 256);
        assert!(!item.contains(digits), "the item shows the token");

        let file = TokenFile::parse((item + &other_item).as_bytes()).unwrap();
        let found = file.find(&token).unwrap();
        assert_eq!(*found.subject.name, settings.name);
        assert_eq!(Scope::ALL.map(|scope| found.subject.scopes.contains(scope)), [true, true, false]);
        assert_eq!(found.subject.topics.patterns(), Some(settings.topics.as_slice()));
        assert_eq!(found.expires, settings.expires);
        assert!(file.find(&other).is_some());
    }
}
