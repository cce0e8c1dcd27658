//! The Rust files of a workspace, parsed.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// One file: its text and its syntax tree.
pub struct Source {
    /// The text as it is on disk.
    pub text: String,
    /// The text, parsed.
    pub syntax: syn::File,
}

/// Files by their path, relative to the root of the workspace and with `/` between its parts.
pub struct Sources(BTreeMap<String, Source>);

impl Sources {
    /// Reads every Rust file below `root` that git tracks, or would track once it is added.
    ///
    /// # Errors
    ///
    /// If git cannot list the files, or a file cannot be read or parsed.
    pub fn of_repository(root: &Path) -> Result<Self> {
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
            .current_dir(root)
            .output()
            .context("git ls-files")?;
        ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let paths = String::from_utf8(listed.stdout)?;
        // git also lists files that are deleted in the working tree but still in the index.
        let present = paths.lines().filter(|path| root.join(path).is_file());
        let texts = present.map(|path| Ok((path.to_owned(), std::fs::read_to_string(root.join(path))?)));
        Self::parse(texts.collect::<Result<Vec<_>>>()?)
    }

    /// Parses files that are given as pairs of path and text.
    ///
    /// # Errors
    ///
    /// If one of them is not valid Rust.
    pub fn parse(files: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let parse = |(path, text): (String, String)| {
            let syntax = syn::parse_file(&text).with_context(|| path.clone())?;
            Ok((path, Source { text, syntax }))
        };
        files.into_iter().map(parse).collect::<Result<_>>().map(Self)
    }

    /// Returns the file at `path`.
    pub fn get(&self, path: &str) -> Option<&Source> {
        self.0.get(path)
    }

    /// Returns all files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.0.iter().map(|(path, source)| (path.as_str(), source))
    }
}
