-- Meters: exact aggregates of events over time (crates/store/src/meters/mod.rs). Times are in µs since 1970.
CREATE TABLE meters (
    id            bigint  PRIMARY KEY GENERATED ALWAYS AS IDENTITY, -- a meter that is changed gets another one
    name          text    NOT NULL,
    definition    text    NOT NULL, -- JSON
    created_at    bigint  NOT NULL,
    complete_from bigint,           -- events that were stored before had been removed when it was created
    first_seq     bigint  NOT NULL, -- the backfill began here
    cut_seq       bigint  NOT NULL, -- events from here on are counted by the transaction that stores them
    backfilled_to bigint,           -- the last event that the backfill has counted; NULL when it is complete
    windows       bigint  NOT NULL DEFAULT 0,
    skipped       bigint  NOT NULL DEFAULT 0,
    example       text              -- one of the skipped events
);
-- Another one after each change. A transaction reads it when no change can be committed before its own end.
CREATE TABLE meter_version (version bigint NOT NULL);
INSERT INTO meter_version VALUES (0);
-- Meters that were removed and have windows.
CREATE TABLE removed_meters (id bigint PRIMARY KEY);

-- What each transaction has counted: no transaction waits for a row of another one. It is added to the windows later.
CREATE TABLE meter_batches (
    id      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    content bytea  NOT NULL
);
CREATE TABLE meter_windows (
    meter   bigint   NOT NULL,
    length  smallint NOT NULL, -- in minutes; 0 is one without a time
    start   bigint   NOT NULL, -- in minutes since 1970
    content bytea    NOT NULL,
    PRIMARY KEY (meter, length, start)
);
-- Both are written much more often than read, and compressing would cost more than their space.
ALTER TABLE meter_batches ALTER content SET STORAGE EXTERNAL;
ALTER TABLE meter_windows ALTER content SET STORAGE EXTERNAL;

-- Programs that do not know meters would store events that no meter counts. They do not set this, so their transactions fail
-- once there is a meter.
CREATE FUNCTION require_meters() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    there_are boolean;
BEGIN
    IF current_setting('sluice.counts_meters', true) IS DISTINCT FROM 'on' THEN
        -- A session of somebody else may have another search path.
        EXECUTE format('SELECT EXISTS (SELECT FROM %I.meters)', TG_TABLE_SCHEMA) INTO there_are;
        IF there_are THEN
            RAISE EXCEPTION 'this version of the program does not know meters, and there are some'
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'use the present version';
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER require_meters BEFORE INSERT ON counters FOR EACH STATEMENT EXECUTE FUNCTION require_meters();
