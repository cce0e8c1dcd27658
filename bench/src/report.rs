//! The table on standard output, and `results.json`.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::figures::{Figures, Group, Spread};

/// A column of the table: the same block, measured in every round.
#[derive(Debug)]
pub struct Column {
    /// The heading.
    pub title: String,
    /// The name in `results.json`.
    pub key: String,
    /// What each round measured.
    pub rounds: Vec<Figures>,
}

impl Column {
    /// An empty one.
    pub fn new(title: &str, key: &str) -> Self {
        Self { title: title.to_owned(), key: key.to_owned(), rounds: Vec::new() }
    }

    /// What the rounds say together of one figure.
    pub fn spread(&self, group: Group, name: &str) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|figures| figures.get(group, name)).collect())
    }
}

/// All figures as a Markdown table that reads well as it is: median (smallest–largest).
pub fn table(columns: &[Column]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut head = vec![String::new()];
    head.extend(columns.iter().map(|column| column.title.clone()));
    let mut group_before = None;
    for (group, name) in names(columns) {
        if group_before != Some(group) {
            let mut title = vec![format!("**{}**", group.title())];
            title.resize(head.len(), String::new());
            rows.push(title);
            group_before = Some(group);
        }
        let cell = |column: &Column| column.spread(group, &name).map_or_else(String::new, |s| s.show(group));
        let mut row = vec![name.clone()];
        row.extend(columns.iter().map(cell));
        rows.push(row);
    }
    align(&head, &rows)
}

/// Every figure that any column has: by group, and within it as first measured.
fn names(columns: &[Column]) -> Vec<(Group, String)> {
    let mut names: Vec<(Group, String)> = Vec::new();
    for figure in columns.iter().rev().flat_map(|c| &c.rounds).flat_map(|figures| &figures.0) {
        if !names.iter().any(|(group, name)| *group == figure.group && *name == figure.name) {
            names.push((figure.group, figure.name.clone()));
        }
    }
    names.sort_by_key(|(group, _)| *group);
    names
}

fn align(head: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().chain([&head.to_vec()]).map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = if column == 0 { write!(out, "| {cell:<width$} ") } else { write!(out, "| {cell:>width$} ") };
        }
        out.push_str("|\n");
    };
    line(head);
    let rule: Vec<String> = widths
        .iter()
        .enumerate()
        .map(|(n, w)| "-".repeat(w - usize::from(n > 0)) + if n > 0 { ":" } else { "" })
        .collect();
    line(&rule);
    rows.iter().for_each(|row| line(row));
    out
}

/// Everything, for a program to read. `run` says what was run and where.
pub fn json(columns: &[Column], run: Value) -> Value {
    let mut blocks = Map::new();
    for column in columns {
        let mut groups = Map::new();
        for (group, name) in names(std::slice::from_ref(column)) {
            let figures = groups.entry(group.key()).or_insert_with(|| json!({}));
            figures[name.as_str()] = column.spread(group, &name).map_or(Value::Null, Spread::json);
        }
        blocks.insert(column.key.clone(), Value::Object(groups));
    }
    json!({ "run": run, "ratios": ratios(columns), "rss_mib": resident(columns), "blocks": blocks })
}

fn ratios(columns: &[Column]) -> Value {
    let of = |column: &Column| Some((format!("copy_{}", column.key), column.spread(Group::Ratio, TO_COPY)?.json()));
    Value::Object(columns.iter().filter_map(of).collect())
}

/// Over the blocks of all kinds.
fn resident(columns: &[Column]) -> Value {
    let of = |program: &str| {
        let all = columns.iter().flat_map(|column| &column.rounds);
        Spread::of(all.filter_map(|figures| figures.get(Group::Resident, program)).collect()).map(Spread::json)
    };
    json!({ "aggregator": of("aggregator"), "publisher": of("publisher") })
}

/// The name of a rate divided by COPY's.
pub const TO_COPY: &str = "to COPY in the same round";

/// Writes the file, making its folder.
pub fn save(path: &Path, results: &Value) -> anyhow::Result<()> {
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, format!("{results:#}\n"))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let mut copy = Column::new("COPY", "copy");
        let mut dup0 = Column::new("0%", "dup0");
        for (rate, ratio, mib) in [(200.0, 0.5, 10.0), (300.0, 0.75, 12.0)] {
            let mut figures = Figures::default();
            figures.add(Group::Rate, "k events/s", rate);
            copy.rounds.push(figures.clone());
            figures.add(Group::Resident, "publisher", mib);
            figures.add(Group::Ratio, TO_COPY, ratio);
            dup0.rounds.push(figures);
        }
        vec![copy, dup0]
    }

    #[test]
    fn the_table_shows_median_and_extremes_of_what_each_column_has() {
        let expected = "\
|                           |          COPY |               0% |
| ------------------------- | ------------: | ---------------: |
| **Rate**                  |               |                  |
| k events/s                | 250 (200–300) |    250 (200–300) |
| **Ratio**                 |               |                  |
| to COPY in the same round |               | 0.62 (0.50–0.75) |
| **Most resident memory, MiB** |           |                  |
| publisher                 |               | 11.0 (10.0–12.0) |
";
        let squeezed = |text: &str| text.replace([' ', '-'], "");
        assert_eq!(squeezed(&table(&columns())), squeezed(expected));
    }

    #[test]
    fn the_results_name_the_ratios_and_the_memory_that_others_ask_for() {
        let results = json(&columns(), json!({}));
        assert_eq!(results["ratios"], json!({ "copy_dup0": { "median": 0.625, "min": 0.5, "max": 0.75 } }));
        assert_eq!(results["rss_mib"]["publisher"]["max"], 12.0);
        assert_eq!(results["blocks"]["copy"]["rate"]["k events/s"]["median"], 250.0);
    }
}
