-- What happened to events, by topic and minute of arrival (crates/store/src/series.rs). The total is the sum of both tables.
CREATE TABLE series (
    topic             text        NOT NULL, -- empty: dead letters that are whole entries
    minute            timestamptz NOT NULL,
    received          bigint      NOT NULL,
    unique_processed  bigint      NOT NULL,
    duplicate_dropped bigint      NOT NULL,
    conflicts         bigint      NOT NULL,
    dead_lettered     bigint      NOT NULL,
    PRIMARY KEY (topic, minute)
);
-- Rows are added about in the order of their minutes.
CREATE INDEX series_minute ON series USING brin (minute) WITH (autosummarize = on, pages_per_range = 16);

-- One row of each batch, whose arrays are as long as each other: transactions wait for no row of another one. They are added
-- to the other table every few seconds. Minutes are counted from 1970.
CREATE TABLE series_batches (
    topics            text[]   NOT NULL,
    minutes           bigint[] NOT NULL,
    received          bigint[] NOT NULL,
    unique_processed  bigint[] NOT NULL,
    duplicate_dropped bigint[] NOT NULL,
    conflicts         bigint[] NOT NULL,
    dead_lettered     bigint[] NOT NULL
);
