//! `results.json`: all figures, for programs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::figures::Spread;
use super::goals::GOALS;
use super::results::{Column, Results};
use super::table::names;

/// Returns all figures. `run` describes what was run, on which machine and with which settings. A goal that
/// was not measured is null; any other figure that was not measured is left out.
pub fn json(results: &Results, run: Value) -> Value {
    let mut all = json!({ "run": run });
    for goal in &GOALS {
        all[goal.part][goal.key] = goal.spread(results).map_or(Value::Null, Spread::json);
    }
    all["other_work_cores"] = results.other_work().map_or(Value::Null, Spread::json);
    let sections = results.sections.iter().map(|section| {
        let columns = section.columns.iter().map(|column| (column.key.clone(), figures(column)));
        (section.key.to_owned(), Value::Object(columns.collect()))
    });
    all["scenarios"] = Value::Object(sections.collect());
    all
}

fn figures(column: &Column) -> Value {
    let mut groups = Map::new();
    for (group, name) in names(std::slice::from_ref(column)) {
        let figures = groups.entry(group.key()).or_insert_with(|| json!({}));
        figures[name.as_str()] = column.spread(group, &name).map_or(Value::Null, Spread::json);
    }
    Value::Object(groups)
}

/// Writes the file. That of an earlier run is replaced.
pub fn save(path: &Path, results: &Value) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(results)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::{Figures, Group};
    use crate::report::goals::{COST_OF_OLD, TO_COPY, summary};
    use crate::report::results::Section;

    /// Two rounds of COPY and of dup0, and one more of dup0.
    fn results() -> Results {
        let column = |key: &str, rates: &[f64]| {
            let mut column = Column::new(key, key);
            for (round, rate) in rates.iter().enumerate() {
                let mut figures = Figures::default();
                figures.add(Group::Rate, "k events/s", *rate);
                figures.add(Group::Resident, "publisher", 10.0 + round as f64);
                column.rounds.push((round, figures));
            }
            column
        };
        let columns = vec![column("copy", &[200.0, 100.0]), column("dup0", &[100.0, 75.0, 300.0])];
        let mut results =
            Results { sections: vec![Section { title: "", description: "", key: "end_to_end", columns }] };
        results.compare("dup0", "copy", "k events/s", TO_COPY);
        results
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_named_as_others_ask_for_them() {
        let json = json(&results(), json!({}));
        assert_eq!(json["ratios"]["copy_dup0"], json!({ "median": 0.625, "min": 0.5, "max": 0.75 }));
        assert_eq!(json["ratios"]["growth_20m"], Value::Null);
        assert_eq!(json["rss_mib"]["publisher"]["max"], 12.0);
        assert_eq!(json["scenarios"]["end_to_end"]["copy"]["rate"]["k events/s"]["median"], 150.0);
    }

    #[test]
    fn every_figure_that_others_ask_for_has_its_name_whether_or_not_it_was_measured() {
        let json = json(&Results::default(), json!({}));
        for ratio in [
            "growth_20m",
            "growth_50m",
            "cost_new_event",
            "copy_fixed_dup0",
            "copy_fixed_dup30",
            "copy_fixed_dup90",
            "copy_dup0",
            "copy_dup30",
            "copy_dup90",
            "row_p50_to_probe",
            "row_p99_to_probe",
            "single_to_bare",
            "single_to_100",
        ] {
            assert_eq!(json["ratios"].get(ratio), Some(&Value::Null), "{ratio}");
        }
        assert_eq!(json["rss_mib"].get("aggregator_50m"), Some(&Value::Null));
    }

    #[test]
    fn a_cost_is_compared_the_other_way_round_so_that_less_is_a_larger_ratio() {
        let column = |key: &str, costs: &[f64]| {
            let mut column = Column::new(key, key);
            for (round, cost) in costs.iter().enumerate() {
                let mut figures = Figures::default();
                figures.add(Group::Cpu, "all", *cost);
                column.rounds.push((round, figures));
            }
            column
        };
        let columns = vec![column("dup0", &[10.0, 20.0]), column("dup0_old", &[15.0, 20.0])];
        let mut results = Results { sections: vec![Section { title: "", description: "", key: "old", columns }] };
        results.compare_cost("dup0", "dup0_old", "all", COST_OF_OLD);
        assert_eq!(json(&results, json!({}))["ratios"]["cost_new_event"]["median"], 1.25);
    }

    #[test]
    fn the_summary_says_what_was_reached_and_leaves_out_what_was_not_measured() {
        let summary = summary(&results());
        let lines: Vec<&str> = summary.lines().collect();
        assert_eq!(lines.len(), 4, "{summary}");
        assert!(lines[2].contains("0.62 (0.50–0.75)") && lines[2].ends_with(" no |"), "{summary}");
        assert!(lines[3].contains("≤ 32") && lines[3].ends_with(" yes |"), "{summary}");
    }
}
