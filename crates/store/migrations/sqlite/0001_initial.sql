-- seq is the rowid: rows lie in the order of their arrival, and a number is never used twice.
CREATE TABLE events (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    key          BLOB    NOT NULL,
    ts           INTEGER NOT NULL,  -- µs since 1970, like all moments here
    received_at  INTEGER NOT NULL,
    payload_hash BLOB    NOT NULL,
    request_id   BLOB    NOT NULL,
    topic        TEXT    NOT NULL,
    event_id     TEXT    NOT NULL,
    source       TEXT,
    payload      TEXT    NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_key ON events (key);
-- Every index ends in the rowid, so this one is by (topic, seq).
CREATE INDEX events_topic ON events (topic);

CREATE TABLE counters (
    topic             TEXT    NOT NULL,
    shard             TEXT    NOT NULL,
    received          INTEGER NOT NULL,
    unique_processed  INTEGER NOT NULL,
    duplicate_dropped INTEGER NOT NULL,
    conflicts         INTEGER NOT NULL,
    PRIMARY KEY (topic, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE receipts (
    id           BLOB    PRIMARY KEY,
    committed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_committed_at ON receipts (committed_at);

CREATE TABLE dead_letters (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    failed_at INTEGER NOT NULL,
    stream    INTEGER NOT NULL,
    millis    INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    topic     TEXT,
    event_id  TEXT,
    events    INTEGER NOT NULL,
    code      TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    body      BLOB    NOT NULL
) STRICT;

CREATE TABLE attempts (
    position TEXT    PRIMARY KEY,
    attempts INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    key        BLOB    NOT NULL,
    request_id BLOB    NOT NULL,
    conflict   INTEGER NOT NULL,
    at         INTEGER NOT NULL
) STRICT;

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
