//! Which tables what is measured stands in, and under which names.

use clap::ValueEnum;

use crate::plan::Measure;
use crate::report::results::{Column, Section};

/// The column of a measure, still empty.
pub fn column(measure: Measure) -> Column {
    let title = match measure {
        Measure::Copy => "COPY",
        Measure::Dup0 => "Sluice, 0% duplicates",
        Measure::Dup30 => "Sluice, 30% duplicates",
        Measure::Dup90 => "Sluice, 90% duplicates",
        Measure::Dup0x2 => "2, 0% duplicates",
        Measure::Dup30x2 => "2, 30%",
        Measure::Dup90x2 => "2, 90%",
        Measure::Dup0x4 => "4, 0%",
        Measure::Dup30x4 => "4, 30%",
        Measure::Dup90x4 => "4, 90%",
        Measure::Single => "Sluice, requests of 1 event",
        Measure::PerEventRedisPostgres => "service with Redis and PostgreSQL",
        Measure::PerEventSqlite => "service with SQLite",
        Measure::Standalone => "Sluice standalone",
        Measure::Ingest1 => "1 event",
        Measure::Ingest10 => "10 events",
        Measure::Ingest100 => "100 events",
        Measure::Ingest1000 => "1,000 events",
        Measure::Simulate => "1,000 events",
        Measure::Latency | Measure::Growth => "",
    };
    let key = measure.to_possible_value().map(|value| value.get_name().replace('-', "_"));
    Column::new(title, &key.unwrap_or_default())
}

/// Puts columns into their tables; tables without any are left out.
pub fn of(mut columns: Vec<(Measure, Column)>) -> Vec<Section> {
    let mut section = |title, key, says, measures: &[Measure]| {
        let position = |measure: &Measure| measures.iter().position(|other| other == measure);
        let mut here: Vec<_> = columns.extract_if(.., |(measure, _)| position(measure).is_some()).collect();
        here.sort_by_key(|(measure, _)| position(measure));
        Section { title, says, key, columns: here.into_iter().map(|(_, column)| column).collect() }
    };
    let sections = [
        section(
            "End to end beside COPY",
            "end_to_end",
            "One publisher, one aggregator, requests of 100 events: from the first POST until the last row is committed.",
            &[Measure::Copy, Measure::Dup0, Measure::Dup30, Measure::Dup90],
        ),
        section(
            "More aggregators",
            "aggregators",
            "The same with 2 and with 4 aggregators on the same cores.",
            &[Measure::Dup0x2, Measure::Dup30x2, Measure::Dup90x2, Measure::Dup0x4, Measure::Dup30x4, Measure::Dup90x4],
        ),
        section(
            "Small requests",
            "small_requests",
            "Requests of one event, end to end, all events new.",
            &[Measure::Single],
        ),
        section(
            "Beside services that store each event for itself",
            "services",
            "30% duplicates, requests of 100 events.",
            &[Measure::PerEventRedisPostgres, Measure::PerEventSqlite, Measure::Standalone],
        ),
        section(
            "Accepting alone, by the size of requests",
            "ingest",
            "No aggregator runs: events are on the disk of Redis when they are answered.",
            &[Measure::Ingest1, Measure::Ingest10, Measure::Ingest100, Measure::Ingest1000],
        ),
        section(
            "The simulator",
            "simulator",
            "sluice-publisher simulate with 20% duplicates and --verify.",
            &[Measure::Simulate],
        ),
    ];
    sections.into_iter().filter(|section| !section.columns.is_empty()).collect()
}
