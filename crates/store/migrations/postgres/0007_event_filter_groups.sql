-- Closed partitions that follow each other share a filter. crates/store/src/partitions/groups.rs describes which ones.
CREATE TABLE event_filter_groups (
    filter          uuid    PRIMARY KEY,
    level           integer NOT NULL, -- 1 if it was made of partitions, 2 if it was made of such groups
    first_partition integer NOT NULL,
    last_partition  integer NOT NULL,
    keys            bigint  NOT NULL, -- how many keys its partitions had when its filter was begun
    segments        integer NOT NULL DEFAULT 0, -- how many segments of its filter are stored
    is_complete     boolean NOT NULL DEFAULT false
);
