//! What is handed out: tables on standard output, and `results.json`.

pub mod figures;
pub mod goals;
pub mod json;
pub mod machine;
pub mod results;
pub mod table;
