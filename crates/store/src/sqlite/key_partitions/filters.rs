//! Which filters have room in memory, and how they are read.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::super::errors::of_statement;
use super::layout::Layout;
use crate::StoreError;
use crate::partitions::key_filter::{FilterName, Width};
use crate::partitions::{SegmentSource, Wanted};

/// Returns the filters to have in memory, the newest first: all of them, with 16 bits for each key, or with 8 where
/// they would take too much memory, and then as many as there is room for.
pub(crate) fn choose(layout: &Layout, max_bytes: u64) -> Vec<Wanted<'_>> {
    let filters = || layout.closed.iter().filter_map(|closed| Some((closed.filter.as_ref()?, closed.keys)));
    let wide: u64 = filters().map(|(_, keys)| Width::Wide.bytes(keys)).sum();
    let width = if wide <= max_bytes { Width::Wide } else { Width::Narrow };
    let mut bytes = 0;
    let fits = filters().take_while(|(_, keys)| {
        bytes += width.bytes(*keys);
        bytes <= max_bytes
    });
    fits.map(|(name, keys)| Wanted { name, keys, width }).collect()
}

#[async_trait]
impl SegmentSource for SqliteConnection {
    async fn segment(
        &mut self,
        FilterName { id, .. }: &FilterName,
        number: u32,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let select = sqlx::query_scalar("SELECT content FROM key_filters WHERE filter = ? AND segment = ?");
        select.bind(id).bind(number).fetch_optional(self).await.map_err(of_statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::key_partitions::layout::Closed;

    fn chosen(keys: &[u64], max_bytes: u64) -> Vec<(i32, Width)> {
        let closed = |(number, keys): (usize, &u64)| {
            let name = FilterName { partition: number as i32, id: number.to_string() };
            Closed { number: number as i32, last_seq: 0, keys: *keys, filter: Some(name) }
        };
        let layout = Layout::of_closed(keys.iter().enumerate().map(closed).collect());
        choose(&layout, max_bytes).into_iter().map(|Wanted { name, width, .. }| (name.partition, width)).collect()
    }

    #[test]
    fn filters_are_narrowed_before_any_is_left_out_and_the_oldest_is_left_out_first() {
        use Width::{Narrow, Wide};
        let keys = [800, 800, 800];
        assert_eq!(chosen(&keys, 5_400), [(0, Wide), (1, Wide), (2, Wide)]);
        assert_eq!(chosen(&keys, 5_399), [(0, Narrow), (1, Narrow), (2, Narrow)]);
        assert_eq!(chosen(&keys, 2_699), [(0, Narrow), (1, Narrow)]);
        assert_eq!(chosen(&keys, 0), []);
    }
}
