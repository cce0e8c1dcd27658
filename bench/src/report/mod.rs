//! The report: a text with tables for readers, and `results.json` for programs.

pub mod figures;
pub mod goals;
pub mod json;
pub mod machine;
pub mod plot;
pub mod results;
pub mod table;

use serde_json::Value;

use figures::Group;
use results::Results;

/// Returns the text: the machine, the goals, and a table for each section.
pub fn markdown(results: &Results, run: &Value) -> String {
    let mut text = format!("```\n{}```\n\n{}", machine::lines(run), goals::summary(results));
    if let Some(cores) = results.other_work() {
        text.push_str(&format!("\nOther processes used {} of the cores meanwhile.\n", cores.show(Group::Cpu)));
    }
    for section in &results.sections {
        text.push_str(&format!(
            "\n### {}\n\n{}\n\n{}",
            section.title,
            section.description,
            table::table(&section.columns)
        ));
    }
    text
}
