"""The end of the interpreter, and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sluice_client import Client, ForkedError

from support import Server, client_of, unused_url


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_end_of_the_interpreter_delivers_what_waits(server: Server) -> None:
    program = """
import sys
from sluice_client import Client
client = Client(sys.argv[1], linger=3600)
for n in range(100):
    client.send({"payload": n})
"""
    ended = run(program, server.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(server.ids()) == 100


def test_the_end_of_the_interpreter_is_not_held_up_for_longer_than_close_timeout() -> None:
    program = """
import sys
from sluice_client import Client
client = Client(sys.argv[1], close_timeout=0.5)
client.send({"payload": 1})
"""
    began = time.monotonic()
    ended = run(program, unused_url())
    assert (ended.returncode, ended.stderr) == (0, "")
    assert 0.5 <= time.monotonic() - began < 30


def test_the_end_of_the_interpreter_leaves_events_in_the_spool(server: Server, tmp_path: Path) -> None:
    program = """
import sys
from sluice_client import Client
client = Client(sys.argv[1], spool_directory=sys.argv[2], linger=3600, close_timeout=0.1)
client.send({"event_id": "evt-1", "payload": 1})
"""
    ended = run(program, unused_url(), str(tmp_path / "spool"))
    assert (ended.returncode, ended.stderr) == (0, "")
    with client_of(server.url, spool_directory=tmp_path / "spool") as client:
        assert client.flush(60)
    assert server.ids() == ["evt-1"]


def test_a_client_cannot_be_used_after_a_fork_and_the_parent_is_not_disturbed(server: Server, tmp_path: Path) -> None:
    with Client(server.url, spool_directory=tmp_path / "spool", linger=0.5) as client:
        client.send({"event_id": "of the parent", "payload": 1})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(ForkedError, match="after the fork"):
                    client.send({"payload": 1})
                for method in (client.flush, client.close, client.stats):
                    with pytest.raises(ForkedError):
                        method()
                with Client(server.url) as own:
                    own.send({"event_id": "of the child", "payload": 1}).result(timeout=30)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
    assert server.ids() == ["of the child", "of the parent"]


def test_a_child_that_leaves_the_block_of_the_client_does_not_close_it(server: Server) -> None:
    program = """
import os, sys
from sluice_client import Client
with Client(sys.argv[1], linger=1) as client:
    client.send({"event_id": "evt-1", "payload": 1})
    child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    ended = run(program, server.url)
    # Newer versions of Python warn of a fork of a process with threads.
    assert ended.returncode == 0 or "fork()" in ended.stderr, ended.stderr
    assert server.stats()["received"] == 1
