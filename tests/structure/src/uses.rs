//! The uses and definitions of one module, collected from its syntax tree.

use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

/// A path as it is written in the source, such as `["crate", "batch", "Batch"]`, and its line.
#[derive(Clone)]
pub struct Used {
    pub segments: Vec<String>,
    pub line: usize,
}

/// A name that a `use` brings into a module.
pub struct Import {
    pub path: Vec<String>,
    /// Whether it is visible to other modules (`pub use`, `pub(crate) use`).
    pub reexported: bool,
}

/// The uses and definitions of one module, without those of its child modules and of its tests.
#[derive(Default)]
pub struct Uses {
    /// Every path, those of `use` declarations too, except re-exports.
    pub paths: Vec<Used>,
    /// The imports, by their name in the module.
    pub imports: BTreeMap<String, Import>,
    /// The modules of which everything is imported (`use a::*`).
    pub globs: Vec<Vec<String>>,
    /// The names of the items that the module defines itself.
    pub items: BTreeSet<String>,
    /// The names of child modules that have their own files, with the value of a `#[path]`.
    pub files: Vec<(String, Option<String>)>,
}

impl Uses {
    /// Collects from the items of a module. Child modules in braces are left to the caller.
    pub fn of(items: &[syn::Item]) -> Self {
        let mut uses = Self::default();
        for item in items {
            uses.define(item);
            uses.visit_item(item);
        }
        uses
    }

    fn define(&mut self, item: &syn::Item) {
        let name = match item {
            syn::Item::Const(item) => &item.ident,
            syn::Item::Enum(item) => &item.ident,
            syn::Item::Fn(item) => &item.sig.ident,
            syn::Item::Static(item) => &item.ident,
            syn::Item::Struct(item) => &item.ident,
            syn::Item::Trait(item) => &item.ident,
            syn::Item::TraitAlias(item) => &item.ident,
            syn::Item::Type(item) => &item.ident,
            syn::Item::Union(item) => &item.ident,
            _ => return,
        };
        self.items.insert(name.to_string());
    }

    fn uses(&mut self, segments: Vec<String>, span: Span) {
        self.paths.push(Used { segments, line: span.start().line });
    }

    fn import(&mut self, before: &[String], tree: &syn::UseTree, reexported: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        let (name, path, span) = match tree {
            syn::UseTree::Path(path) => return self.import(&with(&path.ident), &path.tree, reexported),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(before, tree, reexported));
            }
            syn::UseTree::Glob(glob) => {
                self.globs.push(before.to_vec());
                if !reexported {
                    self.uses(before.to_vec(), glob.star_token.spans[0]);
                }
                return;
            }
            syn::UseTree::Name(name) => (&name.ident, with(&name.ident), name.ident.span()),
            syn::UseTree::Rename(rename) => (&rename.rename, with(&rename.ident), rename.ident.span()),
        };
        // `use a::b::{self}` names b.
        let itself = before.len() > 1 && path.last().is_some_and(|last| last == "self");
        let path = if itself { before.to_vec() } else { path };
        let name = match before.last() {
            Some(last) if itself && name == "self" => last.clone(),
            _ => name.to_string(),
        };
        if !reexported {
            self.uses(path.clone(), span);
        }
        self.imports.insert(name, Import { path, reexported });
    }

    /// Collects the paths (names with `::` between them) from the arguments of a macro. These need not be valid
    /// Rust, so they cannot be parsed.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = vec![];
        let mut start = None;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.scanned(&mut path, start);
                        start = Some(ident.span());
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.scanned(&mut path, start);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.scanned(&mut path, start);
    }

    fn scanned(&mut self, path: &mut Vec<String>, start: Option<Span>) {
        let segments = std::mem::take(path);
        if let (false, Some(start)) = (segments.is_empty(), start) {
            self.uses(segments, start);
        }
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).iter().any(for_tests_only) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_none() {
            self.files.push((module.ident.to_string(), path_attribute(&module.attrs)));
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let reexported = !matches!(item.vis, syn::Visibility::Inherited);
        if item.leading_colon.is_none() {
            self.import(&[], &item.tree, reexported);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let (None, Some(first)) = (&path.leading_colon, path.segments.first()) {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string());
            self.uses(segments.collect(), first.ident.span());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        self.visit_path(&called.path);
        self.scan(called.tokens.clone());
    }

    // Visibilities such as `pub(super)`, and attributes, contain paths that do not use another file.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// Returns whether an attribute is `#[cfg(test)]`, or a `cfg` that requires `test` among other options.
pub fn for_tests_only(attribute: &syn::Attribute) -> bool {
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let words = list.tokens.to_string();
    let has = |word| words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|each| each == word);
    list.path.is_ident("cfg") && has("test") && !has("not") && !has("any")
}

/// Returns the attributes of an item of any kind.
pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Returns the value of a `#[path = "…"]`.
pub fn path_attribute(attributes: &[syn::Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(syn::MetaNameValue { path, value: syn::Expr::Lit(literal), .. })
            if path.is_ident("path") =>
        {
            match &literal.lit {
                syn::Lit::Str(text) => Some(text.value()),
                _ => None,
            }
        }
        _ => None,
    })
}
