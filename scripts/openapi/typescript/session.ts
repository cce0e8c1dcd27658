// The session of README.md with the generated types: publish, read, statistics, and a refusal.

import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const DEADLINE_MILLIS = 60_000;
const baseUrl = process.env.SLUICE_URL;
assert(baseUrl);
const client = createClient<paths>({ baseUrl });

type PublishedEvent = components["schemas"]["PublishedEvent"];

async function statistics(): Promise<components["schemas"]["Stats"]> {
  const { data, error } = await client.GET("/stats");
  assert(data, JSON.stringify(error));
  return data;
}

async function publish(body: PublishedEvent | PublishedEvent[], key?: string) {
  const header = key === undefined ? {} : { "Idempotency-Key": key };
  return client.POST("/publish", { body, params: { header } });
}

async function list(cursor?: string) {
  const query = cursor === undefined ? { topic, limit: 1 } : { topic, limit: 1, cursor };
  const { data, error } = await client.GET("/events", { params: { query } });
  assert(data && "events" in data, JSON.stringify(error));
  return data;
}

const before = await statistics();
const topic = `orders-${process.hrtime.bigint()}`;
const first: PublishedEvent = { topic, event_id: "evt-1", source: "shop", payload: { value: 100 } };
const second: PublishedEvent = { topic, event_id: "evt-2", payload: { value: 250 } };

const one = await publish(first);
assert.deepEqual(one.data, { status: "accepted", count: 1 });
const two = await publish([first, second], topic);
assert.equal(two.data?.count, 2);

const deadline = Date.now() + DEADLINE_MILLIS;
let after = await statistics();
while (after.received < before.received + 3) {
  assert(Date.now() < deadline, JSON.stringify(after));
  await new Promise((resolve) => setTimeout(resolve, 50));
  after = await statistics();
}
assert.equal(after.unique_processed, before.unique_processed + 2);
assert.equal(after.duplicate_dropped, before.duplicate_dropped + 1);
assert.equal(after.topics[topic]?.received, 3);

const page = await list();
assert.deepEqual(page.events.map((event) => event.event_id), ["evt-2"]);
assert(page.next_cursor);
const last = await list(page.next_cursor);
assert.deepEqual(last.events[0]?.payload, { value: 100 });
const event = await client.GET("/events/{topic}/{event_id}", { params: { path: { topic, event_id: "evt-1" } } });
assert(event.data && "source" in event.data);
assert.equal(event.data.source, "shop");

const refused = await publish([{ event_id: "evt-3", payload: 1 }, { event_id: "", payload: 2 }]);
assert.equal(refused.response.status, 422);
assert.equal(refused.error?.code, "invalid_event");
assert.deepEqual([refused.error.index, refused.error.field], [1, "event_id"]);
console.log("the generated client for TypeScript: published, read, counted and was refused as documented");
