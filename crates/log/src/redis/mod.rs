//! The log on Redis streams (Redis from 7.0, Valkey), a file per verb.
//!
//! Of stream `p` under prefix `X`, all in one slot:
//!
//! | key | holds |
//! |---|---|
//! | `X:{p}` | the stream; an entry's fields are `e` (packed entry) and `n` (its number of events) |
//! | `X:{p}:counts` | hash: events `appended` and `acknowledged`, ever |
//! | `X:{p}:key:<id>` | hash of the body that came with an `Idempotency-Key`, with an expiry |
//!
//! and, once, `X:streams`: the highest number of streams there ever was.

mod acknowledge;
mod append;
mod backlog;
mod claim;
mod connect;
mod consumers;
mod error;
mod extend_claim;
mod group;
mod keys;
mod pressure;
mod read;
mod reader;
mod reply;
mod script;
mod settings;
mod streams;
mod trim;
mod writer;

pub use reader::RedisReader;
pub use settings::{ReaderSettings, WriterSettings};
pub use writer::RedisWriter;
