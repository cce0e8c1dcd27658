-- Events can lie in partitions, by arrival. crates/store/src/postgres/event_partitions/mod.rs describes the protocol.

-- One row if they do; none while all events are in the one table `events`. The version is another random one after each
-- change of the partitions, so that it tells whether a list of them is the present one.
CREATE TABLE event_layout (
    is_partitioned boolean PRIMARY KEY DEFAULT true CHECK (is_partitioned),
    version        uuid    NOT NULL,
    first_seq      bigint  NOT NULL -- what is before it was removed
);

-- The one without an end is the one that is written to.
CREATE TABLE event_partitions (
    number        integer     PRIMARY KEY,
    opened_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at     timestamptz,
    last_batch    bigint,          -- no event in it is of a later batch
    unique_before bigint NOT NULL, -- how many events had been stored when it was opened
    was_events    boolean NOT NULL DEFAULT false, -- whether it was the one table of all events
    filter        uuid,            -- the filter of its keys, which is built after it was closed
    filter_keys   bigint           -- how many keys the filter has
);
CREATE UNIQUE INDEX event_partitions_open ON event_partitions ((true)) WHERE closed_at IS NULL;

CREATE TABLE event_filters (
    filter  uuid    NOT NULL,
    segment integer NOT NULL,
    content bytea   NOT NULL,
    PRIMARY KEY (filter, segment)
);
-- It looks like random bytes, and is not compressed.
ALTER TABLE event_filters ALTER content SET STORAGE EXTERNAL;

-- The sequence of the numbers of batches has another name where events lie in partitions, so that programs that do not
-- know partitions write nothing there.
CREATE FUNCTION next_batch() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('event_batches') $$;
CREATE FUNCTION last_batch() RETURNS bigint LANGUAGE sql AS
    $$ SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM event_batches $$;

-- The events as they are stored, whatever the type of the payload's column is.
CREATE VIEW stored_events AS
SELECT seq, key, payload_hash, topic, event_id, ts, source, payload::text AS payload,
       pg_typeof(payload) = 'json'::regtype AS payload_is_exact, received_at, request_id
FROM events;

-- Which programs know partitions. Each commit says it: a program of an older version can be started again.
ALTER TABLE commit_marks ADD COLUMN knows_partitions boolean NOT NULL DEFAULT false;
CREATE FUNCTION mark_commit(workers text[], confirmed bigint[], knows boolean) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    IF EXISTS (
        SELECT FROM unnest(workers, confirmed) AS known (name, commit)
        WHERE known.commit > coalesce((SELECT m.number FROM commit_marks AS m WHERE m.worker = known.name), 0)
    ) THEN
        RAISE EXCEPTION 'commits that were confirmed are missing' USING ERRCODE = 'SLB01';
    END IF;
    INSERT INTO commit_marks AS m (worker, number, knows_partitions) VALUES (workers[1], 1, knows)
    ON CONFLICT (worker) DO UPDATE
        SET number = m.number + 1, committed_at = clock_timestamp(), knows_partitions = knows
    RETURNING m.number INTO given;
    RETURN given;
END
$$;
CREATE OR REPLACE FUNCTION mark_commit(workers text[], confirmed bigint[]) RETURNS bigint LANGUAGE sql AS
    $$ SELECT mark_commit(workers, confirmed, false) $$;
