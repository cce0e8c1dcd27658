//! A client of Sluice: events are collected into batches, and each batch is repeated under its `Idempotency-Key` until it is
//! answered, so that its events count once. With a spool, events are on disk before they are sent.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use sluice_client::{Client, Event, Outcome};
//!
//! let client = Client::builder("http://127.0.0.1:8080").spool("/var/lib/shop/spool").build().await?;
//! let event = Event::new("orders", &serde_json::json!({"value": 100}))?.event_id("evt-1");
//! let delivery = client.send(event).await?; // The event is on disk.
//! if let Outcome::Rejected(reason) = delivery.await {
//!     eprintln!("refused: {}", reason.detail);
//! }
//! client.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! Client::send ─▶ Collector ─▶ Memory ────────────────────────▶ Courier ─▶ POST /publish
//!                    └───────▶ Spooler ─▶ Spool (disk) ─────────▶ │  repeats, divides
//! Delivery ◀───────────────────────────────── outcomes ◀──────────┘
//! ```
//!
//! `README.md` of this crate lists the settings, and says what is promised and what is not.

mod backoff;
mod batch;
mod builder;
mod client;
mod collector;
mod core;
mod courier;
mod error;
mod event;
mod http;
mod memory;
mod outcome;
mod requests;
mod settings;
mod spool;
mod spooler;
mod stats;
mod token;
mod verdict;
mod waiters;

pub use builder::Builder;
pub use client::Client;
pub use error::{BuildError, Failure, InvalidEvent, OpenError, SendError, Unanswered};
pub use event::Event;
pub use outcome::{Delivery, Outcome, Rejection};
pub use requests::{Attempt, Attempts, Requests};
pub use settings::WhenFull;
pub use spool::{Damage, Recovery};
pub use stats::Stats;
