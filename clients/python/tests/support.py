"""The server, a proxy that makes faults, and waiting for conditions."""

from __future__ import annotations

import http.client
import os
import random
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from sluice_client import Client

_PROGRAM = Path(__file__).parents[3] / "target" / "debug" / "sluice-aggregator"

# How long a condition may take: the machine may have other work.
PATIENCE = 60.0


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Waits until the condition is true, and returns its value."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: it did not become true within {patience} s"
        time.sleep(0.01)
    return value


_guards: list[socket.socket] = []


def reserve_port() -> int:
    """Returns a port that no other test uses, also while nobody listens there.

    It is below those that the system gives to connections. A UDP socket with the same number, which stays open, keeps
    other processes of the tests away.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            guard.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            guard.close()
            continue
        _guards.append(guard)
        return port


class Server:
    """`sluice-aggregator standalone` with its data in a folder."""

    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.options = options
        self.port = reserve_port()
        self.scheme = "https" if "--tls-cert" in options else "http"
        self.headers: dict[str, str] = {}
        self.verify: Any = True
        self._process: subprocess.Popen[bytes] | None = None
        self._log = data.with_suffix(".log")

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def trust(self, ca: Path, certificate: Path, key: Path) -> None:
        """Sets what the requests of these tests to a server with TLS need."""
        self.verify = ssl.create_default_context(cafile=ca)
        self.verify.load_cert_chain(certificate, key)

    def start(self) -> None:
        """Starts it, and waits until it is ready."""
        program = os.environ.get("SLUICE_AGGREGATOR", str(_PROGRAM))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "standalone", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data), *self.options],
                stdout=log,
                stderr=log,
            )

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            return self._status("/readyz") == 200

        try:
            wait_for(ready, "the server is ready")
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it as `kill -9` does. One that has ended already stays so."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Sends it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def get(self, path: str, **parameters: Any) -> Any:
        response = httpx.get(self.url + path, params=parameters, headers=self.headers, verify=self.verify, timeout=30)
        response.raise_for_status()
        return response.json()

    def stats(self) -> dict[str, Any]:
        """Returns the statistics once everything that was accepted is stored."""

        def stored() -> dict[str, Any] | None:
            stats: dict[str, Any] = self.get("/stats")
            return stats if stats["backlog"] == 0 else None

        stats: dict[str, Any] = wait_for(stored, "all accepted events are stored")
        return stats

    def events(self) -> list[dict[str, Any]]:
        """Returns all events once everything that was accepted is stored."""
        self.stats()
        events: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.get("/events", limit=1000, **cursor)
            events += page["events"]
            if page["next_cursor"] is None:
                return events
            cursor = {"cursor": page["next_cursor"]}

    def ids(self) -> list[str]:
        """Returns the ids of all events."""
        return sorted(event["event_id"] for event in self.events())

    def _status(self, path: str) -> int:
        try:
            return httpx.get(self.url + path, verify=self.verify, timeout=5).status_code
        except httpx.HTTPError:
            return 0


@dataclass(frozen=True)
class Request:
    """A request that the proxy has received."""

    at: float
    key: str
    body: bytes
    query: str
    token: str | None

    @property
    def events(self) -> int:
        return self.body.count(b"\n") + 1


@dataclass
class Fault:
    """An answer instead of that of the server. Without a status, the request is forwarded, and its answer is lost."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Proxy:
    """Forwards requests to a server, and remembers them. `faults` are used up, one for each request: `None` is none."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.requests: list[Request] = []
        self.faults: list[Fault | None] = []
        # While it is cleared, requests are held back before they are forwarded.
        self.open = threading.Event()
        self.open.set()
        self.held = 0
        self.most_held = 0
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                proxy._forward(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", reserve_port()), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.open.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _forward(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = Request(
            time.monotonic(),
            handler.headers["Idempotency-Key"],
            body,
            urlsplit(handler.path).query,
            handler.headers["Authorization"],
        )
        with self._lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else None
            self.held += 1
            self.most_held = max(self.most_held, self.held)
        self.open.wait()
        with self._lock:
            self.held -= 1
        if fault is None or fault.status is None:
            status, headers, answer = self._ask(handler, body)
            if fault is not None:
                handler.close_connection = True
                handler.connection.shutdown(socket.SHUT_RDWR)
                return
        else:
            status, headers, answer = fault.status, fault.headers, fault.body
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=30)
        try:
            names = ("Content-Type", "Idempotency-Key", "Authorization")
            headers = {name: value for name in names if (value := handler.headers[name])}
            connection.request("POST", handler.path, body, headers)
            response = connection.getresponse()
            kept = ("content-type", "retry-after", "x-request-id")
            return (
                response.status,
                {name: value for name, value in response.getheaders() if name.lower() in kept},
                response.read(),
            )
        except OSError:
            return 502, {}, b"the server is away"
        finally:
            connection.close()


@contextmanager
def client_of(url: str, **options: Any) -> Iterator[Client]:
    """A client that repeats soon. Whatever happens in the test, it does not wait for what cannot be delivered."""
    client = Client(url, **({"backoff_min": 0.01, "backoff_max": 0.1} | options))
    try:
        yield client
    finally:
        client.close(0)


def unused_url() -> str:
    """An address at which nobody listens."""
    return f"http://127.0.0.1:{reserve_port()}"
