-- Keys of events lie in tables of their own, by arrival. crates/store/src/sqlite/key_partitions/mod.rs describes how.

-- One row. The version is another random one after each change of the partitions, so that it tells whether a list of them
-- is the present one. The unique index on events decides what is a duplicate until the keys of all events are copied.
CREATE TABLE key_layout (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    version     TEXT    NOT NULL,
    migrated_at INTEGER NOT NULL,
    copied_seq  INTEGER -- the last event whose key is copied; NULL: those of all of them, and the index is gone
) STRICT;
INSERT INTO key_layout (id, version, migrated_at, copied_seq)
SELECT 1, lower(hex(randomblob(16))), unixepoch() * 1000000, coalesce(min(seq) - 1, 0) FROM events;

-- The one without an end is the one that is written to.
CREATE TABLE key_partitions (
    number    INTEGER PRIMARY KEY,
    opened_at INTEGER NOT NULL,
    after_seq INTEGER NOT NULL, -- all its keys are of later events
    last_seq  INTEGER,          -- no key in it is of a later event
    keys      INTEGER NOT NULL,
    filter    TEXT              -- the filter of its keys, which is built after it was closed
) STRICT;
INSERT INTO key_partitions (number, opened_at, after_seq, keys)
SELECT 1, migrated_at, copied_seq, 0 FROM key_layout;

-- A key is found here with all that decides about a duplicate, so the row of the event is not read.
CREATE TABLE event_keys_1 (
    key          BLOB    PRIMARY KEY,
    payload_hash BLOB    NOT NULL,
    seq          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE key_filters (
    filter  TEXT    NOT NULL,
    segment INTEGER NOT NULL,
    content BLOB    NOT NULL,
    PRIMARY KEY (filter, segment)
) STRICT;
