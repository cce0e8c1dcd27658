-- Which batch was the last one at which time, by the database's clock: about a row a minute, and a row an hour
-- for what is older than a day. Events are removed by the time at which they were stored, which these rows tell.
CREATE TABLE arrival_marks (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch       bigint      NOT NULL,
    noted_at    timestamptz NOT NULL, -- what the clock said
    counts_from timestamptz NOT NULL  -- the same, moved by each later jump of the clock
);

-- Of the events that are there already only the publishers' time is known. A few hundred of them tell it well enough.
-- A mark is never before the one of an older batch, nor in the future.
INSERT INTO arrival_marks (batch, noted_at, counts_from)
SELECT batch, at, at
FROM (
    SELECT (event.seq >> 20) - 1 AS batch, least(max(event.received_at) OVER (ORDER BY event.seq), now()) AS at
    FROM (SELECT min(seq) AS first, max(seq) AS last FROM events) AS bounds,
         generate_series(1, 256) AS step,
         LATERAL (
            SELECT seq, received_at FROM events
            WHERE seq >= first + (last - first) / 256 * step ORDER BY seq LIMIT 1) AS event
) AS marks
ORDER BY batch;
