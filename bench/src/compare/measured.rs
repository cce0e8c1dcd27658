//! The figures of a comparison.

use anyhow::Context as _;

use crate::report::figures::{Group, Spread};
use crate::report::table::align;

/// What was measured of each variant.
pub struct Measured<const COLUMNS: usize> {
    names: Vec<&'static str>,
    columns: [(&'static str, Group); COLUMNS],
    rounds: usize,
    figures: Vec<Vec<[f64; COLUMNS]>>,
}

impl<const COLUMNS: usize> Measured<COLUMNS> {
    /// Returns nothing for the variants with these names and the columns of their figures.
    pub fn new(names: Vec<&'static str>, columns: [(&'static str, Group); COLUMNS], rounds: usize) -> Self {
        Self { figures: vec![Vec::new(); names.len()], names, columns, rounds }
    }

    /// Returns the rounds and the variants in the order in which they are to be measured: each round begins with another
    /// variant.
    pub fn order(&self) -> impl Iterator<Item = (usize, usize)> + use<COLUMNS> {
        let variants = self.names.len();
        (0..self.rounds).flat_map(move |round| (0..variants).map(move |turn| (round, (round + turn) % variants)))
    }

    /// Adds the figures of a variant in a round.
    ///
    /// # Errors
    /// If it could not be measured.
    pub fn add(&mut self, round: usize, which: usize, figures: anyhow::Result<[f64; COLUMNS]>) -> anyhow::Result<()> {
        let name = self.names[which];
        let figures = figures.with_context(|| name.to_owned())?;
        eprintln!("round {}/{}, {name}: {:.1} {}", round + 1, self.rounds, figures[0], self.columns[0].0);
        self.figures[which].push(figures);
        Ok(())
    }

    /// Returns the table of the medians.
    pub fn table(&self, title: &str) -> String {
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
