//! Who sends a request, and what they may do.
//!
//! A [`Subject`] has [`Scope`]s and may be bounded by [`Topics`]. A server without authentication has no subjects:
//! every request may do everything ([`Subject::anyone`]).

mod subject;
mod topics;

pub use subject::{Scope, Scopes, Subject};
pub use topics::{InvalidPattern, TopicPattern, Topics};
