//! The index that gives the events of a topic in the order of their arrival.

/// What the index has before `seq`. A step of a page reads tables of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicIndex {
    /// A hash of the topic, in partitions: comparing numbers makes inserting a row cheaper than comparing texts.
    Hash,
    /// The topic, in the table of all events, as older versions have made it.
    Text,
}

impl TopicIndex {
    /// Returns the first column of the index, of the table with this alias.
    pub fn column(self, alias: &str) -> String {
        self.of(&format!("{alias}.topic"))
    }

    /// Returns the condition for the events of a topic before a `seq` and from another on.
    ///
    /// Rows of the column and the number are compared as a whole: by the order of the numbers alone, the server may look
    /// at all rows for those of a rare topic. So it cannot tell from these which partitions are read: that is for
    /// conditions on `seq` alone, or for a list of tables.
    ///
    /// Topics with the same hash are told apart by a function and not by `=`: of that the server expects few rows, so it would
    /// sort all events of the topic instead of reading the newest by the index.
    pub fn range(self, alias: &str, topic: &str, before: &str, from: &str) -> String {
        let (column, value) = (self.column(alias), self.of(topic));
        format!(
            "({column}, {alias}.seq) < ({value}, {before}) AND ({column}, {alias}.seq) >= ({value}, {from}) \
             AND texteq({alias}.topic, {topic})"
        )
    }

    pub(super) fn of(self, topic: &str) -> String {
        match self {
            Self::Hash => format!("hashtext({topic})"),
            Self::Text => topic.to_owned(),
        }
    }
}
