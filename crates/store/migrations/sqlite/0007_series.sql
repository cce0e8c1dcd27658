-- What happened to events, by topic and minute of arrival (crates/store/src/series.rs).
CREATE TABLE series (
    topic             TEXT    NOT NULL, -- empty: dead letters that are whole entries
    minute            INTEGER NOT NULL, -- from 1970
    received          INTEGER NOT NULL,
    unique_processed  INTEGER NOT NULL,
    duplicate_dropped INTEGER NOT NULL,
    conflicts         INTEGER NOT NULL,
    dead_lettered     INTEGER NOT NULL,
    PRIMARY KEY (topic, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX series_minute ON series (minute);
