//! Tables of text: columns as wide as their widest cell.

/// Returns the rows as lines, each with two spaces between its columns and none at its end.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Returns a row of these cells.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|cell| one_line(cell)).collect()
}

/// Returns a text without characters that move the cursor: what others wrote must not change what is shown.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns the time from `then` to `now` in the form of `kubectl`: `45s`, `12m`, `5h`, `3d`.
pub(crate) fn age(then: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let rows = [row(["NAME", "READY"]), row(["a-long-name", "True"]), row(["b", ""])];
        assert_eq!(table(&rows), "NAME         READY\na-long-name  True\nb\n");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(row(["a\u{1b}[2J\nb"]), ["a [2J b"]);
    }

    #[test]
    fn ages_have_the_form_of_kubectl() {
        let at = |seconds: i64| jiff::Timestamp::from_second(1_000_000 + seconds).unwrap();
        for (seconds, expected) in [(-5, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d")] {
            assert_eq!(age(at(0), at(seconds)), expected);
        }
    }
}
