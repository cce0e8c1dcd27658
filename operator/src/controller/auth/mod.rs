//! Who may use the programs of a resource. The file of tokens that they get has those of the user and one of the operator, with
//! which it reads the totals.

pub mod tokens;
pub mod validate;
