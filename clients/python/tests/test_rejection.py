"""What the server refuses: the sender of each event learns it, and the other events are stored."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Client, Delivery, RejectedError

from support import Fault, Proxy, Server, client_of

# The server refuses it, and no client can know that it will.
NUL = "\0"


def send(client: Client, count: int, bad: set[int], **members: Any) -> list[Delivery]:
    """Sends events of which some are refused, in one batch."""
    return [client.send({"event_id": f"{n:05}", "payload": NUL if n in bad else n} | members) for n in range(count)]


def rejection(delivery: Delivery) -> RejectedError:
    error = delivery.exception(timeout=0)
    assert isinstance(error, RejectedError), error
    return error


def check(deliveries: list[Delivery], bad: set[int], server: Server) -> None:
    """Checks that the senders of the bad events know it, and that exactly the others are stored, each counted once."""
    assert {n for n, delivery in enumerate(deliveries) if delivery.exception(timeout=0) is not None} == bad
    assert server.ids() == [delivery.event_id for n, delivery in enumerate(deliveries) if n not in bad]
    counts = server.stats()
    assert (counts["unique_processed"], counts["duplicate_dropped"]) == (len(deliveries) - len(bad), 0)


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    with client_of(proxy.url, linger=3600, batch_events=2000) as client:
        yield client


def test_a_rejected_event_is_reported_to_its_sender_and_the_others_are_stored(
    client: Client, server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sluice_client")
    deliveries = send(client, 10, {3, 7})
    assert client.flush(30)
    check(deliveries, {3, 7}, server)
    error = rejection(deliveries[7])
    assert (error.status, error.code, error.index, error.field) == (202, "invalid_event", 7, "payload")
    assert "contains NUL" in error.detail
    assert error.request_id
    assert "events[7].payload" in str(error)
    assert len(proxy.requests) == 1
    assert (client.stats().delivered, client.stats().rejected) == (8, 2)
    assert "refused 2 of 10 events" in caplog.text


def test_a_key_that_json_would_have_twice_is_rejected(client: Client, server: Server) -> None:
    delivery = client.send({"payload": {1: "a", "1": "b"}})
    client.send({"event_id": "good", "payload": 1})
    assert client.flush(30)
    assert rejection(delivery).field == "payload"
    assert server.ids() == ["good"]


def test_a_payload_that_is_too_deep_or_too_large_is_rejected_alone(client: Client, server: Server) -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    deliveries = [client.send({"payload": payload}) for payload in (deep, "x" * 300_000)]
    client.send({"event_id": "good", "payload": 1})
    assert client.flush(30)
    assert [rejection(delivery).code for delivery in deliveries] == ["payload_too_deep", "payload_too_large"]
    assert server.ids() == ["good"]


def test_a_batch_without_a_good_event_is_rejected_with_the_error_of_each(client: Client, server: Server) -> None:
    deliveries = send(client, 250, set(range(250)))
    assert client.flush(30)
    check(deliveries, set(range(250)), server)
    assert all("contains NUL" in rejection(delivery).detail for delivery in deliveries)
    assert client.stats().last_error is not None


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(set(range(100)), id="as many as are listed"),
        pytest.param(set(range(101)), id="one more than is listed"),
        pytest.param(set(range(200, 1000, 3)), id="many between good ones"),
        pytest.param(set(range(1, 1000)), id="all but the first"),
        pytest.param(set(range(999)), id="all but the last"),
    ],
)
def test_more_errors_than_an_answer_lists_are_all_reported(
    client: Client, server: Server, proxy: Proxy, bad: set[int]
) -> None:
    deliveries = send(client, 1000, bad)
    assert client.flush(60)
    check(deliveries, bad, server)
    assert all("contains NUL" in rejection(deliveries[n]).detail for n in bad)
    assert len({request.key for request in proxy.requests}) == len(proxy.requests) == -(-len(bad) // 100)


def test_more_errors_than_are_listed_are_all_reported_although_answers_are_lost(
    client: Client, server: Server, proxy: Proxy
) -> None:
    proxy.faults = [Fault(), Fault(503), Fault(), Fault(503), Fault()]
    bad = set(range(0, 1000, 4))
    deliveries = send(client, 1000, bad)
    assert client.flush(60)
    check(deliveries, bad, server)


def test_events_that_cannot_be_asked_for_are_not_said_to_be_delivered(client: Client, proxy: Proxy) -> None:
    deliveries = send(client, 300, set(range(150)))
    # The second request, which asks for the further errors, is refused for another reason.
    proxy.faults = [None, Fault(403, body=b'{"code":"missing_scope","detail":"no"}')]
    assert client.flush(30)
    for delivery in deliveries[:100]:
        assert rejection(delivery).code == "invalid_event"
    for delivery in deliveries[100:]:
        assert rejection(delivery).code == "missing_scope"
        assert "rejected 50 of 200 events" in rejection(delivery).detail


def test_an_answer_that_says_no_for_good_ends_the_batch(client: Client, proxy: Proxy) -> None:
    proxy.faults = [Fault(403, body=b'{"code":"cross_site_request","detail":"of another site"}')]
    deliveries = send(client, 3, set())
    assert client.flush(30)
    for delivery in deliveries:
        error = rejection(delivery)
        assert (error.status, error.code, error.detail) == (403, "cross_site_request", "of another site")
        assert error.index is None
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("status", [301, 307, 400, 404, 409])
def test_an_answer_that_is_not_of_sluice_ends_the_batch_with_its_text(
    client: Client, proxy: Proxy, status: int
) -> None:
    proxy.faults = [Fault(status, {"Location": "/elsewhere"} if status < 400 else {}, b"what is this?")]
    [delivery] = send(client, 1, set())
    assert client.flush(30)
    error = rejection(delivery)
    assert (error.status, error.code) == (status, None)
    assert "/elsewhere" in error.detail if status < 400 else error.detail == "what is this?"


@pytest.mark.parametrize("errors", ['["no route"]', '{"index": 0}', '[{"index": 7}]', '[{"index": "0"}]', "null"])
def test_errors_of_another_kind_are_not_taken_for_those_of_events(client: Client, proxy: Proxy, errors: str) -> None:
    proxy.faults = [Fault(404, body=b'{"errors": %s, "detail": "no route"}' % errors.encode())]
    deliveries = send(client, 3, set())
    assert client.flush(30)
    assert [rejection(delivery).detail for delivery in deliveries] == ["no route"] * 3


@pytest.fixture
def strict(tmp_path: Path) -> Iterator[Server]:
    """A server with smaller limits than those of the client."""
    server = Server(tmp_path / "strict", "--max-events", "50", "--max-body-bytes", "20KiB", "--max-age", "1h")
    server.start()
    yield server
    server.kill()


def test_a_batch_with_more_events_than_the_server_takes_is_divided(strict: Server) -> None:
    with client_of(strict.url, linger=3600) as client:
        bad = {10, 170}
        deliveries = send(client, 180, bad)
        assert client.flush(30)
        check(deliveries, bad, strict)


def test_a_batch_with_more_bytes_than_the_server_takes_is_divided(strict: Server) -> None:
    with client_of(strict.url, linger=3600) as client:
        deliveries = [client.send({"event_id": f"{n:05}", "payload": "x" * 2_000}) for n in range(40)]
        too_large = client.send({"payload": "x" * 30_000})
        assert client.flush(30)
        check(deliveries, set(), strict)
        assert rejection(too_large).code == "body_too_large"


def test_a_time_that_the_server_refuses_is_rejected_alone(strict: Server) -> None:
    # With a key, the server refuses the whole request for it.
    with client_of(strict.url, linger=3600) as client:
        old = datetime(2020, 1, 1, tzinfo=timezone.utc)
        late = client.send({"payload": 1, "timestamp": old})
        malformed = client.send({"payload": 1, "timestamp": "yesterday"})
        deliveries = send(client, 5, set())
        assert client.flush(30)
        check(deliveries, set(), strict)
        assert rejection(late).field == rejection(malformed).field == "timestamp"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """A server that wants tokens: of `first` and `second` for the topics `a*`, and of `reader` for reading."""
    items = [
        ("shop", "first", "publish", '["a*"]'),
        ("shop", "second", "publish", '["a*"]'),
        ("r", "reader", "read", ""),
    ]
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(
        "".join(
            f"- name: {name}\n  sha256: '{hashlib.sha256(token.encode()).hexdigest()}'\n  scopes: [{scope}]\n"
            + (f"  topics: {topics}\n" if topics else "")
            for name, token, scope, topics in items
        )
    )
    server = Server(tmp_path / "guarded", "--tokens", str(tokens))
    server.headers = {"Authorization": "Bearer reader"}
    server.start()
    yield server
    server.kill()


def test_events_of_topics_that_the_token_is_not_for_are_rejected_alone(guarded: Server) -> None:
    with client_of(guarded.url, token="first", linger=3600) as client:
        deliveries = [
            client.send({"topic": topic, "event_id": f"{n}{topic}", "payload": n})
            for n in range(5)
            for topic in ("a1", "b", "a2")
        ]
        assert client.flush(30)
        for delivery in deliveries:
            if delivery.topic == "b":
                assert rejection(delivery).code == "topic_not_allowed"
            else:
                assert delivery.result(timeout=0) is None
        assert client.stats().rejected == 5
    assert len(guarded.ids()) == 10


def test_a_wrong_token_ends_the_batch(guarded: Server) -> None:
    with client_of(guarded.url, token="wrong") as client:
        error = client.send({"topic": "a1", "payload": 1}).exception(timeout=30)
        assert isinstance(error, RejectedError)
        assert (error.status, error.code) == (401, "unauthorized")
        assert "wrong" not in str(error)


def test_a_token_of_a_file_is_read_anew_when_it_changes(guarded: Server, tmp_path: Path) -> None:
    proxy = Proxy(guarded.url)
    file = tmp_path / "token"
    file.write_text("first\n")
    try:
        with client_of(proxy.url, token_file=file) as client:
            client.send({"topic": "a1", "payload": 1}).result(timeout=30)
            (tmp_path / "new").write_text("second\n")
            (tmp_path / "new").replace(file)
            client.send({"topic": "a1", "payload": 1}).result(timeout=30)
            file.unlink()
            client.send({"topic": "a1", "payload": 1}).result(timeout=30)
    finally:
        proxy.close()
    assert [request.token for request in proxy.requests] == ["Bearer first", "Bearer second", "Bearer second"]


def test_a_token_of_a_file_that_is_refused_is_waited_for(guarded: Server, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("expired")
    with client_of(guarded.url, token_file=file) as client:
        delivery = client.send({"topic": "a1", "event_id": "evt-1", "payload": 1})
        while client.stats().repeated < 3:
            assert not delivery.done()
        file.write_text("first")
        assert delivery.result(timeout=30) is None
    assert guarded.ids() == ["evt-1"]
