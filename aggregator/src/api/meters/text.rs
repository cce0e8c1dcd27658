//! Figures as lines of text.

use axum::http::HeaderMap;
use serde::Serialize;

use super::super::accept;
use super::answers::{Figures, GroupFigure};

/// A form other than JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Csv,
    Lines,
}

/// A line of NDJSON.
#[derive(Serialize)]
struct Line<'a> {
    start: Option<&'a str>,
    end: Option<&'a str>,
    #[serde(flatten)]
    figure: &'a GroupFigure,
}

impl Form {
    /// Returns the form that the client accepts; `None` is JSON.
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        match accept::first(headers, &["application/json", "application/x-ndjson", "text/csv"])? {
            "application/x-ndjson" => Some(Self::Lines),
            "text/csv" => Some(Self::Csv),
            _ => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Lines => "application/x-ndjson",
        }
    }

    /// Writes one line for each figure.
    pub fn write(self, figures: &Figures, fields: &[String]) -> String {
        let mut text = String::new();
        if self == Self::Csv {
            let fixed = |name: &str| name.to_owned();
            let names = ["start", "end"].map(fixed).into_iter().chain(fields.iter().cloned());
            csv_line(&mut text, names.chain(["value", "events", "lower_bound"].map(fixed)));
        }
        let of_windows = figures
            .windows
            .iter()
            .flat_map(|window| window.groups.iter().map(|figure| (Some((&*window.start, &*window.end)), figure)));
        for (ends, figure) in of_windows.chain(figures.without_window.iter().map(|figure| (None, figure))) {
            let (start, end) = ends.unzip();
            match self {
                Self::Lines => {
                    let line = serde_json::to_string(&Line { start, end, figure });
                    text.push_str(&line.unwrap_or_default());
                    text.push('\n');
                }
                Self::Csv => {
                    let value = |field: &String| match &figure.group {
                        None => "(other)".to_owned(),
                        Some(group) => group.get(field).cloned().flatten().unwrap_or_default(),
                    };
                    let ends = [start, end].map(|end| end.unwrap_or_default().to_owned());
                    let rest = [
                        figure.value.clone().unwrap_or_default(),
                        figure.events.to_string(),
                        figure.lower_bound.to_string(),
                    ];
                    csv_line(&mut text, ends.into_iter().chain(fields.iter().map(value)).chain(rest));
                }
            }
        }
        text
    }
}

/// Appends a line (RFC 4180). A text that a spreadsheet would take for a formula gets a quote before it.
fn csv_line(text: &mut String, values: impl Iterator<Item = String>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            text.push(',');
        }
        let is_number = value.parse::<f64>().is_ok();
        let is_formula = !is_number && value.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let value = if is_formula { format!("'{value}") } else { value };
        if value.contains([',', '"', '\r', '\n']) {
            text.push('"');
            text.push_str(&value.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&value);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    #[test]
    fn what_has_a_meaning_in_csv_or_in_a_spreadsheet_is_escaped() {
        let mut text = String::new();
        csv_line(&mut text, ["a,b", "say \"x\"", "=1+1", "-1.5", "", "ü"].map(str::to_owned).into_iter());
        assert_eq!(text, "\"a,b\",\"say \"\"x\"\"\",'=1+1,-1.5,,ü\r\n");
    }

    #[test]
    fn the_first_form_that_is_known_is_used() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Form::wanted(&headers)
        };
        assert_eq!(wanted("*/*"), None);
        assert_eq!(wanted("text/html, text/csv;q=0.9"), Some(Form::Csv));
        assert_eq!(wanted("application/json, text/csv"), None);
        assert_eq!(wanted("application/x-ndjson"), Some(Form::Lines));
    }
}
