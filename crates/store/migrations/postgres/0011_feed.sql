-- The order in which events are shown to readers that follow them. crates/store/src/postgres/feed.rs describes the protocol.

-- The store was found to have lost commits, so numbers of events are used again: each time is a generation. The id is random,
-- because a backup may be restored that does not know the last ones.
CREATE TABLE feed_generations (
    id       uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    number   bigint      NOT NULL UNIQUE,
    from_seq bigint      NOT NULL, -- up to this number, events are those of the generation before
    loss     bigint      UNIQUE,   -- when the loss was noticed, by the clock of the log
    place    text        NOT NULL, -- where it began: a table that was restored from a dump is another one
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION feed_place() RETURNS text LANGUAGE sql AS
    $$ SELECT system_identifier::text || '/' || 'feed_generations'::regclass::oid::text FROM pg_control_system() $$;
ALTER TABLE feed_generations ALTER place SET DEFAULT feed_place();
INSERT INTO feed_generations (number, from_seq) VALUES (0, 0);

-- A transaction shows the number of its batch, by a lock that nobody waits for and that is held until it has ended. Programs
-- of older versions call the same function, so they show theirs too.
ALTER FUNCTION next_batch() RENAME TO draw_batch;
CREATE FUNCTION show_batch(batch bigint) RETURNS bigint LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock_shared((('receipts'::regclass::oid::bigint % 1048576) << 43) | batch);
    SELECT batch
$$;
CREATE FUNCTION next_batch() RETURNS bigint LANGUAGE sql AS $$ SELECT show_batch(draw_batch()) $$;
