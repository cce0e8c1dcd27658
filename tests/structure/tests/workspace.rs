//! Applies the rules to the sources of this workspace.

use sluice_structure::sources::Sources;
use sluice_structure::{circles, limits};
use std::path::Path;

fn workspace() -> anyhow::Result<Sources> {
    // Cargo runs tests in the folder of their crate. A path that was compiled in would be that of the checkout for which this
    // program was built, and those of several checkouts may share one target folder.
    Sources::of_repository(Path::new("../.."))
}

fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn no_files_of_a_crate_use_each_other_in_a_circle() {
    assert_none(&circles::circles(&workspace().unwrap()));
}

#[test]
fn no_file_is_longer_than_the_limit() {
    assert_none(&limits::long_files(&workspace().unwrap()));
}

#[test]
fn no_function_is_longer_than_the_limit() {
    assert_none(&limits::long_functions(&workspace().unwrap()));
}

#[test]
fn each_allow_attribute_has_a_reason() {
    assert_none(&limits::allows_without_reason(&workspace().unwrap()));
}
