"""Client and server are killed at random, and every confirmed event is stored exactly once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from support import Server, client_of, wait_for

SECONDS = float(os.environ.get("SLUICE_CRASH_SECONDS", "20"))
SEED = int(os.environ.get("SLUICE_CRASH_SEED", str(int(time.time()))))


class Publisher:
    """The process of `publisher.py`, and what it has printed."""

    def __init__(self, url: str, spool: Path, first: int) -> None:
        self.sent: list[str] = []
        self.confirmed: list[str] = []
        self.recovered = 0
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("publisher.py")), url, str(spool), str(first)],
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def kill(self) -> None:
        """Ends it as `kill -9` does, and reads what it has printed until then."""
        assert self._process.poll() is None, "it ended by itself"
        self.stop()

    def stop(self) -> None:
        """Ends it if it runs."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                # A line that was not written whole was not printed.
                if line.endswith(b"\n"):
                    word, value = line.decode().split()
                    if word == "recovered":
                        self.recovered = int(value)
                    else:
                        (self.sent if word == "sent" else self.confirmed).append(value)


def test_every_confirmed_event_is_stored_once_although_client_and_server_are_killed(tmp_path: Path) -> None:
    print(f"SLUICE_CRASH_SEED={SEED}")
    chance = random.Random(SEED)
    server = Server(tmp_path / "server")
    server.start()
    spool = tmp_path / "spool"
    sent: list[str] = []
    confirmed: list[str] = []
    killed: Counter[str] = Counter()
    recovered = 0
    deadline = time.monotonic() + SECONDS
    publisher = Publisher(server.url, spool, 0)

    def enough() -> bool:
        kills = (killed["client"] + killed["both"], killed["server"] + killed["both"])
        return time.monotonic() > deadline and min(kills) >= 3 and len(confirmed) > 1_000

    try:
        while not enough():
            # From none, while it may still recover the spool, to so many that several requests are on their way.
            wanted = chance.choice([0, 1, chance.randrange(1_000)])
            wait_for(lambda: len(publisher.confirmed) >= wanted, "the client confirms events")  # noqa: B023
            time.sleep(chance.uniform(0, 0.5))
            which = chance.choice(["client", "server", "both"])
            killed[which] += 1
            if which != "client":
                server.kill()
            if which != "server":
                publisher.kill()
                sent += publisher.sent
                confirmed += publisher.confirmed
                recovered += publisher.recovered
                publisher = Publisher(server.url, spool, len(sent))
            if which != "client":
                # Meanwhile the client repeats its requests, and fills the spool.
                time.sleep(chance.uniform(0, 0.5))
                server.start()
        wait_for(lambda: publisher.confirmed, "the last client confirms events")
        publisher.kill()
        sent += publisher.sent
        confirmed += publisher.confirmed
        recovered += publisher.recovered
        with client_of(server.url, spool_directory=spool) as client:
            assert client.flush(120)
            stats = client.stats()
            assert (stats.damaged_bytes, stats.rejected) == (0, 0)
        stored = Counter(event["event_id"] for event in server.events())
        counts = server.stats()
    finally:
        publisher.stop()
        server.kill()
    print(f"{len(sent)} sent, {len(confirmed)} confirmed, {len(stored)} stored, {recovered} recovered, {killed}")
    assert [event_id for event_id in confirmed if event_id not in stored] == []
    assert [event_id for event_id, times in stored.items() if times != 1] == []
    assert set(stored) <= set(sent)
    # Each repetition came under the key of its first attempt, so that none was counted as a duplicate.
    assert (counts["unique_processed"], counts["duplicate_dropped"], counts["conflicts"]) == (len(stored), 0, 0)
