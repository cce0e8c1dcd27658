//! Formats figures as Markdown tables whose columns are aligned in the source too.

use std::fmt::Write;

use super::figures::Group;
use super::results::Column;

/// Returns the table of all figures of some columns: median (smallest–largest).
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

/// Returns every figure that any column has: by group, and within it in the order of measuring.
pub(super) fn names(columns: &[Column]) -> Vec<(Group, String)> {
    let mut names: Vec<(Group, String)> = Vec::new();
    for figure in columns.iter().rev().flat_map(|column| &column.rounds).flat_map(|(_, figures)| &figures.0) {
        if !names.iter().any(|(group, name)| *group == figure.group && *name == figure.name) {
            names.push((figure.group, figure.name.clone()));
        }
    }
    names.sort_by_key(|(group, _)| *group);
    names
}

/// Returns a Markdown table whose columns are aligned; all but the first to the right.
pub fn align(head: &[String], rows: &[Vec<String>]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::Figures;

    fn columns() -> Vec<Column> {
        let mut copy = Column::new("COPY", "copy");
        let mut dup0 = Column::new("0%", "dup0");
        for (round, (rate, ratio, mib)) in [(200.0, 0.5, 10.0), (300.0, 0.75, 12.0)].into_iter().enumerate() {
            let mut figures = Figures::default();
            figures.add(Group::Rate, "k events/s", rate);
            copy.rounds.push((round, figures.clone()));
            figures.add(Group::Resident, "publisher", mib);
            figures.add(Group::Ratio, "to COPY", ratio);
            dup0.rounds.push((round, figures));
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
| to COPY                   |               | 0.62 (0.50–0.75) |
| **Most resident memory, MiB** |           |                  |
| publisher                 |               | 11.0 (10.0–12.0) |
";
        let squeezed = |text: &str| text.replace([' ', '-'], "");
        assert_eq!(squeezed(&table(&columns())), squeezed(expected));
    }
}
