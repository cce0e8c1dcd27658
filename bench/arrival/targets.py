"""Writes the requests of a load as targets of vegeta: one JSON object a line, with the body in base64.

usage: targets.py URL RUN REQUESTS BATCH DUPLICATE

Prints the number of different events among them to standard error. As in `sluice-publisher simulate`, the number of
duplicates is exact, half of them are among the last 100 events and half at any distance, the events are about as large,
and they are distributed over five topics.
"""

import base64
import json
import random
import sys

NEAR = 100
TOPICS = 5


def order(events, duplicate, randomness):
    """The number of the event that is sent at each position."""
    left = min(round(events * duplicate), events - 1)
    positions, unique = [], 0
    for position in range(events):
        if position > 0 and randomness.randrange(events - position) < left:
            start = max(0, position - NEAR) if randomness.random() < 0.5 else 0
            positions.append(positions[randomness.randrange(start, position)])
            left -= 1
        else:
            positions.append(unique)
            unique += 1
    return positions, unique


def event(run, number):
    """The JSON text of an event, which its number alone decides: a duplicate has the same payload."""
    value = random.Random(number)
    second = number // 1000 % 86400
    time = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.{number % 1000:03}"
    user, cents, item = value.randrange(100_000), value.randrange(100, 100_000), value.randrange(1_000)
    return (
        f'{{"topic":"{run}-{number % TOPICS}","event_id":"{run}-{number}","timestamp":"2026-01-01T{time}Z",'
        f'"source":"arrival","payload":{{"user":{{"id":{user},"name":"Zoë {user}"}},'
        f'"amount":{cents // 100}.{cents % 100:02},"currency":"EUR","items":[{{"sku":"sku-{item}","quantity":2}},'
        f'{{"sku":"gift","quantity":1}}],"trace":"{value.getrandbits(128):032x}","note":"made by a simulation"}}}}'
    )


def main():
    url, run, requests, batch, duplicate = sys.argv[1:]
    requests, batch = int(requests), int(batch)
    positions, unique = order(requests * batch, float(duplicate), random.Random(1))
    header = {"Content-Type": ["application/json"]}
    for request in range(requests):
        numbers = positions[request * batch : (request + 1) * batch]
        body = "[" + ",".join(event(run, number) for number in numbers) + "]"
        body = base64.b64encode(body.encode()).decode()
        print(json.dumps({"method": "POST", "url": f"{url}/publish", "header": header, "body": body}))
    print(unique, file=sys.stderr)


main()
