//! The documents list every problem code with its status, and no other codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking; clippy spares only the test functions themselves")]

use std::collections::BTreeSet;

use sluice_service::code::Code;

const ERRORS: &str = include_str!("../../../docs/errors.md");
const API: &str = include_str!("../../../docs/api.md");

fn expected() -> Vec<(String, u16)> {
    Code::ALL.iter().map(|code| (code.as_str().to_owned(), code.status().as_u16())).collect()
}

#[test]
fn each_code_has_its_section_with_its_status_and_no_section_is_left_over() {
    let mut sections: Vec<(String, u16)> = Vec::new();
    for section in ERRORS.split("\n## ").skip(1) {
        let (code, status) = section.lines().next().unwrap().split_once(" (").unwrap();
        sections.push((code.to_owned(), status.trim_end_matches(')').parse().unwrap()));
        for part in ["\n**Client:** ", "\n**On call:** "] {
            assert!(section.contains(part), "{code} has no part {part}");
        }
    }
    assert_eq!(sections, expected());
}

#[test]
fn the_table_of_the_api_has_each_code_with_its_status() {
    let (_, errors) = API.split_once("\n## Errors\n").unwrap();
    let mut rows = BTreeSet::new();
    for row in errors.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let Ok(status) = cells[1].parse::<u16>() else { continue };
        rows.extend(cells[2].split(", ").map(|code| (code.trim_matches('`').to_owned(), status)));
    }
    assert_eq!(rows, expected().into_iter().collect());
}
