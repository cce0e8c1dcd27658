//! All that a run measured.

use super::figures::{Figures, Group, Spread};

/// The name of what the machine did beside what is measured: figures with much of it say little.
pub const OTHER_WORK: &str = "cores taken by other work";

/// A column of a table: the same block, measured in several rounds.
#[derive(Debug)]
pub struct Column {
    /// The heading.
    pub title: String,
    /// The name in `results.json`.
    pub key: String,
    /// What was measured, each with the number of its round.
    pub rounds: Vec<(usize, Figures)>,
}

/// Columns that stand beside each other in one table.
#[derive(Debug)]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What is measured there, in a sentence or two.
    pub says: &'static str,
    /// The name in `results.json`.
    pub key: &'static str,
    /// The columns.
    pub columns: Vec<Column>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Results {
    /// Without those that were not measured.
    pub sections: Vec<Section>,
}

impl Column {
    /// An empty one.
    pub fn new(title: &str, key: &str) -> Self {
        Self { title: title.to_owned(), key: key.to_owned(), rounds: Vec::new() }
    }

    /// All values of a figure.
    pub fn values(&self, group: Group, name: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|(_, figures)| figures.get(group, name)).collect()
    }

    /// What the rounds say together of one figure.
    pub fn spread(&self, group: Group, name: &str) -> Option<Spread> {
        Spread::of(self.values(group, name))
    }
}

impl Results {
    /// The column of a name, of all sections.
    pub fn column(&self, key: &str) -> Option<&Column> {
        self.sections.iter().flat_map(|section| &section.columns).find(|column| column.key == key)
    }

    /// How many cores other work took while something was measured.
    pub fn other_work(&self) -> Option<Spread> {
        let columns = self.sections.iter().flat_map(|section| &section.columns);
        Spread::of(columns.flat_map(|column| column.values(Group::Course, OTHER_WORK)).collect())
    }

    /// Divides a figure by another column's in every round that has both, and adds it as a ratio.
    pub fn compare(&mut self, key: &str, to: &str, figure: &str, ratio: &str) {
        let Some(reference) = self.column(to) else { return };
        let of: Vec<(usize, f64)> = reference
            .rounds
            .iter()
            .filter_map(|(round, figures)| Some((*round, figures.get(Group::Rate, figure)?)))
            .collect();
        let columns = self.sections.iter_mut().flat_map(|section| &mut section.columns);
        for (round, figures) in columns.filter(|column| column.key == key).flat_map(|column| &mut column.rounds) {
            let reference = of.iter().find(|(number, _)| number == round);
            if let (Some((_, reference)), Some(rate)) = (reference, figures.get(Group::Rate, figure)) {
                figures.add(Group::Ratio, ratio, rate / reference);
            }
        }
    }
}
