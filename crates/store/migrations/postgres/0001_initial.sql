-- Fixed-width columns first: no padding between them.
CREATE TABLE events (
    key          uuid        PRIMARY KEY,
    seq          bigint      NOT NULL,
    ts           timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    payload_hash uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    topic        text        NOT NULL,
    event_id     text        NOT NULL,
    source       text,
    payload      json        NOT NULL
);
CREATE INDEX events_seq ON events (seq);
CREATE INDEX events_topic_seq ON events (topic, seq);

-- The number of a batch: the high bits of its events' seq.
CREATE SEQUENCE event_batches MAXVALUE 8796093022207;

-- One row per topic and worker: no row is hot, and half of each page stays free for updates in place.
CREATE TABLE counters (
    topic             text   NOT NULL,
    shard             text   NOT NULL,
    received          bigint NOT NULL,
    unique_processed  bigint NOT NULL,
    duplicate_dropped bigint NOT NULL,
    conflicts         bigint NOT NULL,
    PRIMARY KEY (topic, shard)
) WITH (fillfactor = 50);

-- What was committed, by epoch: a partition each, dropped whole. The epoch without an end is the
-- one that is written to.
CREATE TABLE receipts (
    epoch        integer     NOT NULL,
    id           uuid        NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, epoch)
) PARTITION BY LIST (epoch);
CREATE TABLE receipts_1 PARTITION OF receipts FOR VALUES IN (1);
CREATE TABLE receipt_epochs (
    epoch     integer     PRIMARY KEY,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz
);
CREATE UNIQUE INDEX receipt_epochs_open ON receipt_epochs ((true)) WHERE closed_at IS NULL;
INSERT INTO receipt_epochs (epoch) VALUES (1);

CREATE TABLE dead_letters (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failed_at timestamptz NOT NULL DEFAULT now(),
    stream    integer     NOT NULL,
    millis    bigint      NOT NULL,
    sequence  bigint      NOT NULL,
    topic     text,
    event_id  text,
    events    bigint      NOT NULL,
    code      text        NOT NULL,
    reason    text        NOT NULL,
    body      bytea       NOT NULL
);

CREATE TABLE attempts (
    position text        PRIMARY KEY,
    attempts integer     NOT NULL,
    at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit (
    key        uuid        NOT NULL,
    request_id uuid        NOT NULL,
    conflict   boolean     NOT NULL,
    at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_at ON audit (at);

CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);
