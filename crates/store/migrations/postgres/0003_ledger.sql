-- What happened to events and is neither in the counters nor in the rows: they were skipped by a receipt, discarded as
-- a dead letter, removed by the retention, noted in the audit trail, or removed from it. Rows are written only when one
-- of these happens. Each shard has rows of its own, so that no two transactions wait for the same row. The topic is
-- empty where it is not known: of an entry that was not decoded, and of the audit trail.
CREATE TABLE ledger (
    topic  text   NOT NULL,
    shard  text   NOT NULL,
    kind   text   NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (topic, shard, kind)
) WITH (fillfactor = 50);

-- The ledger has nothing of what happened before this migration. This row says from when on it is complete.
INSERT INTO settings (name, value)
SELECT 'ledger_since', (extract(epoch FROM now()) * 1000000)::int8::text WHERE EXISTS (SELECT FROM counters);
