//! The alerts of a resource. `docs/operations.md` has a table of them, and each names the section that says what to do; a
//! test compares both.

use crate::controller::build::names::Names;

/// An alert.
pub(super) struct Alert {
    /// Its name.
    pub(super) name: &'static str,
    /// The expression. `{}` stands for the labels of the metrics of the resource's programs.
    expr: &'static str,
    /// For how long the expression must have a value.
    pub(super) for_: Option<&'static str>,
    /// `critical`: events may be lost, or nothing works. `warning`: somebody must act before long. `info`: worth a look.
    pub(super) severity: &'static str,
    /// What is wrong, in a few words.
    pub(super) summary: &'static str,
    /// What that means.
    pub(super) description: &'static str,
    /// The section that says what to do.
    pub(super) runbook: &'static str,
}

impl Alert {
    /// Returns the expression for the resource of these names.
    pub(super) fn expression(&self, names: &Names) -> String {
        let (namespace, name) = (&names.namespace, &names.name);
        let labels = format!("{{namespace=\"{namespace}\",pod=~\"{name}-(publisher|aggregator)-.+\"");
        // Another label may follow.
        self.expr.replace("{},", &format!("{labels},")).replace("{}", &format!("{labels}}}"))
    }
}

/// All alerts.
pub(super) const ALL: &[Alert] = &[
    Alert {
        name: "SluiceNoPublishers",
        expr: "absent(sluice_publish_backlog_events{})",
        for_: Some("10m"),
        severity: "critical",
        summary: "No publisher has metrics",
        description: "Either no publisher runs, so that no event is accepted, or Prometheus cannot reach them.",
        runbook: "docs/operations.md#an-eventaggregator-that-is-not-ready",
    },
    Alert {
        name: "SluiceEventsLost",
        expr: "sum(sluice_log_losses_total{}) > 0 or sum(sluice_entries_lost_total{}) > 0",
        for_: None,
        severity: "critical",
        summary: "Redis lost events that were accepted",
        description: "The log of the programs says between which times. Clients must send again what they sent then.",
        runbook: "docs/high-availability.md#a-log-that-has-lost-something",
    },
    Alert {
        name: "SluiceEventsMissing",
        expr: "max(sluice_missing_from_timestamp_seconds{}) > 0",
        for_: None,
        severity: "critical",
        summary: "PostgreSQL lost events that cannot be stored again",
        description: "It lost commits that reach back beyond what Redis still has. Clients must send again what they \
                      sent between the two times of the metrics.",
        runbook: "docs/high-availability.md#postgresql",
    },
    Alert {
        name: "SluiceDamage",
        expr: "sum(sluice_damaged_entries_total{}) > 0 or sum(sluice_damaged_rows_total{}) > 0",
        for_: None,
        severity: "critical",
        summary: "Bytes changed on a disk",
        description: "An entry in Redis or a row in PostgreSQL does not match its hash.",
        runbook: "docs/operations.md#damage",
    },
    Alert {
        name: "SluicePublishRefused",
        expr: "sum(rate(sluice_publish_requests_total{},code=~\"backlog_full|log_full|log_memory_full|\
               log_unavailable|queue_full\"}[5m])) > 0",
        for_: Some("5m"),
        severity: "warning",
        summary: "Publishers refuse events",
        description: "Clients are answered 429 or 503 and must repeat their requests.",
        runbook: "docs/operations.md#the-publisher-answers-429",
    },
    Alert {
        name: "SluiceBacklogGrows",
        expr: "max(sluice_publish_backlog_events{}) > 1000 and max(deriv(sluice_publish_backlog_events{}[15m])) > 0",
        for_: Some("15m"),
        severity: "warning",
        summary: "More is published than stored",
        description: "When the backlog reaches its limit, publishing answers 429.",
        runbook: "docs/operations.md#the-backlog-grows",
    },
    Alert {
        name: "SluiceStuck",
        expr: "sum(sluice_stuck_batches{}) > 0 or max(sluice_replay_pending{}) > 0",
        for_: Some("10m"),
        severity: "warning",
        summary: "Aggregators cannot store what they have read",
        description: "The label reason of sluice_stuck_batches and the log of the aggregators say why.",
        runbook: "docs/operations.md#the-backlog-grows",
    },
    Alert {
        name: "SluiceDeadLetters",
        expr: "sum(increase(sluice_events_dead_lettered_total{}[1h])) > 0",
        for_: None,
        severity: "warning",
        summary: "Events could not be stored",
        description: "They are kept as dead letters with a reason, and wait for a decision.",
        runbook: "docs/operations.md#dead-letters",
    },
    Alert {
        name: "SluiceNotDurable",
        expr: "min(sluice_durability_setting{}) < 1",
        for_: Some("5m"),
        severity: "warning",
        summary: "A setting of Redis or PostgreSQL is less than durability needs",
        description: "Events that were confirmed may be lost when that server fails.",
        runbook: "docs/operations.md#what-redis-and-postgresql-must-promise",
    },
    Alert {
        name: "SluiceCertificateEnds",
        expr: "min(sluice_tls_certificate_expiry_timestamp_seconds{}) - time() < 604800",
        for_: Some("15m"),
        severity: "warning",
        summary: "A certificate ends within 7 days",
        description: "After that, clients cannot connect any more.",
        runbook: "docs/security.md#rotate-a-certificate",
    },
    Alert {
        name: "SluiceConflicts",
        expr: "sum(increase(sluice_events_conflict_total{}[1h])) > 0",
        for_: None,
        severity: "info",
        summary: "A client sends one event id with different payloads",
        description: "The first payload stays. The log of the aggregators names each conflict.",
        runbook: "docs/operations.md#at-a-glance",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn document(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    /// Returns the anchor of a heading, as GitHub makes it.
    fn anchor(heading: &str) -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    }

    #[test]
    fn each_alert_names_a_section_that_exists_and_has_a_row_in_the_documentation() {
        let operations = document("docs/operations.md");
        let rows: BTreeSet<_> = operations.lines().filter_map(|line| line.strip_prefix("| `Sluice")).collect();
        // Those of the operator are the chart's.
        let rows = rows.iter().filter(|row| !row.starts_with("Operator"));
        let documented: BTreeSet<_> =
            rows.filter_map(|row| Some(format!("Sluice{}", row.split('`').next()?))).collect();
        let names: BTreeSet<_> = ALL.iter().map(|alert| alert.name.to_owned()).collect();
        assert_eq!(documented, names);
        for alert in ALL {
            let (file, section) = alert.runbook.split_once('#').unwrap();
            let text = document(file);
            let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == section);
            assert!(found, "{} is not there", alert.runbook);
        }
    }

    #[test]
    fn expressions_are_about_metrics_that_exist_and_about_one_resource() {
        let metrics = document("docs/metrics.md");
        let names = Names { name: "shop".to_owned(), namespace: "till".to_owned() };
        for alert in ALL {
            let expression = alert.expression(&names);
            let used = expression.split("sluice_").skip(1).map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
                assert!(rest[end..].starts_with("{namespace=\"till\",pod=~\"shop-"), "{expression}");
                format!("| `sluice_{}` |", &rest[..end])
            });
            for row in used {
                assert!(metrics.contains(&row), "{row} is not in docs/metrics.md");
            }
        }
    }
}
