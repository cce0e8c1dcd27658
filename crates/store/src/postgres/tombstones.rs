//! Erases events again that come back after they were erased.

use crate::erased::{PAYLOAD, PAYLOAD_HASH};

/// Returns, as text, whether any event was erased.
pub(super) const HAS_ERASURES: &str = "EXISTS (SELECT FROM erasures)::text";

/// Returns the statement that erases events of a batch that come back after they were erased.
pub(super) fn erase_again(table: &str, (first, end): (i64, i64)) -> String {
    format!(
        "UPDATE {table} AS e SET payload = '{PAYLOAD}', source = NULL, payload_hash = '{PAYLOAD_HASH}' \
         FROM erasures AS x WHERE e.key = x.key AND e.seq >= {first} AND e.seq < {end}"
    )
}
