"""The session of README.md with the generated client: publish, read, statistics, and a refusal."""

import os
import time

from sluice_generated import Client
from sluice_generated.api.events import get_event, list_events
from sluice_generated.api.publish import publish
from sluice_generated.api.statistics import get_stats
from sluice_generated.models import Accepted, Code, Event, EventPage, Problem, PublishedEvent, Stats

DEADLINE = 60


def statistics(client: Client) -> Stats:
    stats = get_stats.sync(client=client)
    assert isinstance(stats, Stats), stats
    return stats


def main() -> None:
    client = Client(base_url=os.environ["SLUICE_URL"], raise_on_unexpected_status=True)
    before = statistics(client)
    topic = f"orders-{time.time_ns()}"
    first = PublishedEvent(topic=topic, event_id="evt-1", source="shop", payload={"value": 100})
    second = PublishedEvent(topic=topic, event_id="evt-2", payload={"value": 250})

    one = publish.sync(client=client, body=first)
    assert isinstance(one, Accepted) and (one.status, one.count) == ("accepted", 1), one
    two = publish.sync(client=client, body=[first, second], idempotency_key=topic)
    assert isinstance(two, Accepted) and two.count == 2, two

    deadline = time.monotonic() + DEADLINE
    while (after := statistics(client)).received < before.received + 3:
        assert time.monotonic() < deadline, after
        time.sleep(0.05)
    assert after.unique_processed == before.unique_processed + 2, after
    assert after.duplicate_dropped == before.duplicate_dropped + 1, after
    assert after.topics[topic].received == 3, after.topics

    page = list_events.sync(client=client, topic=topic, limit=1)
    assert isinstance(page, EventPage), page
    assert [event.event_id for event in page.events] == ["evt-2"] and page.next_cursor is not None, page
    last = list_events.sync(client=client, topic=topic, limit=1, cursor=page.next_cursor)
    assert isinstance(last, EventPage) and last.events[0].payload == {"value": 100}, last
    event = get_event.sync(client=client, topic=topic, event_id="evt-1")
    assert isinstance(event, Event) and event.source == "shop", event

    bad = [PublishedEvent(event_id="evt-3", payload=1), PublishedEvent(event_id="", payload=2)]
    problem = publish.sync(client=client, body=bad)
    assert isinstance(problem, Problem) and problem.code == Code.INVALID_EVENT, problem
    assert (problem.index, problem.field) == (1, "event_id"), problem
    print("the generated client for Python: published, read, counted and was refused as documented")


main()
