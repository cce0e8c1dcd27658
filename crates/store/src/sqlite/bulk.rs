//! Many rows by few statements. SQLite has no arrays, so a statement has a parameter for each value of each row.
//! There are statements of a few sizes only, so that all of them stay prepared.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

/// Rows per statement, largest first. SQLite allows 32,766 parameters in one.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// The same statement for each number of rows.
pub(super) struct Bulk {
    texts: [Arc<str>; SIZES.len()],
}

impl Bulk {
    /// Creates the statements `head row, row, … tail`.
    pub fn new(head: &str, row: &str, tail: &str) -> Self {
        Self { texts: SIZES.map(|size| format!("{head} {} {tail}", vec![row; size].join(",")).into()) }
    }

    /// Divides rows into as few statements as the sizes allow.
    pub fn statements<'a, T>(&'a self, mut rows: &'a [T]) -> impl Iterator<Item = (SqlStr, &'a [T])> {
        std::iter::from_fn(move || {
            let index = SIZES.iter().position(|&size| size <= rows.len())?;
            let (now, later) = rows.split_at(SIZES[index]);
            rows = later;
            Some((AssertSqlSafe(Arc::clone(&self.texts[index])).into_sql_str(), now))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_statement_with_its_number_of_values() {
        let bulk = Bulk::new("VALUES", "(?)", "");
        let rows: Vec<_> = (0..2 * 256 + 64 + 4 + 3).collect();
        let statements: Vec<_> = bulk.statements(&rows).collect();
        assert!(statements.iter().all(|(text, rows)| text.as_str().matches('?').count() == rows.len()));
        assert_eq!(statements.iter().map(|(_, rows)| rows.len()).collect::<Vec<_>>(), [256, 256, 64, 4, 1, 1, 1]);
        assert_eq!(statements.concat_rows(), rows);
    }

    trait ConcatRows {
        fn concat_rows(&self) -> Vec<i32>;
    }

    impl ConcatRows for Vec<(SqlStr, &[i32])> {
        fn concat_rows(&self) -> Vec<i32> {
            self.iter().flat_map(|(_, rows)| rows.iter().copied()).collect()
        }
    }
}
