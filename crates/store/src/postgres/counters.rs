//! The counters. They are incremented by a prepared statement whose values are part of the text of the call,
//! so that it can be sent together with COMMIT in one round trip.

use std::collections::BTreeMap;

use crate::Counts;

/// Prepares the statement that increments the counters. Topics and shard are passed as the hexadecimal of
/// their bytes, which contains nothing that would have to be escaped.
pub(super) const PREPARE: &str = "PREPARE add_counts (text[], text, int8[], int8[], int8[], int8[]) AS \
     INSERT INTO counters AS c (topic, shard, received, unique_processed, duplicate_dropped, conflicts) \
     SELECT convert_from(decode(topic, 'hex'), 'UTF8'), convert_from(decode($2, 'hex'), 'UTF8'), \
            received, uniques, duplicates, conflicts \
     FROM unnest($1, $3, $4, $5, $6) AS n (topic, received, uniques, duplicates, conflicts) \
     ON CONFLICT (topic, shard) DO UPDATE SET \
         received = c.received + excluded.received, \
         unique_processed = c.unique_processed + excluded.unique_processed, \
         duplicate_dropped = c.duplicate_dropped + excluded.duplicate_dropped, \
         conflicts = c.conflicts + excluded.conflicts";

/// Returns the call of that statement. The rows are in the order of the topics, so that two transactions
/// never deadlock, even if they share a shard.
pub(super) fn execute(shard: &str, counts: &BTreeMap<&str, Counts>) -> String {
    // In quotes, because an empty topic without them would be no element.
    let topics = list(counts.keys().map(|topic| format!("\"{}\"", hex(topic))));
    let column = |pick: fn(&Counts) -> u64| list(counts.values().map(|counts| pick(counts).to_string()));
    format!(
        "EXECUTE add_counts ({topics}, '{}', {}, {}, {}, {})",
        hex(shard),
        column(|c| c.received),
        column(|c| c.unique),
        column(|c| c.duplicates),
        column(|c| c.conflicts),
    )
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("'{{{}}}'", values.collect::<Vec<_>>().join(","))
}

fn hex(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len() * 2), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_shards_are_in_the_statement_as_hexadecimal_only() {
        let one = Counts { received: 3, unique: 2, duplicates: 1, conflicts: 0 };
        let counts = BTreeMap::from([("", one), ("'); DROP", one), ("{\"ü", Counts::default())]);
        assert_eq!(
            execute("a/0", &counts),
            "EXECUTE add_counts ('{\"\",\"27293b2044524f50\",\"7b22c3bc\"}', '612f30', \
             '{3,3,0}', '{2,2,0}', '{1,1,0}', '{0,0,0}')"
        );
    }
}
