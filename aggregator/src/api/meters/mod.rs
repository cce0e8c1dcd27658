//! `/meters`: exact aggregates of events over time.

mod answers;
mod definitions;
mod figures;
mod question;
mod request;
mod text;

pub(super) use definitions::{__path_list, __path_put, __path_remove, list, put, remove};
pub(super) use figures::{__path_query, __path_read, query, read};
