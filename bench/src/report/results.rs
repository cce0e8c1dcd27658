//! All figures of a run of the benchmark.

use super::figures::{Figures, Group, Spread};

/// The name of the CPU time that other processes used meanwhile, in cores. Figures are unreliable where it is
/// large.
pub const OTHER_WORK: &str = "cores taken by other work";

/// A column of a table: one scenario, measured in several rounds.
#[derive(Debug)]
pub struct Column {
    /// The heading.
    pub title: String,
    /// The name in `results.json`.
    pub key: String,
    /// The figures, each with the number of the round.
    pub rounds: Vec<(usize, Figures)>,
}

/// The columns of one table.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What the table shows, in a sentence or two.
    pub description: &'static str,
    /// The name in `results.json`.
    pub key: &'static str,
    /// The columns.
    pub columns: Vec<Column>,
}

/// All tables.
#[derive(Debug, Default)]
pub struct Results {
    /// The tables, without those of which nothing was measured.
    pub sections: Vec<Section>,
}

impl Column {
    /// Creates a column without figures.
    pub fn new(title: &str, key: &str) -> Self {
        Self { title: title.to_owned(), key: key.to_owned(), rounds: Vec::new() }
    }

    /// Returns the values of a figure in all rounds.
    pub fn values(&self, group: Group, name: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|(_, figures)| figures.get(group, name)).collect()
    }

    /// Returns the median and the range of a figure over all rounds.
    pub fn spread(&self, group: Group, name: &str) -> Option<Spread> {
        Spread::of(self.values(group, name))
    }
}

impl Results {
    /// Returns the column with this key, of whichever section.
    pub fn column(&self, key: &str) -> Option<&Column> {
        self.sections.iter().flat_map(|section| &section.columns).find(|column| column.key == key)
    }

    /// Returns how many cores other processes used during all scenarios.
    pub fn other_work(&self) -> Option<Spread> {
        let columns = self.sections.iter().flat_map(|section| &section.columns);
        Spread::of(columns.flat_map(|column| column.values(Group::Course, OTHER_WORK)).collect())
    }

    /// Divides a rate by that of another column in each round that has both, and adds it as a ratio.
    pub fn compare(&mut self, key: &str, to: &str, figure: &str, ratio: &str) {
        self.add_ratio(key, to, (Group::Rate, figure), ratio, |rate, reference| rate / reference);
    }

    /// Divides the CPU time per event of another column by that of this one in each round that has both, and adds it as a
    /// ratio.
    pub fn compare_cost(&mut self, key: &str, of: &str, figure: &str, ratio: &str) {
        self.add_ratio(key, of, (Group::Cpu, figure), ratio, |cost, reference| reference / cost);
    }

    fn add_ratio(
        &mut self,
        key: &str,
        reference: &str,
        (group, figure): (Group, &str),
        ratio: &str,
        divide: impl Fn(f64, f64) -> f64,
    ) {
        let Some(reference) = self.column(reference) else { return };
        let of: Vec<(usize, f64)> = reference
            .rounds
            .iter()
            .filter_map(|(round, figures)| Some((*round, figures.get(group, figure)?)))
            .collect();
        let columns = self.sections.iter_mut().flat_map(|section| &mut section.columns);
        for (round, figures) in columns.filter(|column| column.key == key).flat_map(|column| &mut column.rounds) {
            let reference = of.iter().find(|(number, _)| number == round);
            if let (Some((_, reference)), Some(value)) = (reference, figures.get(group, figure)) {
                figures.add(Group::Ratio, ratio, divide(value, *reference));
            }
        }
    }
}
