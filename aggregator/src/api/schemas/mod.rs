//! `/topics/{topic}/schema`: JSON Schemas that the payloads of topics are compared with when they are published.

mod answers;
mod definitions;
mod dry_run;
mod reading;

pub(super) use definitions::{__path_put, __path_remove, put, remove};
pub(super) use reading::{__path_list, __path_read, __path_versions, list, read, versions};
