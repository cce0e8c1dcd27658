//! What only PostgreSQL can show: rotation of receipts, lost connections, locks, schemas.

mod epochs;
mod faults;
mod known;
mod schemas;
