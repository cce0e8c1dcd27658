-- Events that came under a key that was stored with another payload. They are kept for a while, and bounded by maintenance.
CREATE TABLE conflicts (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    key         uuid        NOT NULL,
    ts          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    request_id  uuid        NOT NULL,
    topic       text        NOT NULL,
    event_id    text        NOT NULL,
    source      text,
    payload     text        NOT NULL
);
CREATE INDEX conflicts_event ON conflicts (topic, event_id);

-- The keys of events whose content was erased, so that it is erased again if they come back. Such an event has the payload
-- `null`, no source, and a payload_hash of zeros.
CREATE TABLE erasures (
    key       uuid        PRIMARY KEY,
    erased_at timestamptz NOT NULL DEFAULT now()
);
