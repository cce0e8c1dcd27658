-- Puts events into partitions. {column} is the type of the column of payloads, {payload} the type that users see, {former}
-- the number of the partition that the table of all events becomes, {open} the number of the first new one, and {finish_table}
-- what the table of each partition has of its own.
ALTER TABLE events RENAME TO event_rows_{former};

-- Fixed-width columns first: no padding between them.
CREATE TABLE event_rows (
    key          uuid        NOT NULL,
    seq          bigint      NOT NULL,
    ts           timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    payload_hash uuid        NOT NULL,
    request_id   uuid        NOT NULL,
    topic        text        NOT NULL,
    event_id     text        NOT NULL,
    source       text,
    payload      {column}    NOT NULL
) PARTITION BY RANGE (seq);
CREATE INDEX event_rows_seq ON event_rows (seq);
CREATE INDEX event_rows_topic_seq ON event_rows (hashtext(topic), seq);
CREATE TABLE event_rows_{open} PARTITION OF event_rows FOR VALUES FROM ({first}) TO ({end});
{finish_table};

INSERT INTO event_partitions (number, closed_at, last_batch, unique_before, was_events)
VALUES ({former}, clock_timestamp(), last_batch(), 0, true);
INSERT INTO event_partitions (number, unique_before)
SELECT {open}, coalesce(sum(unique_processed), 0) FROM counters;
INSERT INTO event_layout (version, first_seq) VALUES (gen_random_uuid(), 0);
UPDATE settings SET value = 'partitioned ' || value WHERE name = 'payload_type';

ALTER SEQUENCE event_batches RENAME TO batches;
CREATE OR REPLACE FUNCTION draw_batch() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('batches') $$;
CREATE OR REPLACE FUNCTION last_batch() RETURNS bigint LANGUAGE sql AS
    $$ SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM batches $$;
SELECT setval('batches', greatest(last_batch(), {before}));

SELECT partition_audit({open});

