//! What is asked about a meter.

use std::collections::BTreeMap;

use sluice_meter::Definition;
use sluice_meter::answer::Question;
use sluice_meter::fold::Length as Stored;
use sluice_service::problem::Problem;

use crate::api::problems::invalid_query;
use crate::api::span::Span;
use crate::api::windows::Length;

/// The fields by which figures are grouped, and the values that others must have.
#[derive(Debug, Clone, Default)]
pub(super) struct Groups {
    /// Fields of the meter.
    pub group_by: Vec<String>,
    /// Fields of the meter with the value that they must have; `None` is an event without it.
    pub filter: BTreeMap<String, Option<String>>,
}

impl Groups {
    /// Reads the parameters of a query string: fields with commas between them, or a JSON array, and a JSON object.
    pub fn read(group_by: Option<&str>, filter: Option<&str>) -> Result<Self, Problem> {
        let group_by = match group_by {
            None | Some("") => Vec::new(),
            Some(json) if json.starts_with('[') => serde_json::from_str(json)
                .map_err(|_| invalid_query("group_by", "must be fields with commas between them, or a JSON array"))?,
            Some(fields) => fields.split(',').map(str::to_owned).collect(),
        };
        let filter = filter.map(|json| {
            let json = serde_json::from_str(json);
            json.map_err(|_| invalid_query("filter", "must be a JSON object of fields with a text or null each"))
        });
        Ok(Self { group_by, filter: filter.transpose()?.unwrap_or_default() })
    }

    /// Returns the question about a meter.
    pub fn question(self, definition: &Definition, span: &Span) -> Result<Question, Problem> {
        let fields: Vec<String> = definition.group_by.iter().map(ToString::to_string).collect();
        let position = |parameter: &str, field: &str| {
            fields.iter().position(|own| own == field).ok_or_else(|| {
                let own = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
                invalid_query(parameter, &format!("the meter is not grouped by `{field}`; its fields are: {own}"))
            })
        };
        let group_by: Vec<usize> =
            self.group_by.iter().map(|field| position("group_by", field)).collect::<Result<_, _>>()?;
        if (1..group_by.len()).any(|at| group_by[..at].contains(&group_by[at])) {
            return Err(invalid_query("group_by", "has a field twice"));
        }
        let filter = self.filter.into_iter().map(|(field, value)| Ok((position("filter", &field)?, value)));
        Ok(Question { boundaries: span.minutes(), group_by, filter: filter.collect::<Result<_, Problem>>()? })
    }
}

/// Returns the length of the stored windows that a span is made of: the longest that fits.
pub(super) fn stored_length(span: &Span) -> Stored {
    if span.length == Length::Minute {
        return Stored::Minute;
    }
    let fits = |length: &Stored| span.begins_at_multiples_of(length.minutes());
    [Stored::Hour, Stored::Quarter].into_iter().find(fits).unwrap_or(Stored::Minute)
}
