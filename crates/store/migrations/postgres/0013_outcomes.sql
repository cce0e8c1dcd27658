-- What became of requests whose clients wait until they are stored. A row is written in the transaction that stores the request, and
-- expires as receipts do.
CREATE TABLE outcomes (
    receipt       uuid        PRIMARY KEY,
    committed_at  timestamptz NOT NULL DEFAULT now(),
    stored        bigint      NOT NULL,
    duplicates    bigint      NOT NULL,
    conflicts     bigint      NOT NULL,
    dead_lettered bigint      NOT NULL
);
CREATE INDEX outcomes_committed_at ON outcomes (committed_at);
