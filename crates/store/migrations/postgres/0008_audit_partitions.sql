-- The audit trail lies in partitions beside those of the events, so that both are removed by dropping tables.

-- Puts it into partitions, of which the first one has the batches of this partition of events. What was its table is called
-- `audit_before` if it has rows, and they are deleted one by one. Must run in a transaction that no batch runs beside.
CREATE FUNCTION partition_audit(open integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    before text := '';
BEGIN
    IF EXISTS (SELECT FROM audit) THEN
        ALTER TABLE audit RENAME TO audit_before;
        before := 'UNION ALL SELECT key, request_id, conflict, at FROM audit_before';
    ELSE
        DROP TABLE audit;
    END IF;
    CREATE TABLE audit_rows (
        key        uuid        NOT NULL,
        request_id uuid        NOT NULL,
        at         timestamptz NOT NULL DEFAULT now(),
        batch      bigint      NOT NULL,
        conflict   boolean     NOT NULL
    ) PARTITION BY RANGE (batch);
    EXECUTE format(
        'CREATE TABLE audit_rows_%s PARTITION OF audit_rows FOR VALUES FROM (%s) TO (%s)',
        open, open::bigint << 24, (open::bigint + 1) << 24);
    -- The number of a batch is the high bits of `seq`. What was removed is hidden before its table is dropped.
    EXECUTE 'CREATE VIEW audit AS SELECT key, request_id, conflict, at FROM audit_rows '
        'WHERE batch >= (SELECT first_seq >> 20 FROM event_layout) ' || before;
END
$$;

-- Where events lie in one table, so does the audit trail until they are put into partitions.
DO $$
BEGIN
    IF EXISTS (SELECT FROM event_layout) THEN
        LOCK TABLE ONLY receipts IN SHARE ROW EXCLUSIVE MODE;
        PERFORM partition_audit(number) FROM event_partitions WHERE closed_at IS NULL;
    END IF;
END
$$;
