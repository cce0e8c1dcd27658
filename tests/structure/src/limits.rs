//! Limits of length, and the reasons of `allow` attributes.

use crate::sources::{Source, Sources};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The maximum number of lines in a file, its unit tests included. Longer files should be divided.
pub const MAX_FILE_LINES: usize = 450;
/// The maximum number of lines from a function's opening to its closing brace.
pub const MAX_FUNCTION_LINES: usize = 70;

/// Returns the files that have more than [`MAX_FILE_LINES`].
pub fn long_files(sources: &Sources) -> Vec<String> {
    let lines = sources.iter().map(|(path, source)| (path, source.text.lines().count()));
    lines
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines, at most {MAX_FILE_LINES}"))
        .collect()
}

/// Returns the functions that have more than [`MAX_FUNCTION_LINES`], those of tests too.
pub fn long_functions(sources: &Sources) -> Vec<String> {
    sources
        .iter()
        .flat_map(|(path, source)| {
            let long = visited(source).functions.into_iter().filter(|found| found.lines > MAX_FUNCTION_LINES);
            long.map(move |Function { name, line, lines }| {
                format!("{path}:{line} fn {name}: {lines} lines, at most {MAX_FUNCTION_LINES}")
            })
        })
        .collect()
}

/// Returns the `allow` attributes without `reason = "…"`.
pub fn allows_without_reason(sources: &Sources) -> Vec<String> {
    sources
        .iter()
        .flat_map(|(path, source)| {
            let lines = visited(source).unexplained.into_iter();
            lines.map(move |line| format!("{path}:{line} allow without a reason"))
        })
        .collect()
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

#[derive(Default)]
struct Visitor {
    functions: Vec<Function>,
    /// The lines of the `allow` attributes without a reason.
    unexplained: Vec<usize>,
}

fn visited(source: &Source) -> Visitor {
    let mut visitor = Visitor::default();
    visitor.visit_file(&source.syntax);
    visitor
}

impl Visitor {
    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let braces = body.brace_token.span;
        let lines = braces.close().end().line - braces.open().start().line + 1;
        let line = signature.ident.span().start().line;
        self.functions.push(Function { name: signature.ident.to_string(), line, lines });
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            let allows = list.path.is_ident("allow")
                || (list.path.is_ident("cfg_attr") && has_word(list.tokens.clone(), "allow"));
            if allows && !has_word(list.tokens.clone(), "reason") {
                self.unexplained.push(attribute.pound_token.spans[0].start().line);
            }
        }
    }
}

fn has_word(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == word,
        TokenTree::Group(group) => has_word(group.stream(), word),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: String) -> Sources {
        Sources::parse([("src/lib.rs".to_owned(), text)]).unwrap()
    }

    #[test]
    fn a_file_may_have_as_many_lines_as_the_limit() {
        assert!(long_files(&source("\n".repeat(MAX_FILE_LINES))).is_empty());
        let long = long_files(&source("\n".repeat(MAX_FILE_LINES + 1)));
        assert_eq!(long, ["src/lib.rs: 451 lines, at most 450"]);
    }

    #[test]
    fn a_function_may_have_as_many_lines_as_the_limit_from_brace_to_brace() {
        let with =
            |lines| source(format!("struct A;\nimpl A {{\n fn long(\n&self) {{{}}}\n}}", "\n".repeat(lines - 1)));
        assert!(long_functions(&with(MAX_FUNCTION_LINES)).is_empty());
        let long = long_functions(&with(MAX_FUNCTION_LINES + 1));
        assert_eq!(long, ["src/lib.rs:3 fn long: 71 lines, at most 70"]);
    }

    #[test]
    fn an_allow_needs_a_reason_inside_a_function_and_a_cfg_attr_too() {
        let text = "#![allow(a, reason = \"because\")]\n\
                    fn f() {\n #[allow(b)]\n let x = 1; }\n\
                    #[cfg_attr(unix, allow(c))]\n struct A;";
        let found = allows_without_reason(&source(text.to_owned()));
        assert_eq!(found, ["src/lib.rs:3 allow without a reason", "src/lib.rs:5 allow without a reason"]);
    }
}
