-- What happened to events and is neither in the counters nor in the rows: they were skipped by a receipt, discarded as
-- a dead letter, removed by the retention, noted in the audit trail, or removed from it. Rows are written only when one
-- of these happens. The topic is empty where it is not known: of an entry that was not decoded, and of the audit trail.
CREATE TABLE ledger (
    topic  TEXT    NOT NULL,
    shard  TEXT    NOT NULL,
    kind   TEXT    NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (topic, shard, kind)
) STRICT, WITHOUT ROWID;

-- The ledger has nothing of what happened before this migration. This row says from when on it is complete.
INSERT INTO settings (name, value)
SELECT 'ledger_since', CAST(unixepoch() * 1000000 AS TEXT) WHERE EXISTS (SELECT 1 FROM counters);
