//! The log on Redis streams (Redis 7.0 or later, or Valkey), with one file per operation.
//!
//! The keys of stream `p` with prefix `X`, all in one hash slot:
//!
//! | key | holds |
//! |---|---|
//! | `X:{p}` | the stream; an entry's fields are `e` (packed entry) and `n` (its number of events) |
//! | `X:{p}:counts` | hash: the total numbers of events `appended` and `acknowledged`; `counted_again` if these are no totals, because they were lost; `recount_after` and `recount_events` while they are counted again |
//! | `X:{p}:keys:newer`, `X:{p}:keys:older` | hashes: `Idempotency-Key` (its hash) → hash of the body with it |
//! | `X:{p}:marks` | hash: worker → number of its last acknowledged commit, and when that was (s) ([`crate::replay`]) |
//! | `X:{p}:window` | list of samples, the oldest first: what was acknowledged since this time (ms) is not before this id |
//! | `X:{p}:replay` | hash, while a replay is pending: how far it goes and how far it got |
//!
//! Keys of the whole log: `X:streams` has the highest number of streams that was ever used, `X:replayer` says which
//! replica replays, `X:loss` describes the last loss of the store that was found, and `X:notice` and `X:tallies` are those of
//! [`crate::notice`].
//!
//! On a cluster the hash tag is not always the number alone (`X:{1.9250}`), so that streams spread evenly over the nodes
//! (`slots.rs`), and the keys of the whole log are in slots of their own.

mod acknowledge;
mod address;
mod append;
mod backlog;
mod claim;
mod cluster;
mod connect;
mod consumers;
mod counters;
mod dial;
mod durability;
mod error;
mod extend_claim;
mod group;
mod info;
mod key_records;
mod keys;
mod losses;
mod node;
mod notice;
mod open;
mod pressure;
mod read;
mod read_command;
mod read_each;
mod reader;
mod recount;
mod redirect;
mod replay;
mod replicas;
mod reply;
mod role;
mod script;
mod sentinel;
mod settings;
mod slot_map;
mod slots;
mod streams;
mod tls;
mod trim;
mod writer;

pub use address::SentinelLogin;
pub use counters::counters;
pub use durability::DURABILITY_SETTINGS;
pub use reader::RedisReader;
pub use settings::{ReaderSettings, WriterSettings};
pub use tls::{RedisTls, check_connection};
pub use writer::RedisWriter;
