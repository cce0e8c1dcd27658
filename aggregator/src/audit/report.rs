//! The comparison of all numbers, and its form as a table and as JSON. It is pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Serialize, Serializer};
use sluice_event::Timestamp;
use sluice_log::LogCounters;
use sluice_store::inspect::{StoreAudit, TopicAudit};
use sluice_store::ledger::LedgerKind;
use sluice_store::{DamagedRow, RowCheck};

use crate::last_audit::LastAudit;

/// The result of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Every number agrees.
    Exact,
    /// A number that is needed is not known.
    Unknown,
    /// A number differs.
    Different,
}

impl Verdict {
    /// Returns the exit code of the program.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Exact => 0,
            Self::Different => 1,
            Self::Unknown => 2,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Different => "different",
            Self::Unknown => "unknown",
        }
    }
}

/// What was read.
pub(super) struct Readings {
    pub before: LogCounters,
    pub store: StoreAudit,
    pub after: LogCounters,
    /// What was found in the rows of events, if they were compared with their hashes.
    pub rows: Option<RowCheck>,
}

/// All numbers and comparisons.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    verdict: Verdict,
    log: Log,
    total: Topic,
    /// By name. The events of an empty name are not known to belong to a topic.
    topics: BTreeMap<String, Topic>,
    trail: Trail,
    /// Null if the rows were not compared with their hashes.
    row_hashes: Option<RowHashes>,
    checks: Vec<Check>,
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The counters of the log. Unknown numbers are null.
#[derive(Debug, Serialize)]
struct Log {
    appended: Option<u64>,
    acknowledged: Option<u64>,
    /// Appended and not accounted for by the store.
    in_flight: Option<i64>,
    /// How many may be in flight, and how many moved while the audit was reading.
    tolerance: Option<u64>,
}

/// The numbers of a topic.
#[derive(Debug, Default, Serialize)]
struct Topic {
    received: u64,
    unique: u64,
    duplicates: u64,
    conflicts: u64,
    rows: u64,
    removed: u64,
    dead_lettered: u64,
    discarded: u64,
    skipped: u64,
}

/// The audit trail.
#[derive(Debug, Serialize)]
struct Trail {
    rows: u64,
    removed: u64,
    /// Dropped duplicates for which a row was added.
    counted: u64,
}

/// What was found in the rows of events.
#[derive(Debug, Serialize)]
struct RowHashes {
    compared: u64,
    /// Of a type that does not store payloads as they were sent, so that only their keys were compared.
    without_payload: u64,
    damaged: u64,
    /// The first ones.
    examples: Vec<Example>,
}

/// A damaged row, with what could be read.
#[derive(Debug, Serialize)]
struct Example {
    seq: i64,
    topic: String,
    event_id: String,
}

impl From<&RowCheck> for RowHashes {
    fn from(check: &RowCheck) -> Self {
        let RowCheck { rows, without_payload, damaged, examples } = check;
        let example =
            |row: &DamagedRow| Example { seq: row.seq, topic: row.topic.clone(), event_id: row.event_id.clone() };
        let examples = examples.iter().map(example).collect();
        Self { compared: *rows, without_payload: *without_payload, damaged: *damaged, examples }
    }
}

/// One comparison.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    verdict: Verdict,
    detail: String,
}

impl From<&TopicAudit> for Topic {
    fn from(audit: &TopicAudit) -> Self {
        Self {
            received: audit.counts.received,
            unique: audit.counts.unique,
            duplicates: audit.counts.duplicates,
            conflicts: audit.counts.conflicts,
            rows: audit.rows,
            removed: audit.of(LedgerKind::Removed),
            dead_lettered: audit.dead_lettered,
            discarded: audit.of(LedgerKind::Discarded),
            skipped: audit.of(LedgerKind::Skipped),
        }
    }
}

impl Topic {
    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.unique += other.unique;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.rows += other.rows;
        self.removed += other.removed;
        self.dead_lettered += other.dead_lettered;
        self.discarded += other.discarded;
        self.skipped += other.skipped;
    }

    /// Returns the number of appended events that it accounts for.
    fn accounted(&self) -> u64 {
        self.received + self.dead_lettered + self.discarded + self.skipped
    }

    fn numbers(&self) -> [u64; 9] {
        [
            self.received,
            self.unique,
            self.duplicates,
            self.conflicts,
            self.rows,
            self.removed,
            self.dead_lettered,
            self.discarded,
            self.skipped,
        ]
    }
}

impl Report {
    /// Compares everything that was read.
    pub fn new(readings: &Readings) -> Self {
        let topics: BTreeMap<_, _> =
            readings.store.topics.iter().map(|(name, audit)| (name.clone(), Topic::from(audit))).collect();
        let mut total = Topic::default();
        topics.values().for_each(|topic| total.add(topic));
        let of_trail = |kind| readings.store.topics.values().map(|topic| topic.of(kind)).sum();
        let trail = Trail {
            rows: readings.store.trail_rows,
            removed: of_trail(LedgerKind::AuditRemoved),
            counted: of_trail(LedgerKind::Audited),
        };
        // Before the ledger began, what was skipped, removed or noted in the trail was not counted.
        let ledger_is_complete = readings.store.ledger_since.is_none();
        let (log, appended) = check_log(readings, &total, ledger_is_complete);
        let mut checks = vec![appended];
        for (name, topic) in &topics {
            check_topic(name, topic, ledger_is_complete, &mut checks);
        }
        checks.push(check_trail(&trail, ledger_is_complete));
        let row_hashes = readings.rows.as_ref().map(RowHashes::from);
        checks.extend(row_hashes.as_ref().map(check_rows));
        let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Exact);
        Self { verdict, log, total, topics, trail, row_hashes, checks }
    }

    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Returns what is noted in the store.
    pub fn noted(&self, at: Timestamp) -> LastAudit {
        let differing = self.checks.iter().filter(|check| check.verdict != Verdict::Exact).count();
        LastAudit {
            at: at.to_string(),
            verdict: self.verdict.as_str().to_owned(),
            comparisons: self.checks.len(),
            differing,
            rows_compared: self.row_hashes.as_ref().map(|hashes| hashes.compared),
        }
    }

    /// Returns the report for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let known = |number: Option<u64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "log: {} appended, {} acknowledged\n",
            known(self.log.appended),
            known(self.log.acknowledged)
        );
        let heads =
            ["received", "unique", "duplicates", "conflicts", "rows", "removed", "dead", "discarded", "skipped"];
        let width = self.topics.keys().map(|name| shown(name).chars().count()).max().unwrap_or(0).max(5);
        let mut line = |name: &str, cells: [String; 9]| {
            let _ = write!(text, "{name:width$}");
            cells.iter().for_each(|cell| {
                let _ = write!(text, " {cell:>12}");
            });
            text.push('\n');
        };
        line("topic", heads.map(str::to_owned));
        for (name, topic) in &self.topics {
            line(&shown(name), topic.numbers().map(|number| number.to_string()));
        }
        line("total", self.total.numbers().map(|number| number.to_string()));
        text.push('\n');
        for check in &self.checks {
            // Of the topics only what is wrong: there may be many.
            if check.verdict != Verdict::Exact || !check.name.starts_with("topic ") {
                let _ = writeln!(text, "{:9} {}: {}", check.verdict.as_str(), check.name, check.detail);
            }
        }
        let _ = writeln!(text, "{}", self.verdict.as_str());
        text
    }
}

/// Returns a topic without characters that a terminal would act on.
fn shown(name: &str) -> String {
    if name.is_empty() { "(not known)".to_owned() } else { name.escape_debug().to_string() }
}

fn check_log(readings: &Readings, total: &Topic, ledger_is_complete: bool) -> (Log, Check) {
    let name = "appended = received + dead-lettered + discarded + skipped + in flight".to_owned();
    let accounted = total.accounted();
    // A log that has counted nothing although events are stored is empty, or is not the one they came from.
    let appended = readings.after.appended.filter(|appended| *appended > 0 || accounted == 0);
    let acknowledged = readings.after.acknowledged;
    let Some((appended, acknowledged_before)) = appended.zip(readings.before.acknowledged) else {
        let detail = "a counter of the log was lost, or the log is not the one that the events came from".to_owned();
        let log = Log { appended, acknowledged, in_flight: None, tolerance: None };
        return (log, Check { name, verdict: Verdict::Unknown, detail });
    };
    let in_flight = appended.cast_signed() - accounted.cast_signed();
    // What was acknowledged before is committed, and what is committed was appended.
    let tolerance = appended.saturating_sub(acknowledged_before);
    let fits = (0..=tolerance.cast_signed()).contains(&in_flight);
    let verdict = match fits {
        true => Verdict::Exact,
        // It can only be that too little was counted.
        false if !ledger_is_complete && in_flight > 0 => Verdict::Unknown,
        false => Verdict::Different,
    };
    let why = match verdict {
        Verdict::Exact => "",
        Verdict::Unknown => "; earlier versions did not count what was skipped",
        Verdict::Different if in_flight < 0 => {
            "; events were counted twice, or the log has lost a counter or was restored from an older copy"
        }
        Verdict::Different => "; events are missing",
    };
    let detail =
        format!("{appended} = {accounted} + {in_flight} in flight, and 0 to {tolerance} may be in flight{why}");
    let log = Log { appended: Some(appended), acknowledged, in_flight: Some(in_flight), tolerance: Some(tolerance) };
    (log, Check { name, verdict, detail })
}

fn check_topic(name: &str, topic: &Topic, ledger_is_complete: bool, checks: &mut Vec<Check>) {
    let Topic { received, unique, duplicates, conflicts, rows, removed, .. } = *topic;
    let mut check = |what: &str, fits: bool, may_be_unknown: bool, detail: String| {
        let verdict = match fits {
            true => Verdict::Exact,
            false if may_be_unknown => Verdict::Unknown,
            false => Verdict::Different,
        };
        checks.push(Check { name: format!("topic {}: {what}", shown(name)), verdict, detail });
    };
    check(
        "received = unique + duplicates",
        received == unique + duplicates,
        false,
        format!("{received} and {unique} + {duplicates}"),
    );
    check(
        "unique = rows + removed",
        unique == rows + removed,
        !ledger_is_complete && unique > rows + removed,
        format!("{unique} and {rows} + {removed}"),
    );
    check("conflicts ≤ duplicates", conflicts <= duplicates, false, format!("{conflicts} and {duplicates}"));
}

fn check_trail(trail: &Trail, ledger_is_complete: bool) -> Check {
    let Trail { rows, removed, counted } = *trail;
    let verdict = match counted == rows + removed {
        true => Verdict::Exact,
        false if !ledger_is_complete && counted < rows + removed => Verdict::Unknown,
        false => Verdict::Different,
    };
    let name = "audited duplicates = rows of the audit trail + removed ones".to_owned();
    Check { name, verdict, detail: format!("{counted} and {rows} + {removed}") }
}

fn check_rows(hashes: &RowHashes) -> Check {
    let RowHashes { compared, without_payload, damaged, examples } = hashes;
    let mut detail = format!("{compared} compared, {damaged} damaged");
    if *without_payload > 0 {
        let _ = write!(detail, "; the payloads of {without_payload} are jsonb, which cannot be compared");
    }
    for Example { seq, topic, event_id } in examples {
        let _ = write!(detail, "; seq {seq}: {} {}", shown(topic), event_id.escape_debug());
    }
    let verdict = if *damaged == 0 { Verdict::Exact } else { Verdict::Different };
    Check { name: "rows of events = their hashes".to_owned(), verdict, detail }
}

#[cfg(test)]
mod tests {
    use sluice_store::Counts;

    use super::*;

    fn log(appended: u64, acknowledged: u64) -> LogCounters {
        LogCounters { appended: Some(appended), acknowledged: Some(acknowledged) }
    }

    /// A topic of which 10 arrived: 7 unique ones, 2 of them removed, and 3 duplicates; 1 was skipped.
    fn readings() -> Readings {
        let counts = Counts { received: 10, unique: 7, duplicates: 3, conflicts: 1 };
        let ledger = BTreeMap::from([(LedgerKind::Removed, 2), (LedgerKind::Skipped, 1)]);
        let topic = TopicAudit { counts, rows: 5, dead_lettered: 0, ledger };
        let store = StoreAudit { topics: BTreeMap::from([("t".to_owned(), topic)]), ..StoreAudit::default() };
        Readings { before: log(11, 11), store, after: log(11, 11), rows: None }
    }

    fn verdict(change: impl FnOnce(&mut Readings, &mut TopicAudit)) -> Verdict {
        let mut readings = readings();
        let mut topic = readings.store.topics.remove("t").unwrap();
        change(&mut readings, &mut topic);
        readings.store.topics.insert("t".to_owned(), topic);
        Report::new(&readings).verdict()
    }

    #[test]
    fn what_agrees_is_exact_and_each_single_difference_is_found() {
        assert_eq!(verdict(|_, _| {}), Verdict::Exact);
        assert_eq!(verdict(|_, topic| topic.counts.duplicates += 1), Verdict::Different);
        assert_eq!(verdict(|_, topic| topic.rows -= 1), Verdict::Different);
        assert_eq!(verdict(|_, topic| topic.dead_lettered += 1), Verdict::Different);
        assert_eq!(verdict(|_, topic| topic.counts.conflicts = 4), Verdict::Different);
        assert_eq!(verdict(|readings, _| readings.after = log(12, 11)), Verdict::Exact, "one is in flight");
        assert_eq!(
            verdict(|readings, _| (readings.before, readings.after) = (log(12, 12), log(12, 12))),
            Verdict::Different
        );
        assert_eq!(verdict(|readings, _| readings.after = log(10, 10)), Verdict::Different);
        assert_eq!(verdict(|readings, _| readings.store.trail_rows = 1), Verdict::Different);
        let rows = RowCheck { rows: 5, ..RowCheck::default() };
        assert_eq!(verdict(|readings, _| readings.rows = Some(rows.clone())), Verdict::Exact);
        let rows = RowCheck { damaged: 1, ..rows };
        assert_eq!(verdict(|readings, _| readings.rows = Some(rows)), Verdict::Different);
    }

    #[test]
    fn the_table_has_every_topic_and_of_the_checks_of_topics_those_that_failed() {
        let mut readings = readings();
        let topic = readings.store.topics["t"].clone();
        readings.store.topics.insert("u\u{1b}[2J".to_owned(), TopicAudit { rows: 4, ..topic });
        (readings.before, readings.after) = (log(22, 22), log(22, 22));
        let damaged = DamagedRow { seq: 7, topic: "t".to_owned(), event_id: "\u{1b}1".to_owned() };
        readings.rows = Some(RowCheck { rows: 9, without_payload: 9, damaged: 1, examples: vec![damaged] });
        let table = Report::new(&readings).table();
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for expected in [
            "log: 22 appended, 22 acknowledged",
            "t 10 7 3 1 5 2 0 0 1",
            "u\\u{1b}[2J 10 7 3 1 4 2 0 0 1",
            "total 20 14 6 2 9 4 0 0 2",
            "different topic u\\u{1b}[2J: unique = rows + removed: 7 and 4 + 2",
            "different rows of events = their hashes: 9 compared, 1 damaged; the payloads of 9 are jsonb, which cannot be \
             compared; seq 7: t \\u{1b}1",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} is missing in\n{table}");
        }
        assert_eq!(lines.last().map(String::as_str), Some("different"));
        assert!(!table.contains("topic t: "), "{table}");
    }

    #[test]
    fn a_lost_counter_is_unknown_but_not_more_than_a_difference() {
        let lost = LogCounters { appended: None, acknowledged: None };
        assert_eq!(verdict(|readings, _| readings.after = lost), Verdict::Unknown);
        assert_eq!(Verdict::Unknown.exit_code(), 2);
        assert_eq!(verdict(|readings, _| (readings.before, readings.after) = (log(0, 0), log(0, 0))), Verdict::Unknown);
        let both = |readings: &mut Readings, topic: &mut TopicAudit| {
            readings.after = lost;
            topic.rows += 1;
        };
        assert_eq!(verdict(both), Verdict::Different);
    }
}
