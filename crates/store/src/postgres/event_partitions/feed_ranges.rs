//! Where the feed reads: in one table after another, the oldest events first.

use super::TopicIndex;
use super::layout::first_seq;
use crate::partitions::Layout;

/// Events that lie in one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// The number before them.
    pub after: i64,
    /// The last one.
    pub upto: i64,
    /// What the table has.
    pub index: TopicIndex,
}

impl Layout {
    /// Returns the range after a number, up to another; `None` if there are no events.
    pub(crate) fn range_after(&self, after: i64, upto: i64) -> Option<Range> {
        let after = after.max(self.first_seq().saturating_sub(1));
        let Some(open) = self.open() else {
            return (after < upto).then_some(Range { after, upto, index: TopicIndex::Text });
        };
        let numbers = self.closed.iter().rev().map(|closed| closed.number).chain([open]);
        for number in numbers {
            let is_former = self.former == Some(number);
            // What was the table of all events has those before it too.
            let first = if is_former { i64::MIN } else { first_seq(number) };
            let last = number.checked_add(1).map_or(i64::MAX, |next| first_seq(next) - 1);
            let (after, upto) = (after.max(first.saturating_sub(1)), upto.min(last));
            if after < upto {
                let index = if is_former { TopicIndex::Text } else { TopicIndex::Hash };
                return Some(Range { after, upto, index });
            }
        }
        None
    }
}

impl TopicIndex {
    /// Returns the condition for the events of a topic after a number and up to another, as [`TopicIndex::range`] does.
    pub(crate) fn after(self, alias: &str, topic: &str, after: &str, upto: &str) -> String {
        let (column, value) = (self.column(alias), self.of(topic));
        format!(
            "({column}, {alias}.seq) > ({value}, {after}) AND ({column}, {alias}.seq) <= ({value}, {upto}) \
             AND texteq({alias}.topic, {topic})"
        )
    }

    /// Returns the beginning of the order of the events of a topic, as the index has it.
    pub(crate) fn order(self, alias: &str) -> String {
        format!("{},", self.column(alias))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions::Listed;

    fn listed(number: i32, is_open: bool, was_events: bool) -> Listed {
        Listed { number, is_open, was_events, filter: None }
    }

    #[test]
    fn each_table_is_read_after_the_one_before_it() {
        let all = vec![listed(5, true, false), listed(3, false, false), listed(1, false, true)];
        let layout = Layout::of("v".into(), 100, all, Vec::new()).unwrap();
        let range = |after, upto, index| Some(Range { after, upto, index });
        let end = first_seq(5) + 7;
        assert_eq!(layout.range_after(0, end), range(99, first_seq(2) - 1, TopicIndex::Text));
        assert_eq!(
            layout.range_after(first_seq(2) - 1, end),
            range(first_seq(3) - 1, first_seq(4) - 1, TopicIndex::Hash)
        );
        assert_eq!(
            layout.range_after(first_seq(3) + 9, end),
            range(first_seq(3) + 9, first_seq(4) - 1, TopicIndex::Hash)
        );
        assert_eq!(layout.range_after(first_seq(4), end), range(first_seq(5) - 1, end, TopicIndex::Hash));
        assert_eq!(layout.range_after(end, end), None);
    }
}
