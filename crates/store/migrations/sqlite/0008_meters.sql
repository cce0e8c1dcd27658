-- Meters: exact aggregates of events over time (crates/store/src/meters/mod.rs). Times are in µs since 1970.
CREATE TABLE meters (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- a meter that is changed gets another one
    name          TEXT    NOT NULL,
    definition    TEXT    NOT NULL, -- JSON
    created_at    INTEGER NOT NULL,
    complete_from INTEGER,          -- events that were stored before had been removed when it was created
    first_seq     INTEGER NOT NULL, -- the backfill began here
    cut_seq       INTEGER NOT NULL, -- events from here on are counted by the transaction that stores them
    backfilled_to INTEGER,          -- the last event that the backfill has counted; NULL when it is complete
    windows       INTEGER NOT NULL DEFAULT 0,
    skipped       INTEGER NOT NULL DEFAULT 0,
    example       TEXT              -- one of the skipped events
) STRICT;
-- Another one after each change.
CREATE TABLE meter_version (version INTEGER NOT NULL) STRICT;
INSERT INTO meter_version VALUES (0);
-- Meters that were removed and have windows.
CREATE TABLE removed_meters (id INTEGER PRIMARY KEY) STRICT;

-- What each transaction has counted. It is added to the windows later.
CREATE TABLE meter_batches (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    content BLOB    NOT NULL
) STRICT;
CREATE TABLE meter_windows (
    meter   INTEGER NOT NULL,
    length  INTEGER NOT NULL, -- in minutes; 0 is one without a time
    start   INTEGER NOT NULL, -- in minutes since 1970
    content BLOB    NOT NULL,
    PRIMARY KEY (meter, length, start)
) STRICT;
