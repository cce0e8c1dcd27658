-- The store was found to have lost commits, so numbers of events are used again: each time is a generation. The id is random,
-- because a copy of the file may be restored that does not know the last ones.
CREATE TABLE feed_generations (
    id       BLOB    PRIMARY KEY,
    number   INTEGER NOT NULL UNIQUE,
    from_seq INTEGER NOT NULL, -- up to this number, events are those of the generation before
    loss     INTEGER UNIQUE
);
INSERT INTO feed_generations (id, number, from_seq) VALUES (randomblob(16), 0, 0);
