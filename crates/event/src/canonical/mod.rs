//! The hash of a payload by its JSON value: object members are sorted, white space and escapes are
//! normalised, number tokens stay exactly as given. The hash distinguishes a repeated event from a
//! conflict (the same key with another payload).
//!
//! The walk also refuses JSON that a parser accepts, but PostgreSQL or a later reader does not:
//! duplicate keys, NUL, lone surrogates, and more levels of nesting than the limit.

mod error;
mod member;
mod walk;

pub use error::PayloadError;
pub(crate) use walk::Canonical;

use crate::PayloadHash;

/// Returns the hash of a JSON text by its value: 128 bits of BLAKE3 over the canonical form.
///
/// # Errors
/// When the text is not JSON, is nested deeper than `max_depth` levels, or cannot be stored.
pub fn hash(json: &str, max_depth: usize) -> Result<PayloadHash, PayloadError> {
    let json = json.as_bytes();
    let (hash, end) = Canonical::for_text(json.len()).hash(json, crate::scan::space(json, 0), max_depth)?;
    if crate::scan::space(json, end) < json.len() {
        return Err(PayloadError::Malformed);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        hash(a, 64).unwrap() == hash(b, 64).unwrap()
    }

    #[test]
    fn order_of_members_white_space_and_escapes_do_not_matter() {
        assert!(same(r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ],\n\"a\":1 }"));
        assert!(same(r#"{"k":{"y":1,"x":2},"a":{}}"#, r#"{"a":{},"k":{"x":2,"y":1}}"#));
        assert!(same(r#""\u0041\/\u00e9\ud83d\ude00\u0022\u005c""#, "\"A/é😀\\\"\\\\\""));
    }

    #[test]
    fn what_differs_in_value_or_in_a_number_token_differs() {
        assert!(!same("1", "1.0"));
        assert!(!same("1e2", "100"));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same(r#"["a","b"]"#, r#"["a,b"]"#));
        assert!(!same(r#"["a\",\"b"]"#, r#"["a","b"]"#));
        assert!(!same(r#"{"a":{}}"#, r#"{"a":[]}"#));
        assert!(!same(r#""1""#, "1"));
    }

    #[test]
    fn members_of_large_objects_and_keys_that_begin_alike_are_ordered_too() {
        let object = |keys: &mut dyn Iterator<Item = usize>| {
            let members: Vec<_> = keys.map(|key| format!("\"the same beginning {key}\":{key},\"k{key}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        for count in [2, 5, 6, 7, 40] {
            assert!(same(&object(&mut (0..count)), &object(&mut (0..count).rev())), "{count}");
            let twice = object(&mut (0..count).rev().chain([1]));
            assert!(matches!(hash(&twice, 64), Err(PayloadError::DuplicateKey(_))), "{twice}");
        }
        // Keys are compared with their quotes: a space sorts before the quote that ends a key.
        assert_eq!(
            hash(r#"{"a":1,"a b":2}"#, 64).unwrap(),
            PayloadHash::from_bytes(crate::key::hash128(br#"{"a b":2,"a":1,}"#))
        );
    }

    #[test]
    fn a_key_given_twice_is_refused_also_when_written_differently() {
        assert_eq!(hash(r#"{"x":{"a":1,"\u0061":2}}"#, 64), Err(PayloadError::DuplicateKey("a".into())));
        assert!(hash(r#"[{"a":1},{"a":2}]"#, 64).is_ok());
    }

    #[test]
    fn nul_and_lone_surrogates_are_refused() {
        assert_eq!(hash(r#"{"a\u0000":1}"#, 64), Err(PayloadError::Nul));
        for text in [r#""\ud800""#, r#""\ud800x""#, r#""\ud800\ud800""#, r#""\udc00""#, r#""\ud83d\n""#] {
            assert_eq!(hash(text, 64), Err(PayloadError::LoneSurrogate), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_to_the_level() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(hash(&nested(64), 64).is_ok());
        assert_eq!(hash(&nested(65), 64), Err(PayloadError::TooDeep(64)));
        assert_eq!(hash(&"[".repeat(1_000_000), 64), Err(PayloadError::TooDeep(64)));
    }

    #[test]
    fn text_that_is_not_json_never_panics() {
        for text in ["", " ", "{", "[1", "{\"a\"", "{\"a\":}", "[,]", "\"\\", "\"\\u12", "{a:1}", "1 2"] {
            assert_eq!(hash(text, 64), Err(PayloadError::Malformed), "{text}");
        }
    }
}
