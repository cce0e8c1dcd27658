"""One request, repeated under its key until it is answered."""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from ._errors import RejectedError
from ._options import Options
from ._token import Token
from ._version import __version__

# A longer `Retry-After` is taken for a mistake of a proxy.
_MAX_RETRY_AFTER = 3600.0


class AbortedError(Exception):
    """The deadline of `close` has passed."""


@dataclass(frozen=True)
class Answer:
    """An answer that ends a request. `body` is empty if it is no JSON object."""

    status: int
    body: dict[str, Any]
    text: str
    request_id: str | None

    def number(self, name: str) -> int:
        """Returns a number of the body; 0 if it is not there."""
        value = self.body.get(name)
        return value if isinstance(value, int) else 0

    def error(self, place: dict[str, Any] | None = None) -> RejectedError:
        """Returns the error of the answer, or of one item of its `errors`."""
        place = self.body if place is None else place
        code, detail, index, field = (place.get(name) for name in ("code", "detail", "index", "field"))
        return RejectedError(
            self.status,
            code if isinstance(code, str) else None,
            detail if isinstance(detail, str) else self.text,
            index=index if isinstance(index, int) else None,
            field=field if isinstance(field, str) else None,
            request_id=self.request_id,
        )


class Exchange:
    """Sends requests to one server. Several threads may do so at a time."""

    def __init__(self, options: Options, aborted: threading.Event, repeated: Callable[[str], None]) -> None:
        self._options = options
        self._aborted = aborted
        self._repeated = repeated
        self._token = Token(options.token, options.token_file)
        # A 401 says nothing about the events. With another token, perhaps of the next process, they are accepted.
        self._repeats_401 = self._token.changes or options.spool_directory is not None
        self._url = options.url.rstrip("/") + "/publish"
        self._http = httpx.Client(
            verify=_tls(options),
            timeout=options.request_timeout,
            limits=httpx.Limits(max_connections=options.max_in_flight, max_keepalive_connections=options.max_in_flight),
            headers={"User-Agent": f"sluice-client-python/{__version__}"},
        )
        # Until then no request is sent, because the server has asked for a pause.
        self._pause_until = 0.0

    def close(self) -> None:
        """Closes the connections. No request may be in flight."""
        self._http.close()

    def send(self, key: str, body: bytes, *, events: int, partial: bool) -> Answer:
        """Sends a request until it is answered.

        Raises:
            AbortedError: The client gave up before.
        """
        attempt = 0
        while True:
            self._wait(self._pause_until - time.monotonic())
            token = self._token.current()
            try:
                response = self._http.post(
                    self._url,
                    params={"partial": "true"} if partial else None,
                    content=body,
                    headers=_headers(key, token),
                )
            except (httpx.HTTPError, OSError) as error:
                reason, retry_after = f"{type(error).__name__}: {error}", None
            else:
                answer = _answer(response)
                if self._is_final(answer, events):
                    return answer
                if response.status_code == 401 and self._token.current() != token:
                    # The file has another token by now, with which no pause is needed.
                    self._repeated(str(answer.error()))
                    continue
                reason, retry_after = str(answer.error()), _retry_after(response)
            # Full jitter: clients that lost the server at the same time do not come back at the same time.
            pause = random.uniform(0, min(self._options.backoff_max, self._options.backoff_min * 2 ** min(attempt, 60)))
            if retry_after is not None:
                self._pause_until = max(self._pause_until, time.monotonic() + retry_after)
                pause += retry_after
            attempt += 1
            self._repeated(reason)
            self._wait(pause)

    def _is_final(self, answer: Answer, events: int) -> bool:
        """Returns whether an answer ends its request. Only one of Sluice itself can say that events are stored."""
        status, body = answer.status, answer.body
        if status == 202:
            return body.get("status") == "accepted" and answer.number("count") + answer.number("rejected") == events
        if status == 401:
            return not self._repeats_401
        return 300 <= status < 500 and status not in (408, 429)

    def _wait(self, seconds: float) -> None:
        if self._aborted.wait(max(0.0, seconds)):
            raise AbortedError


def _headers(key: str, token: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _answer(response: httpx.Response) -> Answer:
    try:
        body = json.loads(response.content)
    except ValueError:
        body = None
    text = response.text[:300] or response.reason_phrase
    if response.is_redirect:
        text = f"the server answers with a redirect to {response.headers.get('Location')}; set url to the place itself"
    return Answer(
        response.status_code, body if isinstance(body, dict) else {}, text, response.headers.get("X-Request-Id")
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Returns for how many seconds the server asks to wait: a number, or a date."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    try:
        seconds = float(value) if value.isdigit() else (_date(value) - datetime.now(timezone.utc)).total_seconds()
    except ValueError:
        return None
    return min(max(0.0, seconds), _MAX_RETRY_AFTER)


def _date(value: str) -> datetime:
    date = parsedate_to_datetime(value)
    return date if date.tzinfo else date.replace(tzinfo=timezone.utc)


def _tls(options: Options) -> ssl.SSLContext | bool:
    if not options.url.startswith("https://"):
        return False
    try:
        # Without a file, the CAs of the system are trusted, or those that SSL_CERT_FILE names.
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca_file: {options.ca_file} cannot be used: {error}") from error
    if options.cert_file is not None and options.key_file is not None:
        try:
            context.load_cert_chain(options.cert_file, options.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"cert_file: {options.cert_file} or key_file cannot be used: {error}") from error
    return context
