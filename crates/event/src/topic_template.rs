//! The template by which the topic of a CloudEvent follows from its attributes: `{type}`, or `shop.{source}.{type}`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A text in which names in braces stand for attributes of a CloudEvent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Attribute(String),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It has no attribute: all events would have one topic.
    #[error("must have an attribute in braces, such as {{type}}")]
    NoAttribute,
    /// A brace has no counterpart.
    #[error("has a brace without its counterpart")]
    Unbalanced,
    /// A name in braces cannot be one of an attribute.
    #[error("`{{{0}}}` is no attribute: names have lower-case letters and digits")]
    Name(String),
}

impl Default for TopicTemplate {
    fn default() -> Self {
        Self { parts: vec![Part::Attribute("type".into())] }
    }
}

impl TopicTemplate {
    /// Returns the topic. `attribute` returns the value of an attribute by its name.
    ///
    /// # Errors
    /// The name of the first attribute that the event does not have.
    pub fn topic<'a, 't>(&'t self, attribute: impl Fn(&str) -> Option<Cow<'a, str>>) -> Result<Cow<'a, str>, &'t str> {
        if let [Part::Attribute(name)] = &*self.parts {
            return attribute(name).ok_or(name);
        }
        let mut topic = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Attribute(name) => topic.push_str(&attribute(name).ok_or(name.as_str())?),
            }
        }
        Ok(Cow::Owned(topic))
    }

    /// Returns whether the topic contains this attribute.
    pub fn contains(&self, name: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Attribute(attribute) if attribute == name))
    }
}

/// Returns whether a text can be the name of an attribute: lower-case letters and digits (CloudEvents 1.0, "Naming
/// Conventions").
pub(crate) fn is_attribute_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

impl FromStr for TopicTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let (name, after) =
                from.strip_prefix('{').and_then(|from| from.split_once('}')).ok_or(InvalidTemplate::Unbalanced)?;
            if !is_attribute_name(name) {
                return Err(InvalidTemplate::Name(name.into()));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            parts.push(Part::Attribute(name.into()));
            rest = after;
        }
        if parts.is_empty() {
            return Err(InvalidTemplate::NoAttribute);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts })
    }
}

/// The form used in settings.
impl fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Attribute(name) => write!(f, "{{{name}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(template: &str) -> Result<String, String> {
        let template: TopicTemplate = template.parse().unwrap();
        let attribute = |name: &str| match name {
            "type" => Some(Cow::Borrowed("order.created")),
            "tenant" => Some(Cow::Borrowed("a")),
            _ => None,
        };
        template.topic(attribute).map(Cow::into_owned).map_err(Into::into)
    }

    #[test]
    fn attributes_are_put_in_the_place_of_their_names() {
        assert_eq!(topic("{type}"), Ok("order.created".into()));
        assert_eq!(topic("shop.{tenant}.{type}!"), Ok("shop.a.order.created!".into()));
        assert_eq!(topic("{tenant}{tenant}"), Ok("aa".into()));
        assert_eq!(topic("{type}.{subject}"), Err("subject".into()));
    }

    #[test]
    fn a_template_is_shown_as_it_was_given_and_the_default_is_the_type() {
        for text in ["{type}", "a{type}b{source}c"] {
            assert_eq!(text.parse::<TopicTemplate>().unwrap().to_string(), text);
        }
        assert_eq!(TopicTemplate::default(), "{type}".parse().unwrap());
        assert!(TopicTemplate::default().contains("type") && !TopicTemplate::default().contains("source"));
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        for text in ["", "orders"] {
            assert_eq!(text.parse::<TopicTemplate>(), Err(InvalidTemplate::NoAttribute), "{text}");
        }
        for text in ["{type", "type}", "{type}}", "{"] {
            assert_eq!(text.parse::<TopicTemplate>(), Err(InvalidTemplate::Unbalanced), "{text}");
        }
        for (text, name) in [("{}", ""), ("{Type}", "Type"), ("{{type}}", "{type"), ("{a b}", "a b")] {
            assert_eq!(text.parse::<TopicTemplate>(), Err(InvalidTemplate::Name(name.into())), "{text}");
        }
    }
}
