//! The settings of one schedule, drawn from its seed: how the system is set up, and how much happens to it.

use std::time::Duration;

use sluice_aggregator::replica::ReplicaSettings;
use sluice_aggregator::replica::intake::BatchLimits;
use sluice_event::{OutOfRange, TopicTemplate};
use sluice_publisher::cloud_events::{CloudEventArgs, WithoutSource};
use sluice_publisher::settings::IngestArgs;
use sluice_store::conflicts::ConflictLimits;

use crate::planted::Planted;
use crate::world::World;

/// How long an `Idempotency-Key` is remembered by the store: longer than a client repeats a request, however
/// the clocks jump.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(3_600);

/// Replay windows: the longest one covers every loss.
const WINDOWS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(3_600), Duration::from_secs(3_600)];

/// The settings of one schedule.
#[derive(Debug)]
pub struct Settings {
    /// Aggregators.
    pub replicas: usize,
    /// Publishers.
    pub publishers: usize,
    /// Requests, each of which may be sent several times.
    pub requests: usize,
    /// Clients that send them.
    pub clients: usize,
    /// Faults.
    pub faults: usize,
    /// For how long clients send and faults begin.
    pub load: Duration,
    /// Distinct event ids in each topic.
    pub ids: u64,
    /// Whether one event kills every process that tries to store it.
    pub killer: bool,
    /// Streams.
    pub streams: u16,
    /// The replay window of the log.
    pub replay_window: Duration,
    /// Whether dropped duplicates are recorded, and so checked one by one.
    pub audit: bool,
    /// The size of the dedup cache.
    pub cache_keys: usize,
    /// What the store says about pauses between two statements that insert.
    pub may_pause: bool,
    /// Whether a pooler is in front of the store.
    pub has_pooler: bool,
    /// With how many events a partition is closed.
    pub partition_rows: u64,
    /// From when on events that are in one table are put into partitions; zero if they are in partitions from the beginning.
    pub switch_after: Duration,
    /// How many bytes of filters a replica has in memory.
    pub filter_memory: u64,
    /// How long an entry may be pending before it is claimed.
    pub claim_after: Duration,
    /// How large batches are.
    pub limits: BatchLimits,
    /// The settings of a replica.
    pub replica: ReplicaSettings,
    /// The settings of a publisher.
    pub ingest: IngestArgs,
    /// The mistake that is planted, if any.
    pub planted: Option<Planted>,
}

impl Settings {
    /// Draws the settings.
    pub fn draw(world: &World, planted: Option<Planted>) -> Self {
        let claim_after = world.millis_between(300, 2_000);
        let longest = if world.chance(0.5) { 3_000 } else { 60_000 };
        let retention = world.chance(0.4).then(|| world.millis_between(200, longest));
        let limits = BatchLimits { events: world.between(1, 40), linger: world.millis_between(0, 3) };
        let replica = ReplicaSettings {
            workers: world.between(1, 2) as u16,
            consumer_ttl: claim_after * 2,
            idempotency_ttl: IDEMPOTENCY_TTL,
            retention,
            series_retention: Duration::from_secs(3_600),
            conflicts: ConflictLimits::default(),
            shutdown_timeout: world.millis_between(500, 5_000),
            partitions_every: world.millis_between(50, 1_000),
        };
        Self {
            replicas: 3 + world.index(2),
            publishers: 1 + world.index(2),
            requests: 50 + world.index(30),
            clients: 4 + world.index(8),
            faults: 5 + world.index(6),
            load: world.millis_between(1_000, 3_500),
            ids: world.between(5, 60),
            killer: world.chance(0.03),
            streams: if world.chance(0.7) { 1 } else { 3 },
            replay_window: WINDOWS[world.index(WINDOWS.len())],
            audit: world.chance(0.8),
            cache_keys: 8 << world.index(5),
            may_pause: world.chance(0.5),
            has_pooler: world.chance(0.3),
            partition_rows: if world.chance(0.2) { u64::MAX } else { world.between(1, 25) },
            switch_after: switch_after(world),
            filter_memory: match world.between(0, 5) {
                0 => 0,
                // Some of the filters fit, or all of them if they are narrowed.
                1 | 2 => world.between(20, 400),
                _ => u64::MAX,
            },
            claim_after,
            limits,
            replica,
            ingest: ingest(world),
            planted,
        }
    }
}

fn switch_after(world: &World) -> Duration {
    match world.between(0, 9) {
        0 => Duration::MAX,
        1 | 2 => world.millis_between(1, 3_000),
        _ => Duration::ZERO,
    }
}

fn ingest(world: &World) -> IngestArgs {
    IngestArgs {
        max_body_bytes: 64 << 10,
        max_events: 100,
        max_payload_bytes: 1 << 10,
        max_payload_depth: 8,
        max_backlog: world.between(20, 1_000),
        max_memory: 0.9,
        max_waiting: world.between(2, 64) as u32,
        max_waiting_bytes: 1 << 20,
        max_future: None,
        max_age: None,
        timestamp_out_of_range: OutOfRange::Refuse,
        wait_timeout: Duration::from_secs(10),
        cloud_events: CloudEventArgs {
            cloudevents_topic: TopicTemplate::default(),
            cloudevents_without_source: WithoutSource::Refuse,
        },
        max_appends: world.between(1, 3) as u16,
        append_timeout: world.millis_between(300, 3_000),
        body_timeout: Duration::from_secs(1),
    }
}
