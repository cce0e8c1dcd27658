-- Versions of the schemas of topics (crates/store/src/schemas.rs). Times are in µs since 1970.
CREATE TABLE topic_schemas (
    topic      TEXT    NOT NULL,
    version    INTEGER NOT NULL, -- from 1 on for each topic; the newest one is in force, unless it was removed
    policy     TEXT    NOT NULL, -- refuse or count
    schema     TEXT    NOT NULL, -- JSON
    created_at INTEGER NOT NULL,
    removed_at INTEGER,          -- without another one in its place
    PRIMARY KEY (topic, version)
) STRICT;
