"""How much memory an event really takes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Delivery

from support import client_of, unused_url


@pytest.mark.parametrize("kind", ["memory", "spool"])
def test_an_event_counts_at_least_the_memory_that_it_takes(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {} if kind == "memory" else {"spool_directory": tmp_path / "spool", "linger": 3600}
    with client_of(unused_url(), batch_events=10_000, **options) as client:
        # What is allocated once is not counted.
        client.send({"payload": 0})
        deliveries: list[Delivery] = []
        tracemalloc.start()
        try:
            counted = client.stats().waiting_bytes
            deliveries.extend(client.send({"payload": n}) for n in range(5_000))
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        counted = client.stats().waiting_bytes - counted
    print(f"an event takes {taken / len(deliveries):.0f} bytes and counts {counted / len(deliveries):.0f}")
    assert taken < counted < 2 * taken
