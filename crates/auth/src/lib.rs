//! Who sends a request, and what they may do.
//!
//! A [`Subject`] has [`Scope`]s and may be bounded by [`Topics`]. The [`Guard`] finds the subject of each request by
//! its token, and compares its scopes with what the route needs ([`policy`]). Handlers compare the topics. A server
//! without authentication has no guard and no subjects: every request may do everything.

mod args;
mod bearer;
mod client_token;
mod guard;
mod jwt;
mod limits;
pub mod metrics;
mod new_token;
pub mod policy;
pub mod problems;
mod reload;
mod subject;
mod token_file;
mod topics;

pub use args::AuthArgs;
pub use client_token::ClientTokenArgs;
pub use guard::Guard;
pub use limits::EventLimit;
pub use new_token::NewToken;
pub use subject::{Scope, Scopes, Subject};
pub use token_file::check_tokens;
pub use topics::{InvalidPattern, TopicPattern, Topics};
