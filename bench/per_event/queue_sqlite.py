"""POST /publish → asyncio.Queue → consumer → SQLite, one transaction per event."""

import asyncio
import json
import os
import sqlite3
from contextlib import asynccontextmanager

from fastapi import FastAPI

from contract import Event, as_list

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    topic       TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    ts          TEXT NOT NULL,
    source      TEXT NOT NULL,
    payload     TEXT NOT NULL,
    received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (topic, event_id)
);
CREATE TABLE IF NOT EXISTS stats (
    id                INTEGER PRIMARY KEY,
    received          INTEGER NOT NULL DEFAULT 0,
    unique_processed  INTEGER NOT NULL DEFAULT 0,
    duplicate_dropped INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO stats (id) VALUES (1);
"""

INSERT = "INSERT OR IGNORE INTO events (topic, event_id, ts, source, payload) VALUES (?, ?, ?, ?, ?)"

COUNT = """
UPDATE stats SET received = received + 1, unique_processed = unique_processed + :stored,
    duplicate_dropped = duplicate_dropped + 1 - :stored
WHERE id = 1
"""


def open_database() -> sqlite3.Connection:
    # Without implicit transactions: store() begins and ends each of them itself.
    database = sqlite3.connect(os.environ["DATABASE"], isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(SCHEMA)
    return database


def store(database: sqlite3.Connection, event: Event) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        row = (event.topic, event.event_id, event.timestamp.isoformat(), event.source, json.dumps(event.payload))
        stored = database.execute(INSERT, row).rowcount
        database.execute(COUNT, {"stored": stored})
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise


async def consume(queue: asyncio.Queue, database: sqlite3.Connection) -> None:
    while True:
        event = await queue.get()
        # In the event loop's thread: a commit is short, and passing events to another thread was slower.
        store(database, event)
        # get() does not yield while the queue has events, so without this no request would be handled.
        await asyncio.sleep(0)


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.queue = asyncio.Queue()
    database = open_database()
    consumer = asyncio.create_task(consume(app.state.queue, database))
    yield
    consumer.cancel()
    await asyncio.gather(consumer, return_exceptions=True)
    database.close()


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/publish", status_code=202)
async def publish(body: Event | list[Event]):
    events = as_list(body)
    for event in events:
        app.state.queue.put_nowait(event)
    return {"status": "accepted", "count": len(events)}
