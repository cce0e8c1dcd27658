"""Batches, their repetition, and what is said about each event."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from concurrent.futures import wait
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path

import pytest

from sluice_client import Client, Event, NotDeliveredError

from support import Fault, Proxy, Server, client_of, unused_url, wait_for


def test_an_event_is_stored_as_it_was_given(server: Server) -> None:
    time_of_it = datetime(2026, 1, 31, 13, 0, tzinfo=timezone(timedelta(hours=1)))
    with Client(server.url) as client:
        event = Event(
            topic="orders", event_id="evt-1", source="shop", timestamp=time_of_it, payload={"a": [1, "ä", None]}
        )
        assert client.send(event).result(timeout=30) is None
    [stored] = server.events()
    assert {name: stored[name] for name in ("topic", "event_id", "source", "payload")} == {
        "topic": "orders",
        "event_id": "evt-1",
        "source": "shop",
        "payload": {"a": [1, "ä", None]},
    }
    assert stored["timestamp"].startswith("2026-01-31T12:00:00")


def test_a_missing_id_and_time_are_chosen_when_the_event_is_sent(server: Server) -> None:
    before = datetime.now(timezone.utc)
    with Client(server.url) as client:
        first, second = client.send({"payload": 1}), client.send({"payload": 1})
        assert first.event_id != second.event_id
        wait([first, second], timeout=30)
        after = datetime.now(timezone.utc)
    assert server.ids() == sorted([first.event_id, second.event_id])
    for stored in server.events():
        assert before <= datetime.fromisoformat(stored["timestamp"].replace("Z", "+00:00")) <= after


def test_a_batch_ends_at_its_number_of_events(proxy: Proxy) -> None:
    with client_of(proxy.url, batch_events=10, linger=3600) as client:
        deliveries = [client.send({"payload": n}) for n in range(25)]
        done, waiting = wait(deliveries[:20], timeout=30)
        assert (len(done), len(waiting)) == (20, 0)
        assert not any(delivery.done() for delivery in deliveries[20:])
        assert client.flush(30)
        assert all(delivery.result(timeout=0) is None for delivery in deliveries)
    assert [request.events for request in proxy.requests] == [10, 10, 5]


def test_a_batch_ends_at_its_number_of_bytes(proxy: Proxy) -> None:
    with client_of(proxy.url, batch_bytes=10_000, linger=3600) as client:
        deliveries = [client.send({"payload": "x" * 900}) for _ in range(40)]
        assert client.flush(30)
        assert all(delivery.result(timeout=0) is None for delivery in deliveries)
    assert sum(request.events for request in proxy.requests) == 40
    assert all(8_000 <= len(request.body) <= 10_000 for request in proxy.requests[:-1])


def test_an_event_that_is_larger_than_a_batch_is_sent_alone(proxy: Proxy) -> None:
    with client_of(proxy.url, batch_bytes=1_000, linger=3600) as client:
        for size in (10, 5_000, 10):
            client.send({"payload": "x" * size})
        assert client.flush(30)
        assert client.stats().delivered == 3
    assert sorted(request.events for request in proxy.requests) == [1, 1, 1]


def test_a_batch_ends_when_its_first_event_has_waited_for_the_linger(proxy: Proxy) -> None:
    with client_of(proxy.url, linger=0.5) as client:
        began = time.monotonic()
        deliveries = [client.send({"payload": n}) for n in range(7)]
        deliveries[0].result(timeout=30)
    [request] = proxy.requests
    assert request.events == 7
    assert request.at - began >= 0.5


def test_a_lost_answer_is_repeated_with_the_same_key_and_body_and_counts_once(server: Server, proxy: Proxy) -> None:
    proxy.faults = [Fault(), Fault(), Fault()]
    with client_of(proxy.url) as client:
        deliveries = [client.send({"payload": n}) for n in range(5)]
        assert all(delivery.result(timeout=30) is None for delivery in deliveries)
        stats = client.stats()
    assert stats.repeated == 3
    assert len(proxy.requests) == 4
    assert len({(request.key, request.body) for request in proxy.requests}) == 1
    assert server.ids() == sorted(delivery.event_id for delivery in deliveries)
    counts = server.stats()
    assert (counts["received"], counts["unique_processed"], counts["duplicate_dropped"]) == (5, 5, 0)


def test_each_batch_has_a_key_of_its_own(proxy: Proxy) -> None:
    with client_of(proxy.url, batch_events=1) as client:
        for n in range(20):
            client.send({"event_id": str(n), "payload": n})
        assert client.flush(30)
    keys = [request.key for request in proxy.requests]
    assert len(set(keys)) == len(keys) == 20


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_can_change_is_repeated(server: Server, proxy: Proxy, status: int) -> None:
    proxy.faults = [Fault(status), Fault(status)]
    with client_of(proxy.url) as client:
        client.send({"payload": 1}).result(timeout=30)
    assert len(proxy.requests) == 3
    assert server.stats()["duplicate_dropped"] == 0


def test_an_answer_that_is_not_of_sluice_delivers_nothing(server: Server, proxy: Proxy) -> None:
    proxy.faults = [Fault(200, body=b"<html>please log in</html>"), Fault(202, body=b"{}"), Fault(202, body=b"[]")]
    with client_of(proxy.url) as client:
        client.send({"event_id": "evt-1", "payload": 1}).result(timeout=30)
    assert len(proxy.requests) == 4
    assert server.ids() == ["evt-1"]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(proxy: Proxy, status: int, form: str) -> None:
    # A date has no fractions of a second: two of them are at least one.
    value = (
        "1" if form == "seconds" else format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
    )
    proxy.faults = [Fault(status, {"Retry-After": value})]
    with client_of(proxy.url, backoff_max=0.01) as client:
        client.send({"payload": 1}).result(timeout=30)
    first, second = proxy.requests
    pause = second.at - first.at
    assert pause >= (1 if form == "seconds" else 0.9)
    assert pause < 20


def test_retry_after_holds_back_the_other_batches_too(proxy: Proxy) -> None:
    proxy.faults = [Fault(429, {"Retry-After": "1"})]
    with client_of(proxy.url, batch_events=1) as client:
        first = client.send({"payload": 1})
        wait_for(lambda: client.stats().repeated, "the server has asked for a pause")
        second = client.send({"payload": 2})
        first.result(timeout=30)
        second.result(timeout=30)
    refused, *later = proxy.requests
    assert all(request.at - refused.at >= 1 for request in later)


def test_an_unusable_retry_after_is_left_out(proxy: Proxy) -> None:
    proxy.faults = [Fault(503, {"Retry-After": value}) for value in ("soon", "-1", "", "1.5e9")]
    with client_of(proxy.url) as client:
        client.send({"payload": 1}).result(timeout=20)
    assert len(proxy.requests) == 5


def test_pauses_grow_and_are_random(proxy: Proxy) -> None:
    proxy.faults = [Fault(503)] * 20
    with client_of(proxy.url, backoff_min=0.001, backoff_max=0.2, batch_events=1, max_in_flight=1) as client:
        client.send({"payload": 1}).result(timeout=30)
    times = [request.at for request in proxy.requests]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert sum(pauses[:4]) < sum(pauses[8:12])
    # The bound is reached: without chance, all of these would be 0.2.
    assert min(pauses[8:]) < 0.15
    assert max(pauses) < 0.2 + 1


def test_several_batches_are_in_flight_and_no_more_than_allowed(proxy: Proxy) -> None:
    proxy.open.clear()
    with client_of(proxy.url, batch_events=1, max_in_flight=3) as client:
        deliveries = [client.send({"payload": n}) for n in range(12)]
        wait_for(lambda: proxy.held == 3, "three requests are in flight")
        assert client.stats().waiting_events == 12
        proxy.open.set()
        assert all(delivery.result(timeout=30) is None for delivery in deliveries)
    assert proxy.most_held == 3
    assert len(proxy.requests) == 12


def test_a_server_that_is_away_is_waited_for(server: Server) -> None:
    server.kill()
    with client_of(server.url) as client:
        delivery = client.send({"event_id": "evt-1", "payload": 1})
        wait_for(lambda: client.stats().repeated >= 3, "the request is repeated")
        assert "ConnectError" in str(client.stats().last_error)
        assert not client.flush(0.1)
        server.start()
        delivery.result(timeout=60)
        assert client.stats().last_error is None
    assert server.ids() == ["evt-1"]


def test_a_server_that_does_not_answer_in_time_is_asked_again_and_the_events_count_once(server: Server) -> None:
    with client_of(server.url, request_timeout=0.3) as client:
        server.signal(signal.SIGSTOP)
        deliveries = [client.send({"payload": n}) for n in range(5)]
        wait_for(lambda: client.stats().repeated >= 2, "the request is repeated")
        assert "Timeout" in str(client.stats().last_error)
        server.signal(signal.SIGCONT)
        assert all(delivery.result(timeout=60) is None for delivery in deliveries)
    counts = server.stats()
    assert (counts["received"], counts["duplicate_dropped"]) == (5, 0)


def test_close_delivers_what_waits_for_the_linger(server: Server) -> None:
    client = Client(server.url, linger=3600)
    deliveries = [client.send({"payload": n}) for n in range(10)]
    assert client.close(30)
    assert all(delivery.result(timeout=0) is None for delivery in deliveries)
    assert len(server.ids()) == 10


def test_close_gives_up_at_its_deadline_and_the_futures_say_what_was_not_delivered() -> None:
    client = Client(unused_url(), backoff_max=0.2, batch_events=2, max_in_flight=1)
    deliveries = [client.send({"payload": n}) for n in range(6)]
    began = time.monotonic()
    assert not client.close(0.5)
    assert 0.5 <= time.monotonic() - began < 10
    for delivery in deliveries:
        with pytest.raises(NotDeliveredError) as raised:
            delivery.result(timeout=0)
        assert not raised.value.spooled
    assert not client.close(30)
    stats = client.stats()
    assert (stats.sent, stats.failed, stats.waiting_events, stats.waiting_bytes) == (6, 6, 0, 0)


def test_a_delivery_can_be_awaited(server: Server) -> None:
    async def send(client: Client) -> None:
        await asyncio.gather(*(asyncio.wrap_future(client.send({"payload": n})) for n in range(10)))

    with Client(server.url) as client:
        asyncio.run(send(client))
        assert client.stats().delivered == 10


def test_a_delivery_cannot_be_taken_back(server: Server) -> None:
    with Client(server.url, linger=3600) as client:
        delivery = client.send({"event_id": "evt-1", "payload": 1})
        assert not delivery.cancel()
    assert server.ids() == ["evt-1"]


def test_a_callback_may_send_further_events(server: Server) -> None:
    with Client(server.url, max_in_flight=1) as client:
        client.send({"event_id": "1", "payload": 1}).add_done_callback(
            lambda _: client.send({"event_id": "2", "payload": 2})
        )
        wait_for(lambda: client.stats().delivered == 2, "both events are delivered")
    assert server.ids() == ["1", "2"]


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_flush_ends_after_the_futures(server: Server, tmp_path: Path, spooled: bool) -> None:
    options = {"spool_directory": tmp_path / "spool"} if spooled else {}
    began = threading.Event()

    def slow(_: object) -> None:
        began.set()
        time.sleep(0.5)

    with client_of(server.url, linger=3600, batch_events=6, **options) as client:
        client.send({"payload": 1}).add_done_callback(slow)
        deliveries = [client.send({"payload": n}) for n in range(5)]
        assert began.wait(30)
        assert client.flush(30)
        assert all(delivery.done() for delivery in deliveries)


def test_the_counters_agree_with_what_was_done(server: Server) -> None:
    with client_of(server.url, linger=3600) as client:
        for n in range(9):
            client.send({"payload": n})
        client.send({"payload": "\0"})
        stats = client.stats()
        assert (stats.sent, stats.waiting_events, stats.delivered) == (10, 10, 0)
        assert stats.waiting_bytes > 0
        assert client.flush(30)
        stats = client.stats()
        assert (stats.delivered, stats.rejected, stats.waiting_events, stats.waiting_bytes) == (9, 1, 0, 0)
        assert (stats.dropped, stats.failed, stats.repeated, stats.spooled_bytes) == (0, 0, 0, 0)
