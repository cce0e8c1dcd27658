"""The options of a client, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

WhenFull = Literal["block", "drop"]


@dataclass(frozen=True)
class Options:
    """The options of a client; its README has a table of them."""

    url: str
    token: str | None
    token_file: Path | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    batch_events: int
    batch_bytes: int
    linger: float
    max_in_flight: int
    buffer_bytes: int
    when_full: WhenFull
    block_timeout: float | None
    spool_directory: Path | None
    spool_bytes: int
    request_timeout: float
    backoff_min: float
    backoff_max: float
    close_timeout: float

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: An option has no such value, or does not go with another one; the text names it.
        """
        _check_url(self.url)
        for name in ("batch_events", "batch_bytes", "max_in_flight", "buffer_bytes", "spool_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: must be an integer above 0, not {value!r}")
        for name in ("request_timeout", "backoff_min", "backoff_max"):
            _check_seconds(name, getattr(self, name), may_be_0=False)
        for name in ("linger", "close_timeout"):
            _check_seconds(name, getattr(self, name))
        if self.block_timeout is not None:
            _check_seconds("block_timeout", self.block_timeout)
        if self.backoff_max < self.backoff_min:
            raise ValueError("backoff_max: must not be less than backoff_min")
        if self.when_full not in ("block", "drop"):
            raise ValueError(f"when_full: must be 'block' or 'drop', not {self.when_full!r}")
        if self.token is not None and self.token_file is not None:
            raise ValueError("token: use either token or token_file")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file: cert_file and key_file belong together")
        if not self.url.startswith("https://"):
            for name in ("ca_file", "cert_file"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: url must begin with https://")


def _check_url(text: str) -> None:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError) as error:
        raise ValueError(f"url: {text!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"url: {text!r} must be http://HOST:PORT or https://HOST:PORT")
    if url.query or url.fragment:
        raise ValueError(f"url: {text!r} must have no query and no fragment")
    if url.userinfo:
        # The URL is in log lines and messages. A password must not be.
        raise ValueError("url: must have no user and no password; use token")


def _check_seconds(name: str, value: float, *, may_be_0: bool = True) -> None:
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0 or (value == 0 and not may_be_0):
        raise ValueError(f"{name}: must be a number of seconds{'' if may_be_0 else ' above 0'}, not {value!r}")
