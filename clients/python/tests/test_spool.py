"""A client with a spool."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from sluice_client import Client, NotDeliveredError, RejectedError, SpoolError, SpoolLockedError

from support import Fault, Proxy, Server, client_of, unused_url, wait_for


def test_an_event_is_confirmed_on_the_disk_before_the_server_has_it(server: Server, tmp_path: Path) -> None:
    server.kill()
    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        delivery = client.send({"event_id": "evt-1", "payload": 1})
        assert delivery.spooled.result(timeout=30) is None
        [segment] = (tmp_path / "spool").glob("segment-*")
        assert b'"event_id":"evt-1"' in segment.read_bytes()
        assert not delivery.done()
        server.start()
        assert delivery.result(timeout=60) is None
    assert server.ids() == ["evt-1"]


def test_an_event_is_not_confirmed_before_it_is_synced(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        began, synced = [], []
        sync = os.fsync

        def slow_sync(descriptor: int) -> None:
            began.append(descriptor)
            time.sleep(0.3)
            sync(descriptor)
            synced.append(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", slow_sync)
            delivery = client.send({"payload": 1})
            wait_for(lambda: began, "the disk is asked to sync")
            assert not delivery.spooled.done()
            delivery.spooled.result(timeout=30)
            # The folder, because the file is new, and the file.
            assert len(synced) == 2


def test_events_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(unused_url(), spool_directory=tmp_path / "spool", batch_events=100, linger=3600) as client:
        synced: list[int] = []
        sync = os.fsync

        def counting_sync(descriptor: int) -> None:
            sync(descriptor)
            synced.append(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", counting_sync)
            deliveries = [client.send({"payload": n}) for n in range(100)]
            for delivery in deliveries:
                delivery.spooled.result(timeout=30)
        # The folder, because the file is new, and the file.
        assert len(synced) == 2


def test_the_next_client_delivers_what_the_former_one_could_not(server: Server, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    server.kill()
    client = Client(server.url, spool_directory=spool, batch_events=10)
    deliveries = [client.send({"event_id": f"{n:02}", "payload": n}) for n in range(35)]
    assert not client.close(0.5)
    for delivery in deliveries:
        assert delivery.spooled.result(timeout=0) is None
        with pytest.raises(NotDeliveredError, match="it is in the spool") as raised:
            delivery.result(timeout=0)
        assert raised.value.spooled
    server.start()
    with client_of(server.url, spool_directory=spool) as client:
        assert client.stats().recovered == 35
        assert client.flush(60)
        stats = client.stats()
        assert (stats.delivered, stats.waiting_events, stats.sent) == (35, 0, 0)
    assert server.ids() == sorted(delivery.event_id for delivery in deliveries)
    assert sorted(path.name for path in spool.iterdir()) == ["lock"]


def test_what_the_former_client_sent_without_an_answer_is_repeated_with_its_key_and_body(
    server: Server, proxy: Proxy, tmp_path: Path
) -> None:
    proxy.faults = [Fault(), *[Fault(503)] * 1000]
    client = Client(proxy.url, spool_directory=tmp_path / "spool", backoff_min=0.01, backoff_max=0.05)
    for n in range(5):
        client.send({"event_id": str(n), "payload": n})
    wait_for(lambda: len(proxy.requests) >= 2, "the answer is lost")
    assert not client.close(0)
    wait_for(lambda: proxy.held == 0, "no request is in flight")
    proxy.faults = []
    with client_of(proxy.url, spool_directory=tmp_path / "spool") as client:
        assert client.flush(60)
    assert len({(request.key, request.body) for request in proxy.requests}) == 1
    assert server.stats()["received"] == 5
    assert server.stats()["duplicate_dropped"] == 0


def test_a_delivered_frame_is_not_sent_again_after_a_crash(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    with client_of(proxy.url, spool_directory=tmp_path / "spool", batch_events=1, max_in_flight=1) as client:
        client.send({"event_id": "1", "payload": 1}).result(timeout=30)
        # The second request is not answered, so the segment stays.
        proxy.faults = [Fault(503)] * 1000
        client.send({"event_id": "2", "payload": 2})
        wait_for(lambda: len(proxy.requests) >= 2, "the second event is sent")
        shutil.copytree(tmp_path / "spool", tmp_path / "after")
    proxy.faults = []
    proxy.requests.clear()
    with client_of(proxy.url, spool_directory=tmp_path / "after") as client:
        assert client.stats().recovered == 1
        assert client.flush(60)
    assert [request.events for request in proxy.requests] == [1]
    assert server.ids() == ["1", "2"]


def test_a_rejected_event_becomes_a_dead_letter_that_can_be_sent_again(server: Server, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with client_of(server.url, spool_directory=spool, linger=0.2) as client:
        good = client.send({"event_id": "good", "payload": 1})
        bad = client.send({"event_id": "bad", "source": "shop", "payload": {"text": "\0", "n": [1, "ä"]}})
        assert good.result(timeout=30) is None
        assert isinstance(bad.exception(timeout=30), RejectedError)
        assert client.stats().rejected == 1
        assert client.stats().dead_letter_bytes == (spool / "dead-letters.jsonl").stat().st_size
    [line] = (spool / "dead-letters.jsonl").read_text().splitlines()
    letter = json.loads(line)
    assert (letter["status"], letter["code"], letter["index"], letter["field"]) == (202, "invalid_event", 1, "payload")
    assert "contains NUL" in letter["detail"]
    assert letter["event"]["payload"] == {"text": "\0", "n": [1, "ä"]}
    letter["event"]["payload"]["text"] = "mended"
    with client_of(server.url, spool_directory=spool) as client:
        assert client.stats().recovered == 0
        client.send(letter["event"]).result(timeout=30)
    assert server.ids() == ["bad", "good"]


def test_a_batch_that_is_refused_for_good_becomes_dead_letters(proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults = [Fault(404, body=b"no such page")]
    with client_of(proxy.url, spool_directory=tmp_path / "spool") as client:
        for n in range(3):
            client.send({"event_id": str(n), "payload": n})
        assert client.flush(30)
        assert client.stats().rejected == 3
    lines = (tmp_path / "spool" / "dead-letters.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"]["event_id"] for line in lines] == ["0", "1", "2"]
    assert {json.loads(line)["detail"] for line in lines} == {"no such page"}


def test_a_refused_token_leaves_events_in_the_spool(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults = [Fault(401, body=b'{"code":"unauthorized","detail":"the token has expired"}')] * 1000
    with client_of(proxy.url, token="old", spool_directory=tmp_path / "spool") as client:
        delivery = client.send({"event_id": "evt-1", "payload": 1})
        wait_for(lambda: client.stats().repeated >= 3, "the request is repeated")
        assert not delivery.done()
        assert "expired" in str(client.stats().last_error)
    wait_for(lambda: proxy.held == 0, "no request is in flight")
    proxy.faults = []
    with client_of(proxy.url, token="new", spool_directory=tmp_path / "spool") as client:
        assert client.flush(30)
    assert server.ids() == ["evt-1"]


def test_an_event_that_cannot_be_written_fails_and_later_ones_do_not(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            failed = client.send({"event_id": "1", "payload": 1})
            with pytest.raises(SpoolError, match="No space"):
                failed.spooled.result(timeout=30)
            with pytest.raises(SpoolError, match="No space"):
                failed.result(timeout=30)
        client.send({"event_id": "2", "payload": 1}).result(timeout=30)
        stats = client.stats()
        assert (stats.failed, stats.delivered, stats.waiting_events) == (1, 1, 0)
    assert server.ids() == ["2"]


def test_an_event_that_is_damaged_on_the_disk_is_reported_and_the_others_are_delivered(
    server: Server, tmp_path: Path
) -> None:
    server.kill()
    options = {"spool_directory": tmp_path / "spool", "linger": 0, "batch_events": 1, "max_in_flight": 1}
    with client_of(server.url, **options) as client:
        deliveries = []
        for n in range(4):
            deliveries.append(client.send({"event_id": str(n), "payload": n}))
            deliveries[-1].spooled.result(timeout=30)
        # The first one is in flight; the others are on the disk alone.
        [segment] = (tmp_path / "spool").glob("segment-*")
        data = segment.read_bytes()
        segment.write_bytes(data.replace(b'"event_id":"2"', b'"event_id":"X"'))
        server.start()
        assert client.flush(60)
        with pytest.raises(SpoolError, match="damaged"):
            deliveries[2].result(timeout=30)
        stats = client.stats()
        assert (stats.delivered, stats.failed, stats.waiting_events) == (3, 1, 0)
        assert stats.damaged_bytes > 0
    assert server.ids() == ["0", "1", "3"]


def test_what_is_being_written_to_a_segment_whose_events_are_delivered_stays(
    server: Server, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Segments of 2,500 bytes: after the first event, one that is delivered would be removed.
    options = {"spool_directory": tmp_path / "spool", "spool_bytes": 40_000, "linger": 0}
    proxy.open.clear()
    with client_of(proxy.url, **options) as client:
        first = client.send({"event_id": "1", "payload": "x" * 1_000})
        wait_for(lambda: proxy.held, "the first event is in flight")
        began, go_on = threading.Event(), threading.Event()
        sync = os.fsync

        def held_sync(descriptor: int) -> None:
            began.set()
            go_on.wait(60)
            sync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", held_sync)
            second = client.send({"event_id": "2", "payload": 2})
            assert began.wait(30)
            proxy.open.set()
            first.result(timeout=30)
            go_on.set()
            second.result(timeout=30)
    assert server.ids() == ["1", "2"]


def test_closing_does_not_wait_for_a_disk_that_hangs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_client._spool_queue._LAST_WRITE", 0.1)
    began, go_on = threading.Event(), threading.Event()
    sync = os.fsync

    def held_sync(descriptor: int) -> None:
        began.set()
        go_on.wait(60)
        sync(descriptor)

    client = Client(server.url, spool_directory=tmp_path / "spool", linger=0)
    client.send({"event_id": "1", "payload": 1}).result(timeout=30)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", held_sync)
        written = client.send({"event_id": "2", "payload": 2})
        assert began.wait(30)
        waiting = client.send({"event_id": "3", "payload": 3})
        assert not client.close(0)
        assert isinstance(waiting.spooled.exception(timeout=0), NotDeliveredError)
        assert isinstance(waiting.exception(timeout=0), NotDeliveredError)
        assert not written.spooled.done()
        go_on.set()
        written.spooled.result(timeout=30)
        with pytest.raises(NotDeliveredError) as raised:
            written.result(timeout=30)
        assert raised.value.spooled
    stats = client.stats()
    assert (stats.delivered, stats.failed, stats.waiting_events, stats.waiting_bytes) == (1, 2, 0, 0)


def test_a_dead_letter_that_cannot_be_written_is_tried_again(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_client._spool_queue._DEAD_LETTER_RETRY", 0.05)
    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        tried = []

        def no_space(_: object, key: str, refused: object) -> None:
            tried.append((key, refused))
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("sluice_client._dead_letters.DeadLetters.add", no_space)
            delivery = client.send({"payload": "\0"})
            wait_for(lambda: len(tried) >= 2, "the dead letter is tried again")
            assert not delivery.done()
        assert isinstance(delivery.exception(timeout=30), RejectedError)
        assert client.stats().dead_letter_bytes > 0


def test_the_first_stage_can_be_awaited(server: Server, tmp_path: Path) -> None:
    async def send(client: Client) -> None:
        await asyncio.gather(*(asyncio.wrap_future(client.send({"payload": n}).spooled) for n in range(10)))
        await asyncio.gather(*(asyncio.wrap_future(client.send({"payload": n})) for n in range(10)))

    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        asyncio.run(send(client))
        assert client.flush(30)
    assert len(server.ids()) == 20


def test_flush_waits_also_for_the_events_of_former_processes(server: Server, tmp_path: Path) -> None:
    server.kill()
    client = Client(server.url, spool_directory=tmp_path / "spool")
    client.send({"event_id": "1", "payload": 1})
    client.close(0)
    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        assert not client.flush(0.2)
        server.start()
        assert client.flush(60)
    assert server.ids() == ["1"]


def test_two_clients_cannot_use_one_spool(server: Server, tmp_path: Path) -> None:
    with client_of(server.url, spool_directory=tmp_path / "spool"), pytest.raises(SpoolLockedError):
        Client(server.url, spool_directory=tmp_path / "spool")
    with client_of(server.url, spool_directory=tmp_path / "spool"):
        pass


def test_without_a_spool_there_is_no_first_stage(server: Server) -> None:
    with Client(server.url) as client, pytest.raises(AttributeError, match="spool_directory"):
        _ = client.send({"payload": 1}).spooled
