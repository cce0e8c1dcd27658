-- What became of requests whose clients wait until they are stored. A row is written in the transaction that stores the request, and
-- expires as receipts do.
CREATE TABLE outcomes (
    receipt       BLOB    PRIMARY KEY,
    committed_at  INTEGER NOT NULL,
    stored        INTEGER NOT NULL,
    duplicates    INTEGER NOT NULL,
    conflicts     INTEGER NOT NULL,
    dead_lettered INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outcomes_committed_at ON outcomes (committed_at);
