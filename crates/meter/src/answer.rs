//! The answer to a question about a meter.

use crate::Damaged;
use crate::figure::Figure;
use crate::group::{self, OTHER};
use crate::window::Window;

/// The largest number of figures in an answer.
pub const MAX_FIGURES: usize = 100_000;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerLimit {
    /// It would have more than [`MAX_FIGURES`] figures.
    #[error("the answer would have more than {MAX_FIGURES} figures")]
    TooLarge,
    /// What is stored cannot be read.
    #[error(transparent)]
    Damaged(#[from] Damaged),
}

/// What is asked about a meter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The minutes since 1970 with which windows begin, ascending, and the one with which the last ends.
    pub boundaries: Vec<i64>,
    /// The positions of the fields by which figures are grouped, of those of the meter.
    pub group_by: Vec<usize>,
    /// Positions of fields with the value that they must have; `None` is an event without it.
    pub filter: Vec<(usize, Option<String>)>,
}

/// Adds up what is stored to the windows of a question.
#[derive(Debug)]
pub struct Answer {
    question: Question,
    windows: Vec<Window>,
    figures: usize,
    /// Whether events were left out that may match the filter: those that are counted without their group.
    left_out: bool,
    key: Vec<u8>,
}

impl Answer {
    /// Begins with nothing.
    pub fn new(question: Question) -> Self {
        let windows = question.boundaries.iter().skip(1).map(|_| Window::default()).collect();
        Self { question, windows, figures: 0, left_out: false, key: Vec::new() }
    }

    /// Adds the figure of a group in a window that begins with a minute.
    ///
    /// # Errors
    /// [`AnswerLimit`].
    pub fn add(&mut self, start: i64, group: &[u8], figure: Figure) -> Result<(), AnswerLimit> {
        let after = self.question.boundaries.partition_point(|boundary| *boundary <= start);
        let Some(window) = after.checked_sub(1).and_then(|at| self.windows.get_mut(at)) else { return Ok(()) };
        self.key.clear();
        match group::values(group).filter(|_| group != OTHER) {
            Some(values) => {
                let has = |(position, value): &(usize, Option<String>)| {
                    values.get(*position).copied().flatten() == value.as_deref()
                };
                if !self.question.filter.iter().all(has) {
                    return Ok(());
                }
                for position in &self.question.group_by {
                    group::push(&mut self.key, values.get(*position).copied().flatten());
                }
            }
            None if self.question.filter.is_empty() => {
                // The sum over all groups includes it.
                if !self.question.group_by.is_empty() {
                    self.key.extend_from_slice(OTHER);
                }
            }
            None => {
                self.left_out = true;
                return Ok(());
            }
        }
        let before = window.groups().len();
        window.add(&self.key, figure)?;
        self.figures += window.groups().len() - before;
        if self.figures > MAX_FIGURES { Err(AnswerLimit::TooLarge) } else { Ok(()) }
    }

    /// Returns the windows, as many as the question has.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Returns whether events may be missing that match the filter.
    pub fn has_left_out(&self) -> bool {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[Option<&str>]) -> Vec<u8> {
        let mut key = Vec::new();
        assert!(values.iter().all(|value| group::push(&mut key, *value)));
        key
    }

    fn answer(group_by: &[usize], filter: &[(usize, Option<&str>)]) -> Answer {
        let filter = filter.iter().map(|(position, value)| (*position, value.map(str::to_owned))).collect();
        let question = Question { boundaries: vec![0, 60, 120], group_by: group_by.to_vec(), filter };
        let mut answer = Answer::new(question);
        for (start, values) in [
            (-1, [Some("a"), None]),
            (0, [Some("a"), None]),
            (59, [Some("b"), Some("x")]),
            (60, [Some("a"), Some("x")]),
            (60, [Some("a"), Some("y")]),
            (120, [None, None]),
        ] {
            answer.add(start, &key(&values), Figure::Count(1)).unwrap();
        }
        answer.add(60, OTHER, Figure::Count(10)).unwrap();
        answer
    }

    fn figures(answer: &Answer) -> Vec<Vec<(Vec<u8>, Figure)>> {
        let of = |window: &Window| {
            let mut groups: Vec<_> = window.groups().map(|(key, figure)| (key.to_vec(), figure.clone())).collect();
            groups.sort_by(|a, b| a.0.cmp(&b.0));
            groups
        };
        answer.windows().iter().map(of).collect()
    }

    #[test]
    fn figures_are_added_up_by_window_and_by_the_groups_that_are_asked_for() {
        let all = answer(&[], &[]);
        assert_eq!(figures(&all), [vec![(vec![], Figure::Count(2))], vec![(vec![], Figure::Count(12))]]);
        let first = answer(&[0], &[]);
        let a = |count| (key(&[Some("a")]), Figure::Count(count));
        assert_eq!(
            figures(&first),
            [vec![a(1), (key(&[Some("b")]), Figure::Count(1))], vec![a(2), (OTHER.to_vec(), Figure::Count(10))]]
        );
        assert!(!first.has_left_out());
    }

    #[test]
    fn a_filter_leaves_out_other_groups_and_says_what_it_cannot_decide() {
        let x = answer(&[0], &[(1, Some("x"))]);
        let one = |name| vec![(key(&[Some(name)]), Figure::Count(1))];
        assert_eq!(figures(&x), [one("b"), one("a")]);
        assert!(x.has_left_out());
        let absent = answer(&[], &[(1, None)]);
        assert_eq!(figures(&absent), [vec![(vec![], Figure::Count(1))], vec![]]);
    }

    #[test]
    fn an_answer_with_too_many_figures_is_refused() {
        let mut answer = Answer::new(Question { boundaries: (0..20).collect(), group_by: vec![0], filter: vec![] });
        let mut add = |n: usize| answer.add((n % 19) as i64, &key(&[Some(&(n / 19).to_string())]), Figure::Count(1));
        assert_eq!((0..MAX_FIGURES).try_for_each(&mut add), Ok(()));
        assert_eq!(add(MAX_FIGURES), Err(AnswerLimit::TooLarge));
    }
}
