//! Circles of files (cyclic dependencies): two files that use each other, directly or through other files.
//!
//! A file uses another if a `use` or a path in its code (`crate::a::b()`, `super::X`) names something that
//! the other defines. Re-exports are followed to the definition. A parent does not use its child only because
//! of `mod x;` and `pub use x::Y;`. Code under `#[cfg(test)]` is ignored.

use crate::modules::{Modules, roots};
use crate::sources::Sources;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// By the using file and the used file: the line of the first use, and the path that is written there.
type Edges = BTreeMap<String, BTreeMap<String, (usize, String)>>;

/// Returns a description of each circle: `a.rs -> b.rs -> a.rs`, and a line for each of its uses.
///
/// Of the circles through one use, the shortest is described.
pub fn circles(sources: &Sources) -> Vec<String> {
    let mut found = BTreeSet::new();
    for root in roots(sources) {
        let edges = edges(&Modules::of(sources, &root));
        for (from, targets) in &edges {
            for to in targets.keys() {
                if let Some(circle) = shortest(&edges, to, from) {
                    found.insert(describe(&edges, rotated(circle)));
                }
            }
        }
    }
    found.into_iter().collect()
}

fn edges(modules: &Modules) -> Edges {
    let mut edges = Edges::new();
    for (index, module) in modules.iter() {
        for used in &module.uses.paths {
            // A single name was imported by a `use`, which is an edge already unless it is a re-export.
            let single = used.segments.len() == 1;
            let reexported = module.uses.imports.get(&used.segments[0]).is_some_and(|import| import.reexported);
            if single && !reexported {
                continue;
            }
            if let Some(file) = modules.file_of(index, &used.segments).filter(|file| *file != module.file) {
                let targets = edges.entry(module.file.clone()).or_default();
                targets.entry(file.to_owned()).or_insert_with(|| (used.line, used.segments.join("::")));
            }
        }
    }
    edges
}

/// Returns the shortest chain of uses from one file to another, both included.
fn shortest(edges: &Edges, from: &str, to: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, Option<&str>> = BTreeMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let chain = std::iter::successors(Some(file), |file| before.get(file).copied().flatten());
            let mut chain: Vec<_> = chain.map(str::to_owned).collect();
            chain.reverse();
            return Some(chain);
        }
        for next in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next.as_str()) {
                before.insert(next, Some(file));
                queue.push_back(next);
            }
        }
    }
    None
}

/// Starts a circle with the first of its files by name, so that it is found once.
fn rotated(mut circle: Vec<String>) -> Vec<String> {
    let first = circle.iter().enumerate().min_by_key(|(_, file)| *file).map_or(0, |(index, _)| index);
    circle.rotate_left(first);
    circle
}

fn describe(edges: &Edges, circle: Vec<String>) -> String {
    let closed: Vec<_> = circle.iter().chain(circle.first()).map(String::as_str).collect();
    let mut text = closed.join(" -> ");
    for pair in closed.windows(2) {
        if let Some((line, path)) = edges.get(pair[0]).and_then(|targets| targets.get(pair[1])) {
            text += &format!("\n    {}:{line} uses {path}", pair[0]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles_in(files: &[(&str, &str)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let firsts = circles(&Sources::parse(files).unwrap());
        firsts.iter().map(|circle| circle.lines().next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn two_files_that_use_each_other_are_a_circle() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B; pub struct A(B);"),
            ("src/b.rs", "pub struct B; fn f() -> super::a::A { todo!() }"),
        ]);
        assert_eq!(found, ["src/a.rs -> src/b.rs -> src/a.rs"]);
    }

    #[test]
    fn a_circle_is_found_through_a_third_file_a_macro_and_a_folder() {
        let found = circles_in(&[
            ("src/main.rs", "mod a; mod b; mod c; fn main() { a::run() }"),
            ("src/a.rs", "use crate::b; pub fn run() { b::f() }"),
            ("src/b/mod.rs", "pub mod deep; pub fn f() { println!(\"{}\", crate::c::g()) }"),
            ("src/b/deep.rs", "pub struct Deep;"),
            ("src/c.rs", "pub fn g() -> u8 { super::a::run(); 1 }"),
        ]);
        assert_eq!(found, ["src/a.rs -> src/b/mod.rs -> src/c.rs -> src/a.rs"]);
    }

    #[test]
    fn a_parent_that_declares_and_reexports_only_is_in_no_circle() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; mod b; pub use a::A; pub struct Shared;"),
            ("src/a.rs", "pub struct A(crate::Shared);"),
            ("src/b.rs", "use crate::A; pub struct B(A);"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_parent_that_calls_a_child_which_uses_the_parents_items_is_a_circle() {
        let found = circles_in(&[
            ("src/lib.rs", "mod folder;"),
            ("src/folder/mod.rs", "mod child; pub struct Shared; pub fn f() { child::g() }"),
            ("src/folder/child.rs", "use super::Shared; pub fn g() {}"),
        ]);
        assert_eq!(found, ["src/folder/child.rs -> src/folder/mod.rs -> src/folder/child.rs"]);
    }

    #[test]
    fn a_reexport_is_followed_to_the_file_that_defines_the_item() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; mod b; pub use a::*; pub use b::B;"),
            ("src/a.rs", "use crate::B; pub struct A;"),
            ("src/b.rs", "use crate::A; pub struct B;"),
        ]);
        assert_eq!(found, ["src/a.rs -> src/b.rs -> src/a.rs"]);
    }

    #[test]
    fn a_parent_that_uses_what_it_reexports_uses_the_child() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; pub use a::A; pub struct Shared; fn f() -> A { todo!() }"),
            ("src/a.rs", "use crate::Shared; pub struct A;"),
        ]);
        assert_eq!(found, ["src/a.rs -> src/lib.rs -> src/a.rs"]);
    }

    #[test]
    fn a_test_module_is_ignored() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B; pub struct A(B);"),
            ("src/b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_visibility_uses_nothing() {
        let found = circles_in(&[
            ("src/lib.rs", "mod a; use a::f;"),
            ("src/a.rs", "pub(super) fn f() {} pub(in crate::a) fn g() {}"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn programs_of_one_crate_are_told_apart_by_their_roots() {
        let found = circles_in(&[
            ("tests/one.rs", "mod support; fn f() { support::g() }"),
            ("tests/two.rs", "mod support; fn f() { support::h() }"),
            ("tests/support/mod.rs", "mod g; mod h; pub use g::g; pub use h::h;"),
            ("tests/support/g.rs", "pub fn g() { super::h() }"),
            ("tests/support/h.rs", "pub fn h() {}"),
        ]);
        assert!(found.is_empty(), "{found:?}");
    }
}
