//! Which of several media types a client accepts.

use axum::http::{HeaderMap, header};

/// Returns the one of `offered` that stands first in the `Accept` headers. Weights and wildcards are ignored: a server that
/// knows none of the types answers with its default.
pub(super) fn first(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(',')).map(|kind| kind.split(';').next().unwrap_or_default());
    kinds.find_map(|kind| offered.iter().copied().find(|offered| kind.trim().eq_ignore_ascii_case(offered)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_type_is_wanted_whatever_is_beside_it() {
        let offered = ["application/json", "text/csv"];
        for (values, expected) in [
            (&[][..], None),
            (&["*/*"], None),
            (&["text/html, Text/CSV;q=0.5, application/json"], Some("text/csv")),
            (&["text/html", "application/json"], Some("application/json")),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(first(&headers, &offered), expected, "{values:?}");
        }
    }
}
