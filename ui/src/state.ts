// What several parts of the page share: the overview, which is asked for every two seconds, and queries of single sections.
import { createContext } from 'preact';
import { useContext, useEffect, useRef, useState } from 'preact/hooks';
import { type Latency, type Overview, Problem, ask } from './api';

/** The time between two questions for the overview, in milliseconds. */
const EVERY = 2_000;
/** The longest that it is not asked while the server does not answer. */
const LONGEST = 10_000;
/** How long samples are kept, for the chart of what has happened since the page was opened. */
const KEPT = 15 * 60_000;
/** How long the figures of a replica that has not answered since are shown. */
const STALE = 30_000;

/** What changed between two overviews, for each second. */
export interface Sample {
  at: number;
  received: number;
  stored: number;
  duplicates: number;
  backlog: number | null;
}

export interface System {
  overview: Overview | null;
  /** When the last answer came. */
  answeredAt: number | null;
  problem: Problem | null;
  samples: Sample[];
  /** By replica, with the time of the answer. */
  latencies: Map<string, { at: number; latency: Latency | null }>;
}

const NOTHING: System = { overview: null, answeredAt: null, problem: null, samples: [], latencies: new Map() };

export const SystemContext = createContext<System>(NOTHING);
export const useSystem = (): System => useContext(SystemContext);

function add(system: System, overview: Overview): System {
  const at = Date.parse(overview.at);
  const before = system.overview;
  // Replicas answer in turn, each from its own memory: an answer that is older than the one before it says nothing new.
  if (before !== null && at <= Date.parse(before.at)) return { ...system, problem: null, answeredAt: Date.now() };
  const latencies = new Map([...system.latencies].filter(([, seen]) => at - seen.at < STALE));
  latencies.set(overview.replica, { at, latency: overview.latency });
  let samples = system.samples;
  if (before?.totals && overview.totals) {
    const passed = (at - Date.parse(before.at)) / 1000;
    // A replay of dead letters adds to the counts, so no count becomes less.
    const per = (key: 'received' | 'unique_processed' | 'duplicate_dropped'): number =>
      Math.max(0, (overview.totals![key] - before.totals![key]) / passed);
    const sample = { at, received: per('received'), stored: per('unique_processed'), duplicates: per('duplicate_dropped'), backlog: overview.log?.backlog ?? null };
    samples = [...samples.filter((old) => at - old.at < KEPT), sample];
  }
  return { overview, answeredAt: Date.now(), problem: null, samples, latencies };
}

/** Asks for the overview while the page is visible. */
export function useOverview(enabled: boolean): System {
  const [system, setSystem] = useState<System>(NOTHING);
  useEffect(() => {
    setSystem(NOTHING);
    if (!enabled) return undefined;
    const stop = new AbortController();
    let timer: number | undefined;
    let failures = 0;
    let asking = false;
    const again = async (): Promise<void> => {
      clearTimeout(timer);
      if (asking || stop.signal.aborted || document.visibilityState === 'hidden') return;
      asking = true;
      try {
        const overview = await ask<Overview>('/overview', { signal: stop.signal });
        failures = 0;
        setSystem((system) => add(system, overview));
      } catch (error) {
        if (stop.signal.aborted) return;
        failures += 1;
        const problem = error instanceof Problem ? error : new Problem(0, 'unknown', String(error));
        setSystem((system) => ({ ...system, problem }));
      } finally {
        asking = false;
      }
      timer = window.setTimeout(again, Math.min(EVERY * 2 ** Math.max(0, failures - 1), LONGEST));
    };
    document.addEventListener('visibilitychange', again);
    void again();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', again);
    };
  }, [enabled]);
  return system;
}

export interface Query<T> {
  data: T | null;
  problem: Problem | null;
  loading: boolean;
  reload: () => void;
}

/** Asks for something when its key changes, and again every `every` milliseconds while the page is visible. */
export function useQuery<T>(key: string, load: (signal: AbortSignal) => Promise<T>, every = 0): Query<T> {
  const [state, setState] = useState<{ key: string; data: T | null; problem: Problem | null; loading: boolean }>({
    key,
    data: null,
    problem: null,
    loading: true,
  });
  const [turn, setTurn] = useState(0);
  const loader = useRef(load);
  loader.current = load;
  useEffect(() => {
    const stop = new AbortController();
    let timer: number | undefined;
    let asking = false;
    const again = async (): Promise<void> => {
      clearTimeout(timer);
      if (asking || stop.signal.aborted || document.visibilityState === 'hidden') return;
      asking = true;
      try {
        const data = await loader.current(stop.signal);
        if (!stop.signal.aborted) setState({ key, data, problem: null, loading: false });
      } catch (error) {
        if (stop.signal.aborted) return;
        const problem = error instanceof Problem ? error : new Problem(0, 'unknown', String(error));
        // What is shown stays, with the problem above it.
        setState((state) => ({ key, data: state.key === key ? state.data : null, problem, loading: false }));
      } finally {
        asking = false;
      }
      if (every > 0) timer = window.setTimeout(again, every);
    };
    setState((state) => ({ key, data: state.key === key ? state.data : null, problem: null, loading: true }));
    document.addEventListener('visibilitychange', again);
    void again();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', again);
    };
  }, [key, every, turn]);
  const current = state.key === key;
  return {
    data: current ? state.data : null,
    problem: current ? state.problem : null,
    loading: current ? state.loading : true,
    reload: () => setTurn((turn) => turn + 1),
  };
}

/** The section and the parameters in the address, such as `#/events?topic=orders`. */
export interface Route {
  section: string;
  parameters: URLSearchParams;
}

function route(): Route {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { section: path, parameters: new URLSearchParams(query) };
}

export function useRoute(): Route {
  const [current, setCurrent] = useState(route);
  useEffect(() => {
    const changed = (): void => setCurrent(route());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return current;
}

/** Returns the address of a section. */
export function hrefOf(section: string, parameters: Record<string, string | null | undefined> = {}): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${section}${text === '' ? '' : `?${text}`}`;
}

/** The time, which changes every second. */
export function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
