-- Entries not acknowledged yet. AUTOINCREMENT: a number is never used twice.
CREATE TABLE IF NOT EXISTS entries (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  millis   INTEGER NOT NULL, -- since 1970, never less than the entry's before
  events   INTEGER NOT NULL,
  body     BLOB    NOT NULL
) STRICT;

-- Events ever appended and acknowledged.
CREATE TABLE IF NOT EXISTS counts (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  appended     INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL
) STRICT;
INSERT INTO counts VALUES (1, 0, 0) ON CONFLICT DO NOTHING;

-- What body an Idempotency-Key came with.
CREATE TABLE IF NOT EXISTS keys (
  key       BLOB PRIMARY KEY,
  body_hash BLOB    NOT NULL,
  expires   INTEGER NOT NULL -- milliseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS keys_by_expiry ON keys (expires);
