-- Which seq was the last one at which time: about a row a minute, and a row an hour for what is older than a day.
-- Events are removed by the time at which they were stored, which these rows tell.
CREATE TABLE arrival_marks (
    seq         INTEGER NOT NULL,
    noted_at    INTEGER NOT NULL, -- what the clock said
    counts_from INTEGER NOT NULL  -- the same, moved by each later jump of the clock
) STRICT;

-- Of the events that are there already only the publisher's time is known. A few hundred of them tell it well enough.
-- A mark is never before the one of an older event, nor in the future.
INSERT INTO arrival_marks (seq, noted_at, counts_from)
WITH RECURSIVE
    step (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM step WHERE n < 256),
    bounds (first, last) AS (SELECT min(seq), max(seq) FROM events),
    event (seq, received_at) AS (
        SELECT e.seq, e.received_at FROM bounds, step
        JOIN events AS e ON e.seq = (
            SELECT seq FROM events WHERE seq >= first + (last - first) * n / 256 ORDER BY seq LIMIT 1)),
    mark (seq, at) AS (
        SELECT seq - 1, min(max(received_at) OVER (ORDER BY seq), unixepoch() * 1000000) FROM event)
SELECT seq, at, at FROM mark;
