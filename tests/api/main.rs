//! The API suite: tests of the behaviour that a client can observe, on both backends. Each test has its own
//! system.
//!
//! A test is written once as `async fn name(backend)`. [`on_both_backends`] generates the tests
//! `redis_postgres::name` and `standalone::name` from it. README.md in the parent directory lists the test for each
//! scenario of the earlier systems.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it observed"
)]

/// Generates two tests from each `async fn(Backend)`: one on Redis and Postgres, and one on SQLite.
macro_rules! on_both_backends {
    ($($name:ident),+ $(,)?) => {
        mod redis_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(sluice_tests::Backend::RedisPostgres).await;
                }
            )+
        }
        mod standalone {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(sluice_tests::Backend::Standalone).await;
                }
            )+
        }
    };
}

mod audit;
mod auth;
mod backpressure;
mod bad_input;
mod certificate_rotation;
mod cloud_events;
mod cluster;
mod common;
mod concurrency;
mod conflict;
mod dead_letters;
mod dedup;
mod durability;
mod erase;
mod events;
mod feed;
mod health;
mod idempotency;
mod listener_tls;
mod memory;
mod meters;
mod methods;
mod metrics_listen;
mod outcomes;
mod overdue;
mod page;
mod paging;
mod plugin;
mod programs;
mod publish;
mod restart;
mod schemas;
mod simulator;
mod stats;
mod stuck;
mod tls;
