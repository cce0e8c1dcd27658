//! Tests that only apply to PostgreSQL: partitions of receipts, lost connections, locks, schemas.

mod audit_partitions;
mod bounded;
mod counters;
mod dedup_cache;
mod durability;
mod event_partitions;
mod faults;
mod feed;
mod filter_groups;
mod hosts;
mod marks;
mod meters;
mod payloads;
mod pooler;
mod receipt_partitions;
mod schemas;
mod slow_queries;
mod stuck_copy;
mod tls;
