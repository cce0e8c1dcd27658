"""What is refused before it is sent, by the name of the option or of the field."""

from __future__ import annotations

import pickle
import subprocess
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Client, Event, EventError, NotDeliveredError, RejectedError

from support import Server, client_of, unused_url, wait_for

URL = "http://localhost:1"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("url", "localhost:8080"),
        ("url", "ftp://localhost"),
        ("url", "http://"),
        ("url", "http://localhost/?partial=false"),
        ("url", "http://user:secret@localhost"),
        ("url", None),
        ("token", ""),
        ("token", "two words"),
        ("token", "line\n"),
        ("token_file", "/no/such/file"),
        ("batch_events", 0),
        ("batch_bytes", 0),
        ("batch_bytes", 1.5),
        ("linger", -1),
        ("linger", float("nan")),
        ("max_in_flight", 0),
        ("buffer_bytes", 0),
        ("when_full", "wait"),
        ("block_timeout", -1),
        ("spool_bytes", 0),
        ("request_timeout", 0),
        ("backoff_min", 0),
        ("backoff_max", 0.01),
        ("close_timeout", -1),
        ("ca_file", "/no/such/file"),
        ("cert_file", "/no/such/file"),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: ") as raised:
        Client(**({"url": URL} | {option: value}))
    assert "secret" not in str(raised.value)


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    with pytest.raises(ValueError, match="use either token or token_file"):
        Client(URL, token="t", token_file=tmp_path / "token")
    with pytest.raises(ValueError, match="cert_file: cert_file and key_file belong together"):
        Client("https://localhost", cert_file=tmp_path / "token")
    with pytest.raises(ValueError, match="ca_file: url must begin with https://"):
        Client(URL, ca_file=tmp_path / "token")
    with pytest.raises(ValueError, match=r"ca_file: .* cannot be used"):
        Client("https://localhost", ca_file=tmp_path / "token")


@pytest.mark.parametrize(
    ("field", "event"),
    [
        ("payload", {"topic": "orders"}),
        ("payload", Event(payload=float("nan"))),
        ("payload", Event(payload={"at": date(2026, 1, 31)})),
        ("payload", Event(payload="\ud800")),
        ("event_idd", {"event_idd": "evt-1", "payload": 1}),
        ("event", "evt-1"),
        ("topic", Event(payload=1, topic=" ")),
        ("topic", Event(payload=1, topic="x" * 257)),
        ("topic", {"topic": None, "payload": 1}),
        ("event_id", Event(payload=1, event_id="")),
        ("event_id", Event(payload=1, event_id="ä" * 257)),
        ("event_id", {"event_id": 7, "payload": 1}),
        ("source", Event(payload=1, source="x" * 513)),
        ("timestamp", Event(payload=1, timestamp=datetime(2026, 1, 31, 12, 0))),
        ("timestamp", {"timestamp": 1_700_000_000, "payload": 1}),
    ],
)
def test_an_event_that_cannot_be_sent_is_refused_by_the_name_of_its_field(field: str, event: Any) -> None:
    with client_of(unused_url()) as client:
        with pytest.raises(EventError, match=rf"^{field}: ") as raised:
            client.send(event)
        assert raised.value.field == field
        assert client.stats().sent == 0


def test_errors_can_be_pickled() -> None:
    for error in (
        EventError("topic", "must not be blank"),
        RejectedError(202, "invalid_event", "is wrong", index=7, field="payload", request_id="r"),
        NotDeliveredError("closed", spooled=True),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_payload_that_is_nested_without_end_is_refused() -> None:
    payload: list[Any] = []
    payload.append(payload)
    with client_of(unused_url()) as client, pytest.raises(EventError, match=r"^payload: "):
        client.send({"payload": payload})


def test_what_is_the_longest_for_the_client_is_accepted_by_the_server(server: Server) -> None:
    event = Event(payload=None, topic="t" * 256, event_id="i" * 512, source="s" * 512, timestamp="2026-01-31T12:00:00Z")
    with Client(server.url) as client:
        client.send(event).result(timeout=30)
        client.send(Event(payload=1, event_id="2", source="")).result(timeout=30)
    assert server.ids() == ["2", "i" * 512]


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def test_a_server_with_tls_is_trusted_by_the_file_of_its_ca_and_by_no_other(tmp_path: Path) -> None:
    new = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    openssl(tmp_path, "req", "-x509", *new, *usage, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=a CA")
    # Python 3.13 accepts only certificates that name the key of their CA.
    (tmp_path / "extensions").write_text("subjectAltName=DNS:localhost\nauthorityKeyIdentifier=keyid\n")
    for name in ("server", "client"):
        openssl(tmp_path, "req", *new[:3], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            tmp_path, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem",
        )  # fmt: skip
    ca, certificate, key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"
    server = Server(
        tmp_path / "server",
        *("--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")),
        *("--tls-client-ca", str(ca)),
    )
    server.trust(ca, certificate, key)
    server.start()
    try:
        with client_of(server.url, ca_file=ca, cert_file=certificate, key_file=key) as client:
            client.send({"event_id": "evt-1", "payload": 1}).result(timeout=30)
        with client_of(server.url, cert_file=certificate, key_file=key) as client:
            client.send({"event_id": "evt-2", "payload": 1})
            wait_for(lambda: "certificate verify failed" in str(client.stats().last_error), "the server is not trusted")
        with client_of(server.url, ca_file=ca) as client:
            client.send({"event_id": "evt-3", "payload": 1})
            wait_for(lambda: client.stats().repeated, "the server wants a certificate of the client")
        assert server.ids() == ["evt-1"]
    finally:
        server.kill()
