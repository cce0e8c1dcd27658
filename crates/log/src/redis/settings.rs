//! The settings of a writer and a reader.

use std::time::Duration;

use super::address::SentinelLogin;
use super::tls::RedisTls;

/// Settings of a [`super::RedisWriter`].
#[derive(Clone)]
pub struct WriterSettings {
    /// `redis://[user][:password@]host[:port][/db]`, or `rediss://` for TLS, or with several hosts
    /// `redis+sentinel://[user:password@]host[:port],…/name[/db]` or `redis+cluster://[user:password@]host[:port],…`
    pub url: String,
    /// The files of TLS.
    pub tls: RedisTls,
    /// The user and the password of Sentinels.
    pub sentinel: SentinelLogin,
    /// The prefix of all keys.
    pub prefix: String,
    /// The number of streams over which entries are distributed, at least 1.
    pub streams: u16,
    /// The time to live of an `Idempotency-Key` after its last use.
    pub idempotency_ttl: Duration,
    /// The share of the server's memory (0 to 1) for the records of `Idempotency-Key`s. Beyond it the oldest are
    /// removed.
    pub idempotency_memory: f64,
    /// The number of replicas that must have each entry before it counts as appended; 0 waits for none.
    pub replicas: u16,
    /// How long to wait for them.
    pub replicas_timeout: Duration,
}

/// Settings of a [`super::RedisReader`].
#[derive(Clone)]
pub struct ReaderSettings {
    /// `redis://[user][:password@]host[:port][/db]`, or `rediss://` for TLS, or with several hosts
    /// `redis+sentinel://[user:password@]host[:port],…/name[/db]` or `redis+cluster://[user:password@]host[:port],…`
    pub url: String,
    /// The files of TLS.
    pub tls: RedisTls,
    /// The user and the password of Sentinels.
    pub sentinel: SentinelLogin,
    /// The prefix of all keys.
    pub prefix: String,
    /// The minimum number of streams to read. More are read when a writer has ever used more.
    pub streams: u16,
    /// This consumer's name in the group: the name of the replica, which does not change at a restart.
    pub consumer: String,
    /// How long acknowledged entries stay in the stream before they are trimmed.
    pub replay_window: Duration,
    /// The maximum memory of the acknowledged entries of one stream, in bytes.
    pub replay_window_bytes: u64,
}
