//! Finds the values at JSON pointers (RFC 6901) in a payload, all of them in one pass, without copying any.

use std::borrow::Cow;
use std::fmt;

use crate::scan;

/// The largest number of parts of a pointer.
const MAX_PARTS: usize = 16;
/// The largest length of a pointer in bytes.
const MAX_BYTES: usize = 256;

/// A JSON pointer: names of members and positions in arrays, each after a `/`. The empty one is the whole value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    text: Box<str>,
    parts: Box<[Box<str>]>,
}

/// Why a text is no pointer that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPointer {
    /// It does not begin as a pointer does.
    #[error("must be empty or begin with /")]
    NoSlash,
    /// `~` has a meaning of its own.
    #[error("has a ~ that is not followed by 0 or 1 (~0 is ~, and ~1 is /)")]
    Escape,
    /// It is too long.
    #[error("is longer than {MAX_BYTES} bytes, or has more than {MAX_PARTS} parts")]
    TooLong,
}

impl std::str::FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let mut parts = text.split('/');
        if parts.next() != Some("") {
            return Err(InvalidPointer::NoSlash);
        }
        let parts = parts.map(unescape).collect::<Result<Box<[_]>, _>>()?;
        if text.len() > MAX_BYTES || parts.len() > MAX_PARTS {
            return Err(InvalidPointer::TooLong);
        }
        Ok(Self { text: text.into(), parts })
    }
}

fn unescape(part: &str) -> Result<Box<str>, InvalidPointer> {
    let mut pieces = part.split('~');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (escaped, rest) = match piece.as_bytes().first() {
            Some(b'0') => ('~', &piece[1..]),
            Some(b'1') => ('/', &piece[1..]),
            _ => return Err(InvalidPointer::Escape),
        };
        plain.push(escaped);
        plain.push_str(rest);
    }
    Ok(plain.into())
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Several pointers, arranged by their common parts. What is found at the n-th of them is at position n of the result.
#[derive(Debug, Clone, Default)]
pub struct PointerTree {
    nodes: Vec<Node>,
    pointers: usize,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// The positions of the pointers that end here.
    ends: Vec<usize>,
    children: Vec<(Box<str>, usize)>,
}

impl PointerTree {
    /// Arranges pointers.
    pub fn new<'p>(pointers: impl IntoIterator<Item = &'p Pointer>) -> Self {
        let mut tree = Self { nodes: vec![Node::default()], pointers: 0 };
        for pointer in pointers {
            let node = pointer.parts.iter().fold(0, |node, part| tree.child(node, part));
            tree.nodes[node].ends.push(tree.pointers);
            tree.pointers += 1;
        }
        tree
    }

    fn child(&mut self, node: usize, part: &str) -> usize {
        if let Some((_, child)) = self.nodes[node].children.iter().find(|(name, _)| **name == *part) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node::default());
        self.nodes[node].children.push((part.into(), child));
        child
    }

    /// Finds the text of the value at each pointer; `None` if there is no such value. `json` is valid JSON without two
    /// members of one name in an object, as payloads of events are. In other text, any value may be found or not.
    pub fn find<'j>(&self, json: &'j str, found: &mut Vec<Option<&'j str>>) {
        found.clear();
        found.resize(self.pointers, None);
        if self.pointers > 0 {
            let mut search = Search { tree: self, json, missing: self.pointers, found };
            // `None` is the end of the search: everything is found, or the text is no JSON.
            let _ = search.value(0, scan::space(json.as_bytes(), 0));
        }
    }
}

/// One pass over a text.
struct Search<'t, 'j, 'f> {
    tree: &'t PointerTree,
    json: &'j str,
    /// How many pointers nothing was found at so far.
    missing: usize,
    found: &'f mut [Option<&'j str>],
}

impl Search<'_, '_, '_> {
    /// Searches the value that begins at `at`, which `node` leads to. Returns its end.
    fn value(&mut self, node: usize, at: usize) -> Option<usize> {
        let Node { ends, children } = &self.tree.nodes[node];
        let end = match self.json.as_bytes().get(at)? {
            b'{' if !children.is_empty() => self.object(children, at)?,
            b'[' if !children.is_empty() => self.array(children, at)?,
            _ => skip(self.json.as_bytes(), at)?,
        };
        for &position in ends {
            self.found[position] = self.json.get(at..end);
            // Text that is no JSON may have a member twice.
            self.missing = self.missing.saturating_sub(1);
        }
        (self.missing > 0).then_some(end)
    }

    fn object(&mut self, children: &[(Box<str>, usize)], begin: usize) -> Option<usize> {
        let json = self.json.as_bytes();
        let mut at = scan::space(json, begin + 1);
        while json.get(at)? != &b'}' {
            let end = string(json, at)?;
            let name = unquoted(self.json.get(at..end)?)?;
            at = scan::space(json, end);
            at = scan::space(json, (json.get(at)? == &b':').then_some(at + 1)?);
            let child = children.iter().find(|(part, _)| **part == *name);
            at = match child {
                Some((_, child)) => self.value(*child, at)?,
                None => skip(json, at)?,
            };
            at = scan::space(json, at);
            if json.get(at)? == &b',' {
                at = scan::space(json, at + 1);
            }
        }
        Some(at + 1)
    }

    fn array(&mut self, children: &[(Box<str>, usize)], begin: usize) -> Option<usize> {
        let json = self.json.as_bytes();
        let mut at = scan::space(json, begin + 1);
        let mut position = 0_usize;
        while json.get(at)? != &b']' {
            // As text: a position with zeros before it is none.
            let text = position.to_string();
            at = match children.iter().find(|(part, _)| **part == *text) {
                Some((_, child)) => self.value(*child, at)?,
                None => skip(json, at)?,
            };
            position += 1;
            at = scan::space(json, at);
            if json.get(at)? == &b',' {
                at = scan::space(json, at + 1);
            }
        }
        Some(at + 1)
    }
}

/// Returns the end of the string that begins at `at`.
fn string(json: &[u8], at: usize) -> Option<usize> {
    (json.get(at)? == &b'"').then_some(())?;
    let mut at = scan::plain(json, at + 1);
    while json.get(at)? == &b'\\' {
        at = scan::plain(json, at + 2);
    }
    (json.get(at)? == &b'"').then_some(at + 1)
}

/// Returns the end of the value that begins at `at`.
fn skip(json: &[u8], at: usize) -> Option<usize> {
    match json.get(at)? {
        b'"' => string(json, at),
        b'{' | b'[' => skip_nested(json, at),
        b't' | b'f' | b'n' => scan::literal(json, at),
        _ => scan::number(json, at),
    }
}

/// Returns the end of the array or object that begins at `at`.
fn skip_nested(json: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match json.get(at)? {
            b'"' => {
                at = string(json, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Returns the characters of a JSON string, which is given with its quotes; `None` if it is none.
pub fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find<'j>(json: &'j str, pointers: &[&str]) -> Vec<Option<&'j str>> {
        let pointers: Vec<Pointer> = pointers.iter().map(|pointer| pointer.parse().unwrap()).collect();
        let mut found = Vec::new();
        PointerTree::new(&pointers).find(json, &mut found);
        found
    }

    #[test]
    fn all_pointers_are_found_in_one_pass() {
        let json = r#" { "a" : { "b" : [ 1.50 , "x\"]}" , { "c" : null } ] } , "" : true , "m~n/o" : [ ] } "#;
        let pointers =
            ["/a/b/0", "/a/b/2/c", "/", "/m~0n~1o", "/a/b", "/a/b/1", "/a/x", "/a/b/3", "/a/b/00", "/a/b/0/0"];
        let b = r#"[ 1.50 , "x\"]}" , { "c" : null } ]"#;
        let expected = [
            Some("1.50"),
            Some("null"),
            Some("true"),
            Some("[ ]"),
            Some(b),
            Some(r#""x\"]}""#),
            None,
            None,
            None,
            None,
        ];
        assert_eq!(find(json, &pointers), expected);
        assert_eq!(find("1", &["", "/a", ""]), [Some("1"), None, Some("1")]);
        assert_eq!(find(r#"{"\u0061":1}"#, &["/a"]), [Some("1")], "names are compared as characters");
        assert_eq!(find(json, &[]), []);
    }

    #[test]
    fn what_is_no_pointer_is_refused() {
        let refused = |text: &str| text.parse::<Pointer>().unwrap_err();
        assert_eq!(refused("a"), InvalidPointer::NoSlash);
        assert_eq!(refused("/~"), InvalidPointer::Escape);
        assert_eq!(refused("/~2"), InvalidPointer::Escape);
        assert_eq!(refused(&"/a".repeat(17)), InvalidPointer::TooLong);
        assert_eq!(refused(&format!("/{}", "a".repeat(256))), InvalidPointer::TooLong);
        assert_eq!("/~01".parse::<Pointer>().unwrap().parts[0].as_ref(), "~1");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i32>().prop_map(Into::into),
            "[ab\"\\\\/~\u{1}ü]{0,3}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
                prop::collection::hash_map("[ab\"\\\\/~0]{0,2}", inner, 0..4)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_serde_json_finds(json in any_json(), pretty: bool, pointers in prop::collection::vec(
            prop::collection::vec("[ab~/0\"]{0,2}", 0..4), 0..5))
        {
            let text = if pretty { serde_json::to_string_pretty(&json) } else { serde_json::to_string(&json) }.unwrap();
            let pointers: Vec<String> = pointers
                .iter()
                .map(|parts| parts.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect())
                .collect();
            let found = find(&text, &pointers.iter().map(String::as_str).collect::<Vec<_>>());
            for (found, pointer) in found.into_iter().zip(&pointers) {
                let found: Option<serde_json::Value> = found.map(|found| serde_json::from_str(found).unwrap());
                prop_assert_eq!(found.as_ref(), json.pointer(pointer), "{} in {}", pointer, text);
            }
        }

        #[test]
        fn text_that_is_no_json_is_passed_over(text in "[\\[\\]{}\",:\\\\ a0tn.-]{0,20}") {
            find(&text, &["/a", "/0/a", ""]);
        }
    }
}
