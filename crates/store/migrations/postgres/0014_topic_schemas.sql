-- Versions of the schemas of topics (crates/store/src/schemas.rs). Times are in µs since 1970.
CREATE TABLE topic_schemas (
    topic      text   NOT NULL,
    version    bigint NOT NULL, -- from 1 on for each topic; the newest one is in force, unless it was removed
    policy     text   NOT NULL, -- refuse or count
    schema     text   NOT NULL, -- JSON
    created_at bigint NOT NULL,
    removed_at bigint,          -- without another one in its place
    PRIMARY KEY (topic, version)
);
