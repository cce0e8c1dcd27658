//! A payload as the validator sees it. Each look at it is a step, and a payload has a budget of steps: `anyOf` in a recursive
//! schema, for example, can look at each part again and again.
//!
//! The library cannot be stopped. So when the budget is spent, every part of the payload is `null` from then on: what is going
//! on ends soon, and its result is not used.

use std::borrow::Cow;
use std::cell::Cell;
use std::iter;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object};
use serde_json::{Map, Number, Value};

/// How much of the stack the validator may use. Threads have 2 MiB. What it uses beyond, until it ends, is bounded by the depth
/// of a schema ([`crate::bounds`]).
const MAX_STACK: usize = 512 << 10;
/// The bytes of a text that cost as much as a step.
const BYTES_PER_STEP: usize = 64;

thread_local! {
    static BUDGET: Cell<Budget> = const { Cell::new(Budget { left: 0, stack: 0 }) };
}

#[derive(Clone, Copy)]
struct Budget {
    /// The steps that are left; 0 once a step was too many.
    left: u64,
    /// Where the stack was when the work began.
    stack: usize,
}

/// Returns about where the end of the stack is.
#[inline(never)]
fn stack() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Does work with a budget; `None` if it was not enough.
pub(crate) fn within<T>(steps: u64, work: impl FnOnce() -> T) -> Option<T> {
    BUDGET.set(Budget { left: steps, stack: stack() });
    let done = work();
    (BUDGET.replace(Budget { left: 0, stack: 0 }).left > 0).then_some(done)
}

/// Takes so many steps. Returns whether there were enough.
fn take(steps: usize) -> bool {
    let Budget { left, stack: from } = BUDGET.get();
    let left = if from.abs_diff(stack()) > MAX_STACK { 0 } else { left.saturating_sub(steps as u64) };
    BUDGET.set(Budget { left, stack: from });
    left > 0
}

/// The representation of payloads.
pub(crate) struct Metered;

/// A part of a payload.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a>(pub(crate) &'a Value);

impl Part<'_> {
    fn cost(&self) -> usize {
        match self.0 {
            Value::String(text) => 1 + text.len() / BYTES_PER_STEP,
            _ => 1,
        }
    }
}

impl Json for Metered {
    type Node<'a> = Part<'a>;
    type PreparedKey = String;
    type StringBuffer = Value;

    const KEYS_PER_LOOKUP: usize = 2;
    const ACYCLIC: bool = true;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(buffer: &mut Value, string: &str, f: impl FnOnce(Part<'_>) -> T) -> T {
        *buffer = Value::String(string.to_owned());
        f(Part(buffer))
    }
}

impl<'a> Node<'a, Metered> for Part<'a> {
    type Object = Members<'a>;
    type Array = Elements<'a>;
    type Number = &'a Number;

    fn as_object(&self) -> Option<Members<'a>> {
        self.0.as_object().filter(|_| take(1)).map(Members)
    }

    fn as_array(&self) -> Option<Elements<'a>> {
        self.0.as_array().filter(|_| take(1)).map(|elements| Elements(elements))
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.0.as_str().filter(|_| take(self.cost())).map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a Number> {
        self.0.as_number().filter(|_| take(1))
    }

    fn as_boolean(&self) -> Option<bool> {
        self.0.as_bool().filter(|_| take(1))
    }

    fn is_null(&self) -> bool {
        self.json_type() == JsonType::Null
    }

    fn is_number(&self) -> bool {
        self.json_type() == JsonType::Number
    }

    fn json_type(&self) -> JsonType {
        match self.0 {
            _ if !take(1) => JsonType::Null,
            Value::Null => JsonType::Null,
            Value::Bool(_) => JsonType::Boolean,
            Value::Number(_) => JsonType::Number,
            Value::String(_) => JsonType::String,
            Value::Array(_) => JsonType::Array,
            Value::Object(_) => JsonType::Object,
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Borrowed(self.0)
    }

    fn identity(&self) -> Option<NodeIdentity> {
        take(1);
        Some(NodeIdentity::new(std::ptr::from_ref(self.0).addr()))
    }
}

/// The members of an object.
pub(crate) struct Members<'a>(&'a Map<String, Value>);

impl<'a> Object<'a, Metered> for Members<'a> {
    type Node = Part<'a>;
    type MemberName = &'a str;
    type MembersIter =
        iter::Map<Counted<serde_json::map::Iter<'a>>, fn((&'a String, &'a Value)) -> (&'a str, Part<'a>)>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, key: &String) -> Option<Part<'a>> {
        self.0.get(key).filter(|_| take(1)).map(Part)
    }

    fn members(&self) -> Self::MembersIter {
        Counted(self.0.iter()).map(|(name, value)| (name.as_str(), Part(value)))
    }
}

/// The elements of an array.
pub(crate) struct Elements<'a>(&'a [Value]);

impl<'a> Array<'a, Metered> for Elements<'a> {
    type Node = Part<'a>;
    type ElementsIter = iter::Map<Counted<std::slice::Iter<'a, Value>>, fn(&'a Value) -> Part<'a>>;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn elements(&self) -> Self::ElementsIter {
        Counted(self.0.iter()).map(Part)
    }
}

/// An iterator each of whose items is a step.
pub(crate) struct Counted<I>(I);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        if take(1) { self.0.next() } else { None }
    }
}
