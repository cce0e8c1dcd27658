//! The tables of the report: which scenarios each shows, and under which names.

use clap::ValueEnum;

use crate::plan::Scenario;
use crate::report::results::{Column, Section};

/// What the section about several aggregators shows.
const MORE_AGGREGATORS: [Scenario; 6] =
    [Scenario::Dup0x2, Scenario::Dup30x2, Scenario::Dup90x2, Scenario::Dup0x4, Scenario::Dup30x4, Scenario::Dup90x4];
/// What the section about accepting alone shows.
const INGEST: [Scenario; 8] = [
    Scenario::Ingest1,
    Scenario::Bare,
    Scenario::Ingest1Token,
    Scenario::Ingest1Jwt,
    Scenario::Ingest1UnreadJwt,
    Scenario::Ingest10,
    Scenario::Ingest100,
    Scenario::Ingest1000,
];

/// Returns the column of a scenario, without figures.
pub fn column(scenario: Scenario) -> Column {
    let title = match scenario {
        Scenario::Copy => "COPY",
        Scenario::CopyFixed => "COPY, fixed table",
        Scenario::Dup0 => "Sluice, 0% duplicates",
        Scenario::Dup30 => "Sluice, 30% duplicates",
        Scenario::Dup90 => "Sluice, 90% duplicates",
        Scenario::Dup0Old => "before partitions, 0% duplicates",
        Scenario::Dup0x2 => "2, 0% duplicates",
        Scenario::Dup30x2 => "2, 30%",
        Scenario::Dup90x2 => "2, 90%",
        Scenario::Dup0x4 => "4, 0%",
        Scenario::Dup30x4 => "4, 30%",
        Scenario::Dup90x4 => "4, 90%",
        Scenario::Single => "Sluice, requests of 1 event",
        Scenario::PerEventRedisPostgres => "service with Redis and PostgreSQL",
        Scenario::PerEventSqlite => "service with SQLite",
        Scenario::BatchedPeer => "batched peer",
        Scenario::Standalone => "Sluice standalone",
        Scenario::Ingest1 => "1 event",
        Scenario::Bare => "1 event, bare server",
        Scenario::Ingest1Token => "1 event, token",
        Scenario::Ingest1Jwt => "1 event, JWT",
        Scenario::Ingest1UnreadJwt => "1 event, unread JWT",
        Scenario::Ingest10 => "10 events",
        Scenario::Ingest100 => "100 events",
        Scenario::Ingest1000 => "1,000 events",
        Scenario::Simulate => "1,000 events",
        Scenario::Latency | Scenario::Growth | Scenario::Retention => "",
    };
    let key = scenario.to_possible_value().map(|value| value.get_name().replace('-', "_"));
    Column::new(title, &key.unwrap_or_default())
}

/// Arranges columns in their tables. Tables without a column are left out.
pub fn of(mut columns: Vec<(Scenario, Column)>) -> Vec<Section> {
    let mut section = |title, key, description, scenarios: &[Scenario]| {
        let position = |scenario: &Scenario| scenarios.iter().position(|other| other == scenario);
        let mut here: Vec<_> = columns.extract_if(.., |(scenario, _)| position(scenario).is_some()).collect();
        here.sort_by_key(|(scenario, _)| position(scenario));
        Section { title, description, key, columns: here.into_iter().map(|(_, column)| column).collect() }
    };
    let sections = [
        section(
            "End to end, compared with COPY",
            "end_to_end",
            "One publisher, one aggregator, requests of 100 events: from the first POST until the last row is committed. COPY \
             is into a table like Sluice's, and into one with a json column and three indexes, which stays as it is.",
            &[Scenario::Copy, Scenario::CopyFixed, Scenario::Dup0, Scenario::Dup30, Scenario::Dup90],
        ),
        section(
            "The programs before events lay in partitions",
            "old",
            "The same with the publisher and the aggregator of an older commit. Their CPU time per event, with that of the \
             servers, is compared with that of the present ones at 0% duplicates.",
            &[Scenario::Dup0Old],
        ),
        section(
            "More aggregators",
            "aggregators",
            "The same with 2 and with 4 aggregators on the same cores.",
            &MORE_AGGREGATORS,
        ),
        section(
            "Small requests",
            "small_requests",
            "Requests of one event, end to end, all events new.",
            &[Scenario::Single],
        ),
        section(
            "Compared with services in Python",
            "services",
            "30% duplicates, requests of 100 events. The first one stores a request in one transaction, with as many processes as \
             are faster, and the next two store one event per transaction.",
            &[Scenario::BatchedPeer, Scenario::PerEventRedisPostgres, Scenario::PerEventSqlite, Scenario::Standalone],
        ),
        section(
            "Accepting alone, by the size of requests",
            "ingest",
            "No aggregator runs. A request is answered once its events are on the disk of Redis. The bare server reads each \
             request and answers it, and does nothing else.",
            &INGEST,
        ),
        section(
            "The simulator",
            "simulator",
            "sluice-publisher simulate with 20% duplicates and --verify.",
            &[Scenario::Simulate],
        ),
    ];
    sections.into_iter().filter(|section| !section.columns.is_empty()).collect()
}
