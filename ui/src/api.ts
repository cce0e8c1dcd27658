// Requests to the server that the page came from, and its errors.
import { textsOfPayloads } from './json';

/** An error that the server answered, or that there was no answer. */
export class Problem extends Error {
  constructor(
    /** The status of the answer; 0 if there was none. */
    readonly status: number,
    /** The stable code of docs/errors.md. */
    readonly code: string,
    detail: string,
  ) {
    super(detail);
  }
}

const TOKEN = 'sluice.token';
/** The longest that an answer may take. */
const TIMEOUT = 15_000;

let token: string | null = sessionStorage.getItem(TOKEN);
let onUnauthorized: (hadToken: boolean) => void = () => {};

export const hasToken = (): boolean => token !== null;

export function setToken(value: string | null): void {
  token = value;
  if (value === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, value);
}

/** Sets what is called when a request was refused because of its token. */
export function whenUnauthorized(handler: (hadToken: boolean) => void): void {
  onUnauthorized = handler;
}

async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => '');
  try {
    const body = JSON.parse(text) as { code?: string; detail?: string; title?: string };
    return new Problem(response.status, body.code ?? 'unknown', body.detail ?? body.title ?? response.statusText);
  } catch {
    return new Problem(response.status, 'unknown', text.slice(0, 300) || `the server answered ${response.status}`);
  }
}

/** Sends a request, and returns the answer if it is a success. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const sent = token;
  if (sent !== null) headers.set('Authorization', `Bearer ${sent}`);
  let response: Response;
  try {
    // Relative, so that the page works below a prefix of a proxy too.
    response = await fetch(path.replace(/^\//, ''), { ...init, headers, cache: 'no-store', redirect: 'error' });
  } catch (error) {
    if ((error as Error).name === 'AbortError') throw error;
    const late = (error as Error).name === 'TimeoutError';
    throw new Problem(0, late ? 'no_answer' : 'unreachable', late ? 'there was no answer in time' : 'the server cannot be reached');
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (problem.status === 401 && sent === token) onUnauthorized(sent !== null);
  throw problem;
}

/** Returns the answer to a request. Payloads in it are texts with their JSON, exactly as it was sent. */
export async function ask<T>(path: string, init: RequestInit = {}): Promise<T> {
  const signals = [AbortSignal.timeout(TIMEOUT), ...(init.signal ? [init.signal] : [])];
  const response = await send(path, { ...init, signal: AbortSignal.any(signals) });
  let text: string;
  try {
    text = await response.text();
  } catch (error) {
    if ((error as Error).name === 'AbortError') throw error;
    throw new Problem(0, 'unreachable', 'the answer ended early');
  }
  return JSON.parse(textsOfPayloads(text)) as T;
}

/** Returns a path with the parameters that have a value. */
export function withQuery(path: string, parameters: Record<string, string | number | null | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== '') query.set(name, String(value));
  }
  const text = query.toString();
  return text === '' ? path : `${path}?${text}`;
}

/** Returns the path of an event. */
export const eventPath = (topic: string, id: string): string => `/events/${encodeURIComponent(topic)}/${encodeURIComponent(id)}`;

export interface Counts {
  received: number;
  unique_processed: number;
  duplicate_dropped: number;
  conflicts: number;
}

export interface Overview {
  at: string;
  replica: string;
  version: string;
  uptime_seconds: number;
  totals: (Counts & { dead_lettered: number; topic_count: number; dedup_horizon: string | null }) | null;
  log: { backlog: number | null; unread_entries: number | null; pending_entries: number } | null;
  replicas: { name: string; pending: number; idle_seconds: number }[] | null;
  latency: Latency | null;
  audit: { at: string; verdict: string; comparisons: number; differing: number; rows_compared: number | null } | null;
  notes: string[];
}

export interface Latency {
  window_seconds: number;
  events: number;
  p50_seconds: number;
  p99_seconds: number;
  max_seconds: number;
}

export interface StoredEvent {
  topic: string;
  event_id: string;
  timestamp: string;
  source: string | null;
  /** JSON, as it was sent; absent if the row is damaged. */
  payload?: string;
  received_at: string;
  request_id: string;
  damaged?: boolean;
  erased?: boolean;
}

export interface EventPage {
  events: StoredEvent[];
  next_cursor: string | null;
}

export interface TopicPage {
  topics: ({ topic: string } & Counts)[];
  next_cursor: string | null;
}

export interface DeadLetter {
  id: number;
  failed_at: string;
  code: string;
  reason: string;
  events: number;
  topic: string | null;
  event_id: string | null;
  position: string;
  content: { topic: string; event_id: string; timestamp: string; source: string | null; payload: string; request_id: string }[];
}

export interface Conflict {
  topic: string;
  event_id: string;
  timestamp: string;
  source: string | null;
  payload: string;
  received_at: string;
  request_id: string;
  seen_at: string;
}

export interface Series {
  window: string;
  series: (Counts & { start: string; end: string; dead_lettered: number })[];
}

export interface Meter {
  name: string;
  aggregation: string;
  value?: string | null;
  topics?: string[];
  group_by?: string[];
  time?: string;
  retention_days?: number | null;
  complete: boolean;
  progress?: number;
  complete_from?: string | null;
  skipped?: number;
  skipped_example?: string | null;
}

export interface Figures {
  meter: string;
  aggregation: string;
  window: string;
  complete: boolean;
  exact: boolean;
  windows: { start: string; end: string; groups: { group: Record<string, unknown> | null; value: string | null; events: number }[] }[];
}
