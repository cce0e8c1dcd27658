//! The statements by which the filters of groups are built and stored ([`crate::partitions`] says in which order).

use super::super::connections::Lease;
use crate::StoreError;
use crate::partitions::{FilterName, Group, NewGroup, Unfinished};

/// Returns the oldest group whose filter was begun and is not complete.
pub(crate) async fn unfinished(lease: &mut Lease) -> Result<Option<Unfinished>, StoreError> {
    let select = sqlx::query_as::<_, (i32, i32, i32, String, i64, i32)>(
        "SELECT first_partition, last_partition, level, filter::text, keys, segments FROM event_filter_groups \
         WHERE NOT is_complete ORDER BY first_partition LIMIT 1",
    );
    let unfinished = lease.fetch_optional(select).await?;
    Ok(unfinished.map(|(first, last, level, id, keys, segments)| Unfinished {
        group: Group {
            first,
            last,
            level: level.cast_unsigned(),
            filter: FilterName { partition: first, id },
            keys: keys.cast_unsigned(),
        },
        segments: segments.cast_unsigned(),
    }))
}

/// Begins the filter of a group, and gives it a random name.
pub(crate) async fn begin(lease: &mut Lease, group: &NewGroup) -> Result<Group, StoreError> {
    let NewGroup { first, last, level, keys } = *group;
    let insert = sqlx::query_as(
        "INSERT INTO event_filter_groups (filter, level, first_partition, last_partition, keys) \
         VALUES (gen_random_uuid(), $1, $2, $3, $4) RETURNING filter::text",
    );
    let insert = insert.bind(level.cast_signed()).bind(first).bind(last).bind(keys.cast_signed());
    let (id,): (String,) = lease.fetch_one(insert).await?;
    Ok(Group { first, last, level, filter: FilterName { partition: first, id }, keys })
}

/// Stores the next segment, unless it is stored: the answer of a statement that did it may have been lost.
pub(crate) async fn add_segment(
    lease: &mut Lease,
    group: &Group,
    number: u32,
    content: Vec<u8>,
) -> Result<(), StoreError> {
    let add = sqlx::query(
        "WITH stored AS ( \
             INSERT INTO event_filters (filter, segment, content) VALUES ($1::text::uuid, $2, $3) \
             ON CONFLICT DO NOTHING) \
         UPDATE event_filter_groups SET segments = greatest(segments, $2 + 1) WHERE filter = $1::text::uuid",
    );
    lease.execute(add.bind(&group.filter.id).bind(number.cast_signed()).bind(content)).await
}

/// Lists a group, instead of the smaller ones that have partitions of it. The oldest partition of a smaller one may have been
/// removed.
pub(crate) async fn finish(lease: &mut Lease, group: &Group) -> Result<(), StoreError> {
    let finish = sqlx::query(
        "WITH finished AS ( \
             UPDATE event_filter_groups SET is_complete = true WHERE filter = $1::text::uuid RETURNING filter), \
         smaller AS ( \
             DELETE FROM event_filter_groups \
             WHERE filter <> $1::text::uuid AND first_partition <= $3 AND last_partition >= $2 \
               AND EXISTS (SELECT FROM finished) \
             RETURNING filter), \
         gone AS (DELETE FROM event_filters WHERE filter IN (SELECT filter FROM smaller)) \
         UPDATE event_layout SET version = gen_random_uuid() WHERE EXISTS (SELECT FROM finished)",
    );
    lease.execute(finish.bind(&group.filter.id).bind(group.first).bind(group.last)).await
}
