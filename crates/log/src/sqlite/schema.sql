-- The entries that are not acknowledged yet. AUTOINCREMENT, so that a number is never used twice.
CREATE TABLE IF NOT EXISTS entries (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  millis   INTEGER NOT NULL, -- since 1970, never less than that of the entry before
  events   INTEGER NOT NULL,
  body     BLOB    NOT NULL
) STRICT;

-- The total numbers of events appended and acknowledged, in one row.
CREATE TABLE IF NOT EXISTS counts (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  appended     INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL
) STRICT;
INSERT INTO counts VALUES (1, 0, 0) ON CONFLICT DO NOTHING;

-- The hash of the body that was sent with each Idempotency-Key, until the key expires.
CREATE TABLE IF NOT EXISTS keys (
  key       BLOB PRIMARY KEY,
  body_hash BLOB    NOT NULL,
  expires   INTEGER NOT NULL -- milliseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_expiry ON keys (expires);
