-- The number of the last commit of each worker, written in the transaction of the commit. The log has the number of the
-- last commit whose entries it has acknowledged: a server whose number is lower has lost commits.
CREATE TABLE commit_marks (
    worker       text        PRIMARY KEY,
    number       bigint      NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Gives the commit of the first of these workers its number, unless a commit that one of them knows to be confirmed is
-- missing here: then the connection leads to another server than before.
CREATE FUNCTION mark_commit(workers text[], confirmed bigint[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    given bigint;
BEGIN
    IF EXISTS (
        SELECT FROM unnest(workers, confirmed) AS known (name, commit)
        WHERE known.commit > coalesce((SELECT m.number FROM commit_marks AS m WHERE m.worker = known.name), 0)
    ) THEN
        RAISE EXCEPTION 'commits that were confirmed are missing' USING ERRCODE = 'SLB01';
    END IF;
    INSERT INTO commit_marks AS m (worker, number) VALUES (workers[1], 1)
    ON CONFLICT (worker) DO UPDATE SET number = m.number + 1, committed_at = clock_timestamp()
    RETURNING m.number INTO given;
    RETURN given;
END
$$;
