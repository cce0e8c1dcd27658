//! The API suite: tests of the behaviour that a client can observe, on both backends, each test with a system of
//! its own.
//!
//! A test is written once as `async fn name(backend)`. [`on_both_backends`] makes the tests
//! `redis_postgres::name` and `standalone::name` of it. README.md in the parent directory lists the test for each
//! scenario of the earlier systems.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and says on its output what it saw"
)]

/// Each of these `async fn(Backend)` becomes one test on Redis and Postgres, and one on SQLite.
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

mod backpressure;
mod bad_input;
mod cluster;
mod common;
mod concurrency;
mod conflict;
mod dead_letters;
mod dedup;
mod events;
mod health;
mod idempotency;
mod paging;
mod programs;
mod publish;
mod restart;
mod simulator;
mod stats;
