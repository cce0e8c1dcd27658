//! The numbers of each test, as a line of output and as a row in the table of all tests.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use sluice_tests::Snapshot;

use super::cluster::work;

/// The numbers of one test.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// The name of the scenario.
    pub name: String,
    /// The number of events in requests with response 202.
    pub accepted: u64,
    /// The number of distinct events among them.
    pub distinct: u64,
    /// The number of attempts after the first of each request.
    pub repeats: u64,
    /// The counts and rows of the database at the end.
    pub end: Snapshot,
    /// The number of faults.
    pub faults: u64,
    /// The sum of the entries or requests in flight at these faults.
    pub in_flight: u64,
    /// The number of checked snapshots of the database. In each of them the counts were consistent.
    pub snapshots: u64,
    /// Other measurements.
    pub notes: Vec<String>,
}

const HEAD: &str = "scenario\taccepted\treceived\tunique\tduplicates\tdead\trows\tdistinct ids\tfaults\tin flight\trepeated\tsnapshots\tnotes\n";

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: accepted {} · received {} · unique {} · duplicates {} · dead-lettered {} · rows {} of {} distinct ids \
             · faults {} with {} entries in flight · requests repeated {} · snapshots {}",
            self.name,
            self.accepted,
            self.end.received,
            self.end.unique,
            self.end.duplicates,
            self.end.dead_lettered,
            self.end.rows,
            self.distinct,
            self.faults,
            self.in_flight,
            self.repeats,
            self.snapshots,
        )?;
        self.notes.iter().try_for_each(|note| write!(f, " · {note}"))
    }
}

impl Tally {
    /// Prints the numbers, and adds them to the table.
    pub fn publish(&self) {
        println!("{self}");
        let end = &self.end;
        let numbers = [
            self.accepted as i64,
            end.received,
            end.unique,
            end.duplicates,
            end.dead_lettered,
            end.rows,
            self.distinct as i64,
            self.faults as i64,
            self.in_flight as i64,
            self.repeats as i64,
            self.snapshots as i64,
        ];
        let numbers = numbers.map(|number| number.to_string()).join("\t");
        append("tallies", HEAD, &format!("{}\t{numbers}\t{}", self.name, self.notes.join(", ")));
    }
}

/// Adds how long the test of this thread took to the list of all tests.
pub fn took(time: Duration) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    append("durations", "", &format!("{:.0}\t{test}", time.as_secs_f64()));
}

/// Appends a row to a file, with one write, so that the rows of tests that end at the same time do not mix.
fn append(file: &str, head: &str, line: &str) {
    let path = work().join(file);
    let head = if path.exists() { "" } else { head };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a file of numbers");
    file.write_all(format!("{head}{line}\n").as_bytes()).expect("a file of numbers");
}
