//! What is measured only if it is asked for, to choose between variants: each in each round, and a table of the medians.

mod row_cost;
mod scaling;
mod server_settings;

use anyhow::Context as _;

use crate::plan::{ComparePlan, Comparison};
use crate::report::figures::{Group, Spread};
use crate::report::table::align;

/// Measures one comparison. Returns a table.
///
/// # Errors
/// If something cannot be measured, or is not stored exactly.
pub async fn run(comparison: Comparison, plan: ComparePlan) -> anyhow::Result<String> {
    match comparison {
        Comparison::RowCost => row_cost::run(plan).await,
        Comparison::Scaling => scaling::run(plan).await,
        Comparison::ServerSettings => server_settings::run(plan).await,
    }
}

/// What was measured of each variant.
struct Measured<const COLUMNS: usize> {
    names: Vec<&'static str>,
    columns: [(&'static str, Group); COLUMNS],
    rounds: usize,
    figures: Vec<Vec<[f64; COLUMNS]>>,
}

impl<const COLUMNS: usize> Measured<COLUMNS> {
    /// Returns nothing for the variants with these names and the columns of their figures.
    fn new(names: Vec<&'static str>, columns: [(&'static str, Group); COLUMNS], rounds: usize) -> Self {
        Self { figures: vec![Vec::new(); names.len()], names, columns, rounds }
    }

    /// Returns the rounds and the variants in the order in which they are to be measured: each round begins with another
    /// variant.
    fn order(&self) -> impl Iterator<Item = (usize, usize)> + use<COLUMNS> {
        let variants = self.names.len();
        (0..self.rounds).flat_map(move |round| (0..variants).map(move |turn| (round, (round + turn) % variants)))
    }

    /// Adds the figures of a variant in a round.
    ///
    /// # Errors
    /// If it could not be measured.
    fn add(&mut self, round: usize, which: usize, figures: anyhow::Result<[f64; COLUMNS]>) -> anyhow::Result<()> {
        let name = self.names[which];
        let figures = figures.with_context(|| name.to_owned())?;
        eprintln!("round {}/{}, {name}: {:.1} {}", round + 1, self.rounds, figures[0], self.columns[0].0);
        self.figures[which].push(figures);
        Ok(())
    }

    /// Returns the table of the medians.
    fn table(&self, title: &str) -> String {
        let rows = self.names.iter().zip(&self.figures).map(|(name, measured)| {
            let cell = |(at, (_, group)): (usize, &(&str, Group))| {
                let spread = Spread::of(measured.iter().map(|figures| figures[at]).collect());
                spread.map_or_else(String::new, |spread| spread.show(*group))
            };
            std::iter::once((*name).to_owned()).chain(self.columns.iter().enumerate().map(cell)).collect()
        });
        let head = std::iter::once(title).chain(self.columns.iter().map(|(name, _)| *name)).map(str::to_owned);
        align(&head.collect::<Vec<_>>(), &rows.collect::<Vec<_>>())
    }
}
