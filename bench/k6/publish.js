// Publishes events at a constant rate of requests: each is sent when it is due, however long the others take (an open
// model). Fails if a request fails or is not sent, if the 95th or 99th percentile of the latency is above its limit, or if
// the statistics of the server are not exactly what was sent.
//
//   k6 run -e SLUICE_URL=http://127.0.0.1:8080 -e RATE=100 -e BATCH=100 bench/k6/publish.js
//
// As in `sluice-publisher simulate`, the number of duplicates is exact, half of them are among the last 100 events and half
// at any distance, and events are distributed over five topics. The requests are made before the first is sent.

import { check, sleep } from 'k6';
import { SharedArray } from 'k6/data';
import exec from 'k6/execution';
import http from 'k6/http';
import { Gauge } from 'k6/metrics';

const url = __ENV.SLUICE_URL || 'http://127.0.0.1:8080';
const token = __ENV.SLUICE_TOKEN;
const rate = whole('RATE', 100);
const batch = whole('BATCH', 100);
const seconds = whole('SECONDS_', 20);
const duplicate = Number(__ENV.DUPLICATE || 0.3);
const NEAR = 100;
const TOPICS = 5;

export const options = {
  scenarios: {
    publish: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: `${seconds}s`,
      preAllocatedVUs: 64,
      maxVUs: 1024,
    },
  },
  thresholds: {
    checks: ['rate==1'],
    dropped_iterations: ['count==0'],
    'http_req_duration{name:publish}': [
      `p(95)<=${whole('P95_MS', 250)}`,
      `p(99)<=${whole('P99_MS', 1000)}`,
    ],
  },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
  teardownTimeout: '90s',
};

const received = new Gauge('events_received');
const unique = new Gauge('events_unique');
const dropped = new Gauge('events_duplicate');

// What all virtual users share is made once.
const run = new SharedArray('run', () => [__ENV.RUN || `k6-${Date.now()}`])[0];
const order = new SharedArray('order', () => chunks(numbers(rate * seconds * batch), batch));
const bodies = new SharedArray('bodies', () => order.map((of) => `[${of.map(event).join(',')}]`));

const headers = { 'Content-Type': 'application/json' };
if (token) headers.Authorization = `Bearer ${token}`;

export default function publish() {
  const request = exec.scenario.iterationInTest;
  // At the very end of the time the executor begins one more.
  if (request >= bodies.length) return;
  const answer = http.post(`${url}/publish`, bodies[request], {
    headers,
    timeout: '20s',
    tags: { name: 'publish' },
  });
  check(answer, { 'the request is accepted': ({ status }) => status === 202 });
}

export function teardown() {
  const sent = rate * seconds * batch;
  const different = new Set(order.flat()).size;
  const expected = [sent, different, sent - different];
  let counted;
  for (let left = 300; left > 0; left -= 1) {
    counted = statistics();
    if (String(counted) === String(expected)) break;
    sleep(0.2);
  }
  received.add(counted[0]);
  unique.add(counted[1]);
  dropped.add(counted[2]);
  check(counted, { 'the statistics are what was sent': () => String(counted) === String(expected) });
  if (String(counted) !== String(expected)) {
    console.error(`received, unique and duplicate events are ${expected}, and the server counts ${counted}`);
  }
}

export function handleSummary({ metrics }) {
  const { med, 'p(95)': p95, 'p(99)': p99, max } = metrics['http_req_duration{name:publish}'].values;
  const broken = Object.entries(metrics).flatMap(([name, { thresholds }]) =>
    Object.entries(thresholds || {})
      .filter(([, { ok }]) => !ok)
      .map(([condition]) => `${name}: ${condition}`),
  );
  const summary = {
    received: metrics.events_received?.values.value,
    unique: metrics.events_unique?.values.value,
    duplicates: metrics.events_duplicate?.values.value,
    latency_ms: { p50: med, p95, p99, max },
    broken,
  };
  return { [__ENV.SUMMARY || 'stdout']: `${JSON.stringify(summary)}\n` };
}

// Received, unique and duplicate events of the topics of this run, as the server counts them.
function statistics() {
  const sums = [0, 0, 0];
  const answer = http.get(`${url}/stats?topics=10000`, { headers, timeout: '10s', tags: { name: 'stats' } });
  if (answer.status !== 200) return sums;
  for (const [topic, counts] of Object.entries(answer.json('topics'))) {
    if (!topic.startsWith(`${run}-`)) continue;
    sums[0] += counts.received;
    sums[1] += counts.unique_processed;
    sums[2] += counts.duplicate_dropped;
  }
  return sums;
}

// The number of the event that is sent at each position.
function numbers(count) {
  const random = randomness(1);
  const below = (limit) => Math.floor(random() * limit);
  const sent = [];
  let left = Math.min(Math.round(count * duplicate), count - 1);
  let next = 0;
  for (let position = 0; position < count; position += 1) {
    if (position > 0 && below(count - position) < left) {
      const start = below(2) === 0 ? Math.max(0, position - NEAR) : 0;
      sent.push(sent[start + below(position - start)]);
      left -= 1;
    } else {
      sent.push(next);
      next += 1;
    }
  }
  return sent;
}

// The JSON text of an event, which its number alone decides: a duplicate has the same payload.
function event(number) {
  const random = randomness(number + 1);
  const below = (limit) => Math.floor(random() * limit);
  const user = below(100000);
  return JSON.stringify({
    topic: `${run}-${number % TOPICS}`,
    event_id: `${run}-${number}`,
    timestamp: new Date(Date.UTC(2026, 0, 1) + (number % 86400000)).toISOString(),
    source: 'k6',
    payload: {
      user: { id: user, name: `Zoë ${user}` },
      amount: below(100000) / 100,
      currency: 'EUR',
      items: [
        { sku: `sku-${below(1000)}`, quantity: 2 },
        { sku: 'gift', quantity: 1 },
      ],
      trace: [0, 0, 0, 0].map(() => below(2 ** 32).toString(16).padStart(8, '0')).join(''),
      note: 'made by a load test',
    },
  });
}

// Numbers from 0 to 1 that the seed decides: mulberry32 (Tommy Ettinger, public domain).
function randomness(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function chunks(list, size) {
  return Array.from({ length: list.length / size }, (_, index) => list.slice(index * size, (index + 1) * size));
}

function whole(name, otherwise) {
  const value = Number(__ENV[name] || otherwise);
  if (!Number.isInteger(value) || value < 1) throw new Error(`${name} must be a whole number from 1`);
  return value;
}
