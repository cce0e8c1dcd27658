//! Checks the rules for the sources of this workspace that the compiler and clippy do not check:
//!
//! * no two files of a crate use each other, neither directly nor through other files ([`circles`]);
//! * no file has more than 450 lines, no function more than 70 ([`limits`]);
//! * each `allow` attribute states its reason ([`limits`]).
//!
//! It reads the text of the files alone and expands no macro, so that it needs no compiled crate. The test
//! in `tests/workspace.rs` applies it to every Rust file of the workspace.

pub mod circles;
pub mod limits;
mod modules;
pub mod sources;
mod uses;
