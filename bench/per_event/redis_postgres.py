"""POST /publish → Redis list → consumers → PostgreSQL, one transaction per event."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI
from redis.asyncio import Redis

from contract import Event, as_list

QUEUE = "events"
CONSUMERS = int(os.environ.get("CONSUMERS", "4"))

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    topic       text        NOT NULL,
    event_id    text        NOT NULL,
    ts          timestamptz NOT NULL,
    source      text        NOT NULL,
    payload     jsonb       NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, event_id)
);
CREATE TABLE IF NOT EXISTS stats (
    id                int    PRIMARY KEY,
    received          bigint NOT NULL DEFAULT 0,
    unique_processed  bigint NOT NULL DEFAULT 0,
    duplicate_dropped bigint NOT NULL DEFAULT 0
);
INSERT INTO stats (id) VALUES (1) ON CONFLICT DO NOTHING;
"""

INSERT = """
INSERT INTO events (topic, event_id, ts, source, payload) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING 1
"""

COUNT = """
UPDATE stats SET received = received + 1, unique_processed = unique_processed + $1,
    duplicate_dropped = duplicate_dropped + 1 - $1
WHERE id = 1
"""


async def store(pool: asyncpg.Pool, event: Event) -> None:
    async with pool.acquire() as connection, connection.transaction():
        stored = await connection.fetchval(
            INSERT, event.topic, event.event_id, event.timestamp, event.source, json.dumps(event.payload)
        )
        # Last in the transaction, so that the row that all transactions update is locked as briefly as possible.
        await connection.execute(COUNT, 1 if stored else 0)


async def consume(redis: Redis, pool: asyncpg.Pool) -> None:
    while True:
        _, raw = await redis.brpop(QUEUE)
        await store(pool, Event.model_validate_json(raw))


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.redis = Redis.from_url(os.environ["REDIS_URL"])
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=CONSUMERS, max_size=CONSUMERS)
    await pool.execute(SCHEMA)
    consumers = [asyncio.create_task(consume(app.state.redis, pool)) for _ in range(CONSUMERS)]
    yield
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)
    await pool.close()
    await app.state.redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/publish", status_code=202)
async def publish(body: Event | list[Event]):
    events = as_list(body)
    if events:
        await app.state.redis.lpush(QUEUE, *[event.model_dump_json() for event in events])
    return {"status": "accepted", "count": len(events)}
