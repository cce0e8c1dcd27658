//! Runs the real publishers and aggregators over a model log and a model store, with faults, and compares what
//! is stored with what was sent. Everything is on one thread, with a clock that moves only while everybody
//! waits, and with random numbers that follow from a seed: the same seed makes the same schedule.
//!
//! Real are, in the publisher, everything behind the connection (`ingest`, `coalesce`, `append`), and in the
//! aggregator everything that [`sluice_aggregator::replica::aggregate`] runs (`intake`, `consume`, `recover`,
//! `suspects`, `failover`, `replay`, `housekeeping`) with the commit, the dedup cache and the protocol of partitions
//! ([`sluice_store::partitions`]). Models are the two servers (`log/`, `store/`), which promise what Redis and PostgreSQL
//! do, and the links to them (`wire.rs`), which lose requests and answers, or deliver them late. SQL is not simulated.
//!
//! A schedule has at least 3 aggregators, 50 requests and 5 faults (`settings.rs`, `faults.rs`). Then the
//! faults end, and within five minutes of simulated time every entry must be acknowledged. `check.rs` compares.
//!
//! # How to read a failing trace
//!
//! `make sim` prints the trace of the schedule that failed, the promises that it broke, and its seed.
//! `make sim SIM_SEED=n` runs that schedule again and prints the same trace, also with changed code: so a line may be
//! added where more must be known, and a supposed remedy can be tried on the schedule that failed.
//!
//! A line has the simulated time, who acts, and what happens:
//!
//! | who | what |
//! |---|---|
//! | `SCHEDULE` | the settings at the beginning, and the end of the faults, of the clients and of all work |
//! | `FAULT` | a fault begins or ends |
//! | `client-3` | sends request 20 under a request id, with its key and body, and gets an answer |
//! | `publisher-0#4`, `aggregator-1#7` | what process 4 or 7 of this pod does to the log and the store |
//! | `logged` | what one of the programs logs, at the time of the line before |
//! | `VIOLATION` | a broken promise. The first is the most telling one, and those at the end follow from it |
//!
//! `Unknown` as an answer is a 429, a 503, or none. "The request was lost" means that the server never saw it, "the
//! answer was lost" that it was executed, and "the request is late" that it will be executed some time after its
//! sender has given up; the sender sees the same error in all three cases.
//!
//! Read from the end. The violation names a request, a topic or an event:
//!
//! 1. Search for the event (`"event_id":"e5"` beside its topic) in the lines of clients: these are its arrivals.
//! 2. Search for the id of each such request: `appended entry` says in which entry and at which position it is.
//! 3. Search for the position: `read`, `claimed`, `acknowledged`, with the process that does it.
//! 4. Search for that process: the transactions that it begins and commits between these lines. A commit prints
//!    what it adds to the counters, `duplicate dropped` what it does not store.
//! 5. If an entry has its effect twice or not at all, look for what came between: a `FAULT`, or a lost answer.
//!
//! # How to add a fault
//!
//! A branch in `faults.rs`. What a server does then belongs into its model, and must be what the real one
//! promises: a test of the real one shows that (`crates/log/tests`, `crates/store/tests`, `tests/faults`).

mod check;
mod clients;
mod faults;
mod log;
mod planted;
mod process;
mod requests;
mod schedule;
mod settings;
mod store;
mod system;
mod trace;
mod wire;
mod world;

pub use planted::Planted;
pub use schedule::{Outcome, run};
