"""What the tests share: a server of their own, a proxy that makes faults, and waiting for conditions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import Proxy, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test alone, with its data in the folder of the test."""
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A proxy before that server."""
    proxy = Proxy(server.url)
    yield proxy
    proxy.close()
