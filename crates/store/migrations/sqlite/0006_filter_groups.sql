-- Closed partitions that follow each other share a filter. crates/store/src/partitions/groups.rs describes which ones.
CREATE TABLE key_filter_groups (
    filter          TEXT    PRIMARY KEY,
    level           INTEGER NOT NULL, -- 1 if it was made of partitions, 2 if it was made of such groups
    first_partition INTEGER NOT NULL,
    last_partition  INTEGER NOT NULL,
    keys            INTEGER NOT NULL, -- how many keys its partitions had when its filter was begun
    segments        INTEGER NOT NULL DEFAULT 0, -- how many segments of its filter are stored
    is_complete     INTEGER NOT NULL DEFAULT 0
) STRICT;
