"""A process that publishes until it is killed. Arguments: the URL, the folder of the spool, and the first number.

It prints each event when it sends it (`sent ID`) and when it is confirmed (`confirmed ID`), without a buffer, so that
what was printed is what a user could have relied on.
"""

from __future__ import annotations

import os
import sys
from collections import deque

from sluice_client import Client, Delivery


def say(word: str, event_id: str) -> None:
    os.write(1, f"{word} {event_id}\n".encode())


def main() -> None:
    url, spool, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
    client = Client(url, spool_directory=spool, batch_events=20, linger=0.005, backoff_min=0.01, backoff_max=0.2)
    say("recovered", str(client.stats().recovered))
    waiting: deque[Delivery] = deque()
    number = first
    while True:
        event_id = f"{number:08}"
        say("sent", event_id)
        waiting.append(client.send({"topic": "crash", "event_id": event_id, "payload": {"n": number}}))
        number += 1
        while waiting and (len(waiting) > 50 or waiting[0].spooled.done()):
            delivery = waiting.popleft()
            delivery.spooled.result()
            say("confirmed", delivery.event_id)


if __name__ == "__main__":
    main()
