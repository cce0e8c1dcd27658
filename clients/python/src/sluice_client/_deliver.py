"""Delivers a batch: from the answers of the server follows what has become of each event.

One request is enough nearly always. More are needed if

- the whole request was refused because of some events: the others are sent without them, in a request of their own;
- more events were rejected than an answer lists: the others of them are asked for, see `_ask`;
- the batch is too large for the server, or has events for which the token is not: it is divided.

The key of each further request follows from its body and from the key of the batch. So if this process is killed, and
the batch is sent again from the spool, the same requests have the same keys.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from json import loads

from ._errors import RejectedError, SluiceError
from ._exchange import Answer, Exchange
from ._queue import Batch


@dataclass(frozen=True)
class _Request:
    """A request with some events of the batch.

    Attributes:
        key: The `Idempotency-Key`.
        places: The places of the events in the batch.
        rejected: How many of the events the server has rejected without saying which. It has accepted the others. 0 for
            a request whose events it has not accepted.
    """

    key: str
    places: Sequence[int]
    rejected: int = 0


def deliver(exchange: Exchange, batch: Batch) -> list[SluiceError | None]:
    """Sends a batch, and returns the error of each event, or `None` if the server has it.

    Raises:
        AbortedError: The client gave up before.
    """
    outcomes: list[SluiceError | None] = [None] * len(batch.lines)
    requests = deque([_Request(batch.key, range(len(batch.lines)))])
    while requests:
        request = requests.popleft()
        answer = exchange.send(
            request.key, _body(batch, request), events=len(request.places), partial=request.rejected == 0
        )
        places = _named(answer, request, outcomes)
        if answer.status == 202:
            missing = answer.number("rejected") - len(places)
            if missing > 0:
                requests.append(_ask(batch, request, places, missing))
        elif request.rejected:
            _asked(batch, request, answer, places, requests, outcomes)
        else:
            requests.extend(_refused(batch, request, answer, places, outcomes))
    return outcomes


def _named(answer: Answer, request: _Request, outcomes: list[SluiceError | None]) -> list[int]:
    """Notes the errors that the answer lists for single events. Returns where these are in the request, in order."""
    places = []
    errors = answer.body.get("errors")
    for error in errors if isinstance(errors, list) else []:
        # Other programs in front of the server have lists of another kind.
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < len(request.places):
            outcomes[request.places[index]] = answer.error(error)
            places.append(index)
    return sorted(places)


def _ask(batch: Batch, request: _Request, named: Sequence[int], missing: int) -> _Request:
    """Returns the request that asks for further errors: the server lists the first ones, so they are behind these.

    Its events are sent without `partial`. As some of them have an error, the whole request is refused with a list of
    the errors, and nothing is stored, or counted as a duplicate. If the server accepts all by now, all are stored.
    """
    tail = request.places[named[-1] + 1 if named else 0 :]
    return _further(batch, request, tail, rejected=missing)


def _asked(
    batch: Batch,
    request: _Request,
    answer: Answer,
    named: Sequence[int],
    requests: deque[_Request],
    outcomes: list[SluiceError | None],
) -> None:
    if not named:
        # Something else is wrong by now, for example with the token. No event is said to be delivered that is not.
        for place in request.places:
            error = answer.error()
            detail = f"the server has rejected {request.rejected} of {len(request.places)} events with this one among "
            detail += f"them, and cannot be asked which: {error}"
            outcomes[place] = RejectedError(error.status, error.code, detail, request_id=error.request_id)
        return
    missing = answer.number("error_count") - len(named)
    if missing > 0:
        requests.append(_ask(batch, request, named, missing))


def _refused(
    batch: Batch, request: _Request, answer: Answer, named: Sequence[int], outcomes: list[SluiceError | None]
) -> list[_Request]:
    """Returns the requests with the events of a request that was refused as a whole, of which nothing was stored."""
    if named:
        bad = set(named)
        good = [place for index, place in enumerate(request.places) if index not in bad]
        return [_further(batch, request, good)] if good else []
    if answer.status == 413 and len(request.places) > 1:
        middle = len(request.places) // 2
        return [_further(batch, request, request.places[:middle]), _further(batch, request, request.places[middle:])]
    if answer.body.get("code") == "topic_not_allowed":

        def topic(place: int) -> str:
            return str(loads(batch.lines[place])["topic"])

        groups = [list(places) for _, places in groupby(sorted(request.places, key=topic), key=topic)]
        if len(groups) > 1:
            return [_further(batch, request, places) for places in groups]
    for place in request.places:
        outcomes[place] = answer.error()
    return []


def _further(batch: Batch, request: _Request, places: Sequence[int], rejected: int = 0) -> _Request:
    further = _Request("", places, rejected)
    text = b"%s %d\n%s" % (request.key.encode(), rejected > 0, _body(batch, further))
    return _Request(hashlib.sha256(text).hexdigest()[:32], places, rejected)


def _body(batch: Batch, request: _Request) -> bytes:
    return b"\n".join([batch.lines[place] for place in request.places])
