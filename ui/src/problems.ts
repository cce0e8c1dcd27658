// What is wrong, in words, worst first. It is computed from what the page knows, and has no state.
import type { System } from './state';
import { count, entries, number, seconds } from './format';

export interface Finding {
  level: 'alarm' | 'warning' | 'notice';
  text: string;
  /** An entry of the help. */
  help: string;
  /** A section of the page that shows it. */
  section?: string;
}

/** A replica that holds entries has asked for more within this time, in seconds, or something is wrong with it. */
const IDLE = 30;
/** A longer time from accepting an event to its row, in seconds, is reported. */
const SLOW = 10;
/** A smaller backlog is never reported. */
const BACKLOG = 1_000;
/** The time over which a backlog must not have become smaller, in milliseconds. */
const GROWING = 20_000;

/** The notes about these things are warnings: nothing is lost, and nothing stands still. */
const WARNINGS = new Set(['durability', 'maintenance', 'other']);

function helpOfNote(note: string): string {
  if (/not committed/.test(note)) return 'commits';
  if (/lost|missing|older/.test(note)) return 'losses';
  if (/durability|promises/.test(note)) return 'durability';
  if (/^the store|tables/.test(note)) return 'store';
  if (/^the log/.test(note)) return 'log';
  if (/retention|partition/.test(note)) return 'maintenance';
  return 'other';
}

function capital(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

function ofBacklog(system: System): Finding[] {
  const known = system.samples.flatMap((sample) => (sample.backlog === null ? [] : [{ at: sample.at, backlog: sample.backlog }]));
  const last = known.at(-1);
  if (last === undefined || last.backlog < BACKLOG) return [];
  const window = known.filter((sample) => last.at - sample.at <= GROWING);
  const first = window[0];
  const observed = first !== undefined && last.at - first.at >= GROWING * 0.8;
  if (!observed || last.backlog < first.backlog * 0.9) return [];
  const grows = last.backlog > first.backlog * 1.02;
  const text = `${number(last.backlog)} events wait to be stored, and the backlog ${grows ? 'grows' : 'does not become smaller'}.`;
  return [{ level: 'warning', text, help: 'backlog' }];
}

/** Returns what is wrong. */
export function findings(system: System): Finding[] {
  const { overview, problem } = system;
  const found: Finding[] = [];
  if (problem !== null) {
    const isForwarding = problem.code === 'query_unavailable';
    const text = isForwarding
      ? 'The aggregators do not answer the publisher. Events are still accepted.'
      : problem.status === 0
        ? 'The server does not answer. What you see is the last state that is known.'
        : `The server refused to tell its state: ${capital(problem.message)}`;
    found.push({ level: 'alarm', text, help: isForwarding ? 'aggregators' : problem.status === 403 ? 'access' : 'unreachable' });
  }
  if (overview === null) return found;
  const { totals, log, replicas, notes } = overview;
  for (const note of notes) {
    const help = helpOfNote(note);
    found.push({ level: WARNINGS.has(help) ? 'warning' : 'alarm', text: capital(note), help });
  }
  if (replicas !== null) {
    for (const { name, pending, idle_seconds: idle } of replicas) {
      if (pending === 0 || idle < IDLE) continue;
      found.push({ level: 'warning', text: `The replica ${name} holds ${entries(pending)}, and has not asked for more for ${seconds(idle)}.`, help: 'replicas' });
    }
    if ((log?.backlog ?? 0) > 0 && replicas.every(({ idle_seconds: idle }) => idle >= IDLE)) {
      found.push({ level: 'alarm', text: 'Events wait, and no replica reads the log.', help: 'replicas' });
    }
  }
  found.push(...ofBacklog(system));
  const slowest = Math.max(0, ...[...system.latencies.values()].map(({ latency }) => latency?.p99_seconds ?? 0));
  if (slowest > SLOW) {
    found.push({ level: 'warning', text: `In the last minute, 1 of 100 events took longer than ${seconds(slowest)} until it was stored.`, help: 'latency' });
  }
  if (overview.audit !== null && overview.audit.verdict !== 'exact') {
    const unknown = overview.audit.verdict === 'unknown';
    found.push({
      level: unknown ? 'warning' : 'alarm',
      text: unknown
        ? 'The last audit could not tell: a number that it needs was lost.'
        : `The last audit has found ${overview.audit.differing === 1 ? 'a difference' : `${number(overview.audit.differing)} differences`}.`,
      help: 'audit',
    });
  }
  if (totals !== null && totals.dead_lettered > 0) {
    found.push({ level: 'warning', text: `${count(totals.dead_lettered, 'event')} could not be stored, and ${totals.dead_lettered === 1 ? 'is' : 'are'} kept as dead letters.`, help: 'dead-letters', section: 'dead-letters' });
  }
  if (totals !== null && totals.conflicts > 0) {
    found.push({ level: 'notice', text: `${count(totals.conflicts, 'duplicate')} had another payload than the event that is stored.`, help: 'conflicts', section: 'conflicts' });
  }
  const rank = { alarm: 0, warning: 1, notice: 2 };
  return found.sort((a, b) => rank[a.level] - rank[b.level]);
}
