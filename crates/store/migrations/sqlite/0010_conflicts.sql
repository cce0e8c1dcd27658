-- Events that came under a key that was stored with another payload. They are kept for a while, and bounded by maintenance.
CREATE TABLE conflicts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    seen_at     INTEGER NOT NULL,
    key         BLOB    NOT NULL,
    ts          INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    request_id  BLOB    NOT NULL,
    topic       TEXT    NOT NULL,
    event_id    TEXT    NOT NULL,
    source      TEXT,
    payload     TEXT    NOT NULL
) STRICT;
CREATE INDEX conflicts_event ON conflicts (topic, event_id);

-- The keys of events whose content was erased, so that it is erased again if they come back. Such an event has the payload
-- `null`, no source, and a payload_hash of zeros.
CREATE TABLE erasures (
    key       BLOB    PRIMARY KEY,
    erased_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
