//! The tree of modules of one crate, and the resolution of paths in it.

use crate::sources::Sources;
use crate::uses::{Uses, attributes, for_tests_only, path_attribute};
use std::collections::{BTreeMap, BTreeSet};

/// The maximum length of a chain of re-exports. The limit ends the resolution if re-exports form a cycle.
const MAX_REEXPORTS: usize = 16;

/// One module, in its own file or in braces.
pub struct Module {
    /// The path of the file that contains the module.
    pub file: String,
    pub uses: Uses,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
}

/// The modules of one crate, without those of its tests. The first is the root.
pub struct Modules(Vec<Module>);

impl Modules {
    /// Builds the tree below the file at `root`.
    pub fn of(sources: &Sources, root: &str) -> Self {
        let mut modules = Self(vec![]);
        if let Some(source) = sources.get(root) {
            modules.add(sources, root, &source.syntax.items, None, &folder(root));
        }
        modules
    }

    /// Adds a module and, below it, its children, whose files are in `folder`.
    fn add(
        &mut self,
        sources: &Sources,
        file: &str,
        items: &[syn::Item],
        parent: Option<usize>,
        folder: &str,
    ) -> usize {
        let index = self.0.len();
        let uses = Uses::of(items);
        let files = uses.files.clone();
        self.0.push(Module { file: file.to_owned(), uses, parent, children: BTreeMap::new() });
        for (name, path) in files {
            let found = find(sources, file, folder, &name, path.as_deref());
            if let Some((file, source)) = found.and_then(|file| sources.get(&file).map(|source| (file, source))) {
                let below = if is_folder_root(&file) { self::folder(&file) } else { join(folder, &name) };
                let child = self.add(sources, &file, &source.syntax.items, Some(index), &below);
                self.0[index].children.insert(name, child);
            }
        }
        for item in items.iter().filter(|item| !attributes(item).iter().any(for_tests_only)) {
            if let syn::Item::Mod(syn::ItemMod { ident, content: Some((_, items)), .. }) = item {
                let name = ident.to_string();
                let child = self.add(sources, file, items, Some(index), &join(folder, &name));
                self.0[index].children.insert(name, child);
            }
        }
        index
    }

    /// Returns each module with its number.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Module)> {
        self.0.iter().enumerate()
    }

    /// Returns the file that defines the item that `path` names in the module `from`, or `None` if the item
    /// belongs to another crate or is a local name.
    pub fn file_of(&self, from: usize, path: &[String]) -> Option<&str> {
        self.resolve(from, path, 0).map(|module| self.0[module].file.as_str())
    }

    fn resolve(&self, from: usize, path: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        let module = &self.0[from];
        match first.as_str() {
            "crate" => self.walk(0, rest, depth),
            "self" => self.walk(from, rest, depth),
            "super" => self.walk(module.parent?, rest, depth),
            // A single name is a variable or a field, even if a module has the same name.
            name => match module.children.get(name) {
                Some(child) if !rest.is_empty() => self.walk(*child, rest, depth),
                Some(_) => None,
                None => self.through_import(from, name, rest, depth),
            },
        }
    }

    /// Follows `path` from within a module down to the module that defines its first item.
    fn walk(&self, at: usize, path: &[String], depth: usize) -> Option<usize> {
        let Some((name, rest)) = path.split_first() else { return Some(at) };
        let module = &self.0[at];
        if name == "super" {
            return self.walk(module.parent?, rest, depth);
        }
        if let Some(child) = module.children.get(name) {
            return self.walk(*child, rest, depth);
        }
        if module.uses.items.contains(name) {
            return Some(at);
        }
        self.through_import(at, name, rest, depth).or_else(|| self.through_glob(at, name, depth)).or(Some(at))
    }

    fn through_import(&self, at: usize, name: &str, rest: &[String], depth: usize) -> Option<usize> {
        let import = self.0[at].uses.imports.get(name)?;
        // `use batch::…` with no such child names another crate.
        let own = import.path.first().is_some_and(|first| first != name || self.0[at].children.contains_key(first));
        if depth == MAX_REEXPORTS || !own {
            return None;
        }
        let path: Vec<_> = import.path.iter().chain(rest).cloned().collect();
        self.resolve(at, &path, depth + 1)
    }

    fn through_glob(&self, at: usize, name: &str, depth: usize) -> Option<usize> {
        let globs = self.0[at].uses.globs.iter().filter(|_| depth < MAX_REEXPORTS);
        globs.filter_map(|glob| self.resolve(at, &with_self(glob), depth + 1)).find(|module| {
            *module != at && {
                let Module { uses, children, .. } = &self.0[*module];
                uses.items.contains(name) || children.contains_key(name) || uses.imports.contains_key(name)
            }
        })
    }
}

/// A glob of a child module (`pub use batch::*`) has one name, which [`Modules::resolve`] takes for a variable.
fn with_self(glob: &[String]) -> Vec<String> {
    let relative = glob.first().is_some_and(|first| !["crate", "self", "super"].contains(&first.as_str()));
    relative.then(|| "self".to_owned()).into_iter().chain(glob.iter().cloned()).collect()
}

/// Returns the files that no other declares with `mod`: the roots of crates, of tests and of benchmarks.
pub fn roots(sources: &Sources) -> Vec<String> {
    let declared: BTreeSet<String> = sources
        .iter()
        .flat_map(|(path, source)| {
            let folder = if is_folder_root(path) { folder(path) } else { path.trim_end_matches(".rs").to_owned() };
            declared(&source.syntax.items, &folder)
                .into_iter()
                .filter_map(|(folder, name, attribute)| find(sources, path, &folder, &name, attribute.as_deref()))
                .collect::<Vec<_>>()
        })
        .collect();
    sources.iter().map(|(path, _)| path.to_owned()).filter(|path| !declared.contains(path)).collect()
}

/// Returns the folder, the name and the `#[path]` of each child that has its own file, those of tests too.
fn declared(items: &[syn::Item], folder: &str) -> Vec<(String, String, Option<String>)> {
    let mut found = vec![];
    for item in items {
        if let syn::Item::Mod(module) = item {
            let name = module.ident.to_string();
            match &module.content {
                Some((_, items)) => found.extend(declared(items, &join(folder, &name))),
                None => found.push((folder.to_owned(), name, path_attribute(&module.attrs))),
            }
        }
    }
    found
}

/// Returns the file of the child module `name` of `file`, if it is among the sources.
fn find(sources: &Sources, file: &str, folder: &str, name: &str, attribute: Option<&str>) -> Option<String> {
    let beside = self::folder(file);
    let candidates = match attribute {
        Some(path) => vec![normal(&join(&beside, path))],
        // The children of a root that is not called main.rs or lib.rs are beside it.
        None => [folder, beside.as_str()]
            .iter()
            .flat_map(|folder| [format!("{}.rs", join(folder, name)), format!("{}/mod.rs", join(folder, name))])
            .collect(),
    };
    candidates.into_iter().find(|path| path != file && sources.get(path).is_some())
}

fn is_folder_root(path: &str) -> bool {
    ["mod.rs", "lib.rs", "main.rs"].contains(&path.rsplit('/').next().unwrap_or(path))
}

fn folder(path: &str) -> String {
    path.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default()
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Removes `..` and the folder before it.
fn normal(path: &str) -> String {
    let mut parts = vec![];
    for part in path.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}
