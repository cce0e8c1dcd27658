//! Settings of PostgreSQL that follow from its memory and its disk.

/// Returns the settings that are amounts of memory or of the disk, in MB, for bytes of both. The ratios are those that the
/// PostgreSQL documentation and wiki recommend for a dedicated server: a quarter of the memory for `shared_buffers`, and
/// most of the rest as `effective_cache_size`.
pub(super) fn megabytes(memory: i64, disk: i64) -> [(&'static str, i64); 5] {
    let (memory, disk) = (memory >> 20, disk >> 20);
    [
        ("shared_buffers", (memory / 4).max(32)),
        ("effective_cache_size", (memory * 5 / 8).max(64)),
        ("maintenance_work_mem", (memory / 16).clamp(16, 1_024)),
        ("work_mem", (memory / 128).clamp(4, 64)),
        ("max_wal_size", (disk / 8).clamp(128, 8_192)),
    ]
}
