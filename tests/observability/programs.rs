//! Programs that end.

use sluice_tests::{Backend, Load, Setup};

use crate::monitoring::Monitoring;
use crate::servers::GENTLE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_and_then_the_publisher_are_killed_and_start_again() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).aggregators(2).start().await;
    let watch = Monitoring::of(&mut system).await;
    let load = Load::start(&system.base(), GENTLE);
    load.more(200).await;
    let aggregator = system.aggregators[1].address();
    system.aggregators[1].kill();
    watch.fires("SluiceProgramUnreachable", &[("instance", &aggregator), ("component", "aggregator")]).await;
    system.aggregators[1].start().await;
    watch.ends("SluiceProgramUnreachable", &[("instance", &aggregator)]).await;
    watch.has_not_fired("SluiceNoPublishers");

    let publisher = system.ingest();
    let address = publisher.address();
    publisher.kill();
    watch.fires("SluiceNoPublishers", &[]).await;
    watch.fires("SluiceProgramUnreachable", &[("instance", &address)]).await;
    publisher.start().await;
    watch.ends("SluiceNoPublishers", &[]).await;
    watch.ends("SluiceProgramUnreachable", &[("instance", &address)]).await;
    load.stop().await;
}

/// Filters of closed partitions have no room: 2,000 events close one in these tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_have_too_little_memory() {
    let mut system = Setup::without_tls(Backend::RedisPostgres).aggregator("--filter-memory", "1KiB").start().await;
    let watch = Monitoring::of(&mut system).await;
    let load = Load::start(&system.base(), GENTLE);
    load.more(5_000).await;
    load.stop().await;
    watch.fires("SluicePartitionsWithoutFilter", &[]).await;
    let aggregator = &mut system.aggregators[0];
    aggregator.terminate();
    aggregator.replace_option("--filter-memory", "64MiB");
    aggregator.start().await;
    watch.ends("SluicePartitionsWithoutFilter", &[]).await;
}
