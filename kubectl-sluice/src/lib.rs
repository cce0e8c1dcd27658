//! `kubectl sluice`: what a person on call and a developer do with a resource `EventAggregator`, in one command each.
//!
//! [`cli`] has the command line. Each command is a file in [`commands`]; it reads objects through a [`Context`], and
//! reaches the programs of a resource through [`programs`], whose connections are opened by `link`.

pub mod cli;
pub mod commands;
mod context;
mod global;
mod link;
mod outcome;
pub mod pods;
pub mod programs;
pub mod resource;
mod server_tls;
mod table;

pub use context::Context;
pub use global::{Form, Global, Output};
pub use outcome::{Closed, Late, Outcome, end};
