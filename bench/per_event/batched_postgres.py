"""POST /publish → PostgreSQL: one statement, and so one transaction, for all events of a request."""

import os
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

import asyncpg
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

CONNECTIONS = int(os.environ.get("CONNECTIONS", "8"))

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Event(msgspec.Struct):
    topic: Text
    event_id: Text
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    source: Text
    # As it was sent: its syntax is checked, and it is stored without being decoded and encoded again.
    payload: msgspec.Raw


DECODER = msgspec.json.Decoder(Event | list[Event])

# Several processes may create the tables at the same time. Bytes are compared faster than the texts of a language.
SCHEMA = """
BEGIN;
SELECT pg_advisory_xact_lock(1);
CREATE TABLE IF NOT EXISTS events (
    topic       text        COLLATE "C" NOT NULL,
    event_id    text        COLLATE "C" NOT NULL,
    ts          timestamptz NOT NULL,
    source      text        NOT NULL,
    payload     json        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, event_id)
);
CREATE TABLE IF NOT EXISTS stats (
    topic             text   COLLATE "C" PRIMARY KEY,
    received          bigint NOT NULL,
    unique_processed  bigint NOT NULL,
    duplicate_dropped bigint NOT NULL
);
COMMIT;
"""

# Rows are inserted in the order of the arrays, which is that of the keys, and statistics change afterwards, in the order
# of the topics: transactions that wait for each other do so in one order, so they cannot deadlock.
STORE = """
WITH sent AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
        AS sent (topic, event_id, ts, source, payload)
), stored AS (
    INSERT INTO events (topic, event_id, ts, source, payload)
    SELECT topic, event_id, ts, source, payload::json FROM sent
    ON CONFLICT DO NOTHING RETURNING topic
), counted AS (
    SELECT topic, received, coalesce(stored, 0) AS stored
    FROM (SELECT topic, count(*) AS received FROM sent GROUP BY topic) AS received
    LEFT JOIN (SELECT topic, count(*) AS stored FROM stored GROUP BY topic) AS stored USING (topic)
)
INSERT INTO stats AS s SELECT topic, received, stored, received - stored FROM counted ORDER BY topic
ON CONFLICT (topic) DO UPDATE SET received = s.received + excluded.received,
    unique_processed = s.unique_processed + excluded.unique_processed,
    duplicate_dropped = s.duplicate_dropped + excluded.duplicate_dropped
"""


def parse(body: bytes) -> list[Event]:
    decoded = DECODER.decode(body)
    events = decoded if isinstance(decoded, list) else [decoded]
    for event in events:
        if bytes(memoryview(event.payload)[:1]) != b"{":
            raise msgspec.ValidationError("payload must be an object")
    return events


def columns(events: list[Event]) -> tuple[list, ...]:
    events.sort(key=lambda event: (event.topic, event.event_id))
    return (
        [event.topic for event in events],
        [event.event_id for event in events],
        [event.timestamp for event in events],
        [event.source for event in events],
        [str(event.payload, "utf-8") for event in events],
    )


async def publish(request: Request) -> Response:
    try:
        events = parse(await request.body())
    except msgspec.DecodeError as error:
        return json(422, {"detail": str(error)})
    await request.app.state.pool.execute(STORE, *columns(events))
    return json(202, {"status": "accepted", "count": len(events)})


async def health(request: Request) -> Response:
    return json(200, {"status": "ok"})


def json(status: int, content: dict) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


@asynccontextmanager
async def lifespan(app: Starlette):
    url = os.environ["DATABASE_URL"]
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(SCHEMA)
        app.state.pool = pool
        yield


app = Starlette(lifespan=lifespan, routes=[Route("/publish", publish, methods=["POST"]), Route("/health", health)])
