"""What happens when there is no room."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from sluice_client import BufferFullError, ClosedError, EventError, NotDeliveredError

from support import Proxy, Server, client_of, unused_url, wait_for

# An event with this payload counts about 3,400 bytes in memory.
TEN_EVENTS = 40_000
PAYLOAD = "x" * 1_000


def test_send_blocks_until_there_is_room(server: Server, proxy: Proxy) -> None:
    proxy.open.clear()
    sent: list[str] = []
    with client_of(proxy.url, buffer_bytes=TEN_EVENTS, linger=0) as client:

        def send() -> None:
            sent.extend(client.send({"event_id": f"{n:02}", "payload": PAYLOAD}).event_id for n in range(50))

        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: len(sent) >= 10, "the memory is full")
        time.sleep(0.2)
        assert 10 <= len(sent) < 15
        assert client.stats().waiting_bytes <= TEN_EVENTS
        proxy.open.set()
        thread.join(60)
        assert client.flush(30)
        assert client.stats().dropped == 0
    assert server.ids() == sent
    assert len(sent) == 50


def test_send_gives_up_at_its_deadline() -> None:
    with client_of(unused_url(), buffer_bytes=TEN_EVENTS, block_timeout=0.3) as client:
        began = time.monotonic()
        with pytest.raises(BufferFullError, match="buffer_bytes"):
            [client.send({"payload": PAYLOAD}) for _ in range(50)]
        assert 0.3 <= time.monotonic() - began < 30
        assert 10 <= client.stats().sent < 15


def test_closing_ends_a_send_that_waits() -> None:
    errors: list[Exception] = []
    with client_of(unused_url(), buffer_bytes=TEN_EVENTS) as client:

        def send() -> None:
            try:
                while True:
                    client.send({"payload": PAYLOAD})
            except ClosedError as error:
                errors.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: client.stats().sent >= 10, "the memory is full")
        client.close(0)
        thread.join(60)
    assert len(errors) == 1
    with pytest.raises(ClosedError):
        client.send({"payload": 1})


def test_events_are_dropped_and_counted(server: Server, proxy: Proxy) -> None:
    proxy.open.clear()
    with client_of(proxy.url, buffer_bytes=TEN_EVENTS, when_full="drop") as client:
        deliveries = [client.send({"payload": PAYLOAD}) for _ in range(50)]
        dropped = [delivery for delivery in deliveries if delivery.done()]
        assert 35 < len(dropped) <= 40
        for delivery in dropped:
            assert isinstance(delivery.exception(timeout=0), BufferFullError)
        assert client.stats().dropped == len(dropped)
        proxy.open.set()
        assert client.flush(30)
        client.send({"event_id": "later", "payload": PAYLOAD}).result(timeout=30)
        assert client.stats().delivered == 51 - len(dropped)
    taken = [delivery.event_id for delivery in deliveries if delivery not in dropped]
    assert server.ids() == sorted([*taken, "later"])


def test_a_callback_that_sends_into_a_full_memory_gets_an_error_and_does_not_block(proxy: Proxy) -> None:
    errors: list[Exception] = []
    sent: list[int] = []
    proxy.open.clear()
    with client_of(proxy.url, buffer_bytes=TEN_EVENTS, max_in_flight=1, batch_events=1, linger=0) as client:

        def fill(_: object) -> None:
            try:
                while True:
                    client.send({"payload": PAYLOAD})
                    sent.append(1)
            except BufferFullError as error:
                errors.append(error)

        client.send({"payload": 1}).add_done_callback(fill)
        proxy.open.set()
        assert wait_for(lambda: errors, "the callback has filled the memory")
        assert client.flush(60)
        assert client.stats().delivered == len(sent) + 1 > 5


def test_events_that_do_not_fit_in_memory_wait_on_the_disk(server: Server, tmp_path: Path) -> None:
    server.kill()
    with client_of(server.url, buffer_bytes=TEN_EVENTS, spool_directory=tmp_path / "spool") as client:
        deliveries = [client.send({"payload": PAYLOAD}) for _ in range(200)]
        for delivery in deliveries:
            delivery.spooled.result(timeout=30)
        stats = client.stats()
        assert (stats.waiting_events, stats.waiting_bytes, stats.dropped) == (200, 0, 0)
        assert 200 * 1_000 < stats.spooled_bytes < 200 * 1_300
        server.start()
        assert client.flush(60)
        assert client.stats().delivered == 200
    assert server.ids() == sorted(delivery.event_id for delivery in deliveries)


def test_a_full_spool_blocks_until_events_are_delivered(server: Server, tmp_path: Path) -> None:
    server.kill()
    sent: list[str] = []
    spool = tmp_path / "spool"
    with client_of(server.url, spool_directory=spool, spool_bytes=50_000, linger=0.01) as client:

        def send() -> None:
            sent.extend(client.send({"event_id": f"{n:03}", "payload": PAYLOAD}).event_id for n in range(300))

        thread = threading.Thread(target=send)
        thread.start()
        wait_for(lambda: len(sent) >= 35, "the spool is full")
        time.sleep(0.2)
        assert len(sent) < 50
        assert client.stats().spooled_bytes <= 50_000
        server.start()
        thread.join(120)
        assert client.flush(60)
        assert client.stats().spooled_bytes < 50_000
    assert server.ids() == sent
    assert len(sent) == 300
    # What is delivered needs no room.
    assert sorted(path.name for path in spool.iterdir()) == ["lock"]


@pytest.mark.parametrize("when_full", ["block", "drop"])
def test_what_is_delivered_makes_room_in_the_spool_at_once(server: Server, tmp_path: Path, when_full: str) -> None:
    options = {"spool_directory": tmp_path / "spool", "spool_bytes": 50_000, "when_full": when_full}
    with client_of(server.url, **options) as client:
        client.send({"payload": "small"}).result(timeout=30)
        # Its segment is still there, to be written to.
        assert client.stats().spooled_bytes > 0
        client.send({"payload": "x" * 49_750}).result(timeout=30)
    assert len(server.ids()) == 2


def test_events_are_dropped_when_the_spool_is_full(tmp_path: Path) -> None:
    options = {"spool_directory": tmp_path / "spool", "spool_bytes": 50_000, "when_full": "drop"}
    with client_of(unused_url(), **options) as client:
        deliveries = [client.send({"payload": PAYLOAD}) for _ in range(100)]
        dropped = [delivery for delivery in deliveries if delivery.done()]
        assert client.stats().dropped == len(dropped) > 50
        for delivery in dropped:
            assert isinstance(delivery.spooled.exception(timeout=0), BufferFullError)
            assert "spool_bytes" in str(delivery.exception(timeout=0))


@pytest.mark.parametrize("options", [{"buffer_bytes": 10_000}, {"spool_bytes": 10_000}], ids=["memory", "spool"])
def test_an_event_that_never_fits_is_refused_at_once(tmp_path: Path, options: dict[str, int]) -> None:
    with client_of(unused_url(), spool_directory=tmp_path / "spool", **options) as client:
        with pytest.raises(EventError, match=next(iter(options))):
            client.send({"payload": "x" * 10_000})
        assert client.stats().sent == 0


def test_what_waits_on_the_disk_takes_no_memory_if_nobody_waits_for_it(tmp_path: Path) -> None:
    with client_of(unused_url(), spool_directory=tmp_path / "spool", linger=0) as client:
        held = client.send({"payload": 0})
        called: list[object] = []
        client.send({"payload": 1}).add_done_callback(called.append)
        for n in range(500):
            client.send({"payload": n}).spooled.result(timeout=30)
        queue = client._queue
        wait_for(lambda: len(queue._deliveries) <= 3, "futures that nobody holds are gone")  # type: ignore[attr-defined]
        client.close(0)
        with pytest.raises(NotDeliveredError) as raised:
            held.result(timeout=0)
        assert raised.value.spooled
        assert len(called) == 1
