import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { type EventPage, Problem, type StoredEvent, ask, eventPath, withQuery } from '../api';
import { cut, number } from '../format';
import { textsOfPayloads } from '../json';
import { Columns, Command, Empty, Facts, Payload, Row, Time, Trouble } from '../parts';
import { type StreamState, follow } from '../sse';
import { type Route, hrefOf, useQuery } from '../state';
import { publishCommand } from './overview';

/** The events that a followed feed shows at most. Older ones are in the list. */
const SHOWN = 300;
/** How often what has arrived is drawn, in milliseconds. */
const DRAWN = 250;

interface Filters {
  topic: string;
  source: string;
  since: string;
  until: string;
  id: string;
}

const filtersOf = ({ parameters }: Route): Filters => ({
  topic: parameters.get('topic') ?? '',
  source: parameters.get('source') ?? '',
  since: parameters.get('since') ?? '',
  until: parameters.get('until') ?? '',
  id: parameters.get('id') ?? '',
});

/** A time of an input, which is local, as the server takes it. */
const instant = (local: string): string => (local === '' || Number.isNaN(Date.parse(local)) ? '' : new Date(local).toISOString());

export function EventRow({ event }: { event: StoredEvent }): JSX.Element {
  const payload = event.payload;
  const brief = event.damaged ? 'damaged on the disk' : event.erased ? 'erased' : cut(payload ?? '', 160);
  return (
    <Row
      id={`${event.topic}/${event.event_id}`}
      summary={
        <>
          <span class="time">
            <Time iso={event.received_at} />
          </span>
          <span class="topic">{event.topic}</span>
          <span class="id">{event.event_id}</span>
          <code class="brief">{brief}</code>
        </>
      }
    >
      {() => (
        <>
          <Facts
            facts={[
              ['Topic', <a href={hrefOf('events', { topic: event.topic })}>{event.topic}</a>],
              ['Event id', event.event_id],
              ['Source', event.source === null ? '–' : <a href={hrefOf('events', { source: event.source })}>{event.source}</a>],
              ['Timestamp', event.timestamp],
              ['Received', event.received_at],
              ['Request', event.request_id],
            ]}
          />
          {event.damaged && <p class="lead">The row is damaged on the disk of the store. None of its members can be relied on.</p>}
          {event.erased && <p class="lead">Payload and source were erased. The event stays a duplicate of what is sent again.</p>}
          {payload !== undefined && !event.erased && <Payload json={payload} label="payload" />}
        </>
      )}
    </Row>
  );
}

function FilterForm({ filters, following }: { filters: Filters; following: boolean }): JSX.Element {
  const [values, setValues] = useState(filters);
  useEffect(() => setValues(filters), [JSON.stringify(filters)]);
  const set = (name: keyof Filters) => (event: Event) => setValues({ ...values, [name]: (event.target as HTMLInputElement).value });
  const go = (values: Partial<Filters>): void => {
    location.hash = hrefOf('events', { ...values, ...(following ? { follow: '1' } : {}) });
  };
  const field = (name: keyof Filters, label: string, type = 'text'): JSX.Element => (
    <label>
      <span>{label}</span>
      <input type={type} name={name} value={values[name]} onInput={set(name)} step={type === 'text' ? undefined : 1} spellcheck={false} autocomplete="off" />
    </label>
  );
  return (
    <form
      class="filters"
      role="search"
      aria-label="Events"
      onSubmit={(event) => {
        event.preventDefault();
        go(values);
      }}
    >
      {field('topic', 'Topic')}
      {field('source', 'Source')}
      {!following && field('id', 'Event id (with a topic)')}
      {!following && field('since', 'Since', 'datetime-local')}
      {!following && field('until', 'Until', 'datetime-local')}
      <div class="buttons">
        <button type="submit" class="primary">
          Apply
        </button>
        <button type="button" onClick={() => go({})}>
          Clear
        </button>
      </div>
    </form>
  );
}

function List({ filters }: { filters: Filters }): JSX.Element {
  const single = filters.id !== '' && filters.topic !== '';
  const path = single
    ? withQuery(eventPath(filters.topic, filters.id), { all: 'true' })
    : withQuery('/events', { topic: filters.topic, source: filters.source, since: instant(filters.since), until: instant(filters.until), limit: 50 });
  const [older, setOlder] = useState<{ of: string; events: StoredEvent[]; next: string | null; problem: Problem | null; busy: boolean }>({ of: '', events: [], next: null, problem: null, busy: false });
  const first = useQuery<EventPage>(path, (signal) => ask(path, { signal }));
  const more = older.of === path ? older : null;
  const next = more === null ? (first.data?.next_cursor ?? null) : more.next;
  const load = async (): Promise<void> => {
    const events = more?.events ?? [];
    setOlder({ of: path, events, next, problem: null, busy: true });
    try {
      const page = await ask<EventPage>(`${path}&cursor=${encodeURIComponent(next ?? '')}`);
      setOlder({ of: path, events: [...events, ...page.events], next: page.next_cursor, problem: null, busy: false });
    } catch (error) {
      setOlder({ of: path, events, next, problem: error as Problem, busy: false });
    }
  };
  const reload = (): void => {
    setOlder({ of: '', events: [], next: null, problem: null, busy: false });
    first.reload();
  };
  const events = [...(first.data?.events ?? []), ...(more?.events ?? [])];
  const missing = first.problem?.status === 404;
  return (
    <>
      {first.problem !== null && !missing && <Trouble problem={first.problem} what="The events cannot be loaded." reload={reload} />}
      <div class="listhead">
        <p class="muted" role="status">
          {first.loading ? 'Loading…' : `${number(events.length)} shown, newest arrival first`}
        </p>
        <button type="button" class="small" onClick={reload}>
          Reload
        </button>
      </div>
      {events.length > 0 && (
        <ol class="rows events">
          <Columns names={['Received', 'Topic', 'Event id', 'Payload']} />
          {events.map((event) => (
            <EventRow event={event} key={`${event.topic}/${event.event_id}/${event.received_at}/${event.request_id}`} />
          ))}
        </ol>
      )}
      {events.length === 0 && !first.loading && (first.problem === null || missing) && next === null && (
        <Empty title={single ? 'There is no such event.' : path === '/events?limit=50' ? 'No event is stored yet.' : 'No event matches these filters.'}>
          {path === '/events?limit=50' ? (
            <Command text={publishCommand()} label="the command that publishes an event" />
          ) : (
            <p>Topic, source and event id must be equal to what was sent, capital letters included.</p>
          )}
        </Empty>
      )}
      {more?.problem && <Trouble problem={more.problem} what="Older events cannot be loaded." reload={load} />}
      {next !== null && (
        <button type="button" class="wide" onClick={load} disabled={more?.busy ?? false}>
          {more?.busy ? 'Loading…' : 'Older events'}
        </button>
      )}
    </>
  );
}

const STATES: Record<StreamState, string> = {
  connecting: 'Connecting…',
  open: 'Following. New events appear here as they are stored.',
  waiting: 'The stream was interrupted. It goes on by itself, and misses nothing.',
};

function Tail({ filters }: { filters: Filters }): JSX.Element {
  const [state, setState] = useState<StreamState>('connecting');
  const [problem, setProblem] = useState<Problem | null>(null);
  const [shown, setShown] = useState<{ events: (StoredEvent & { key: number })[]; seen: number }>({ events: [], seen: 0 });
  const [paused, setPaused] = useState(false);
  const arrived = useRef<(StoredEvent & { key: number })[]>([]);
  const seen = useRef(0);
  const path = withQuery('/events/tail', { topic: filters.topic, source: filters.source });
  useEffect(() => {
    const stop = new AbortController();
    arrived.current = [];
    seen.current = 0;
    setShown({ events: [], seen: 0 });
    setProblem(null);
    follow(
      path,
      stop.signal,
      ({ event, data }) => {
        if (event !== 'message' || data === '') return;
        seen.current += 1;
        arrived.current.push({ ...(JSON.parse(textsOfPayloads(data)) as StoredEvent), key: seen.current });
        // What nobody will see is not kept, however fast it arrives.
        if (arrived.current.length > SHOWN * 2) arrived.current = arrived.current.slice(-SHOWN);
      },
      (state, problem) => {
        setState(state);
        setProblem(problem);
      },
    ).catch((error: unknown) => {
      if (!stop.signal.aborted) setProblem(error instanceof Problem ? error : new Problem(0, 'unknown', String(error)));
    });
    return () => stop.abort();
  }, [path]);
  useEffect(() => {
    if (paused) return undefined;
    const timer = setInterval(() => {
      const fresh = arrived.current;
      if (fresh.length === 0) return;
      arrived.current = [];
      setShown(({ events }) => ({ events: [...fresh.reverse(), ...events].slice(0, SHOWN), seen: seen.current }));
    }, DRAWN);
    return () => clearInterval(timer);
  }, [paused]);
  return (
    <>
      {problem !== null && <Trouble problem={problem} what={problem.status >= 400 && problem.status < 500 && problem.status !== 429 ? 'The stream was refused.' : STATES.waiting} />}
      <div class="listhead">
        <p class="muted" role="status">
          <span class={`dot ${state}`} aria-hidden="true" /> {problem === null ? (paused ? 'Paused. Events still arrive, and are shown when you go on.' : STATES[state]) : ''}
        </p>
        <span class="muted">{shown.seen > 0 ? `${number(shown.seen)} seen` : ''}</span>
        <button type="button" class="small" aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? 'Go on' : 'Pause'}
        </button>
      </div>
      {shown.events.length > 0 ? (
        <ol class="rows events" aria-label="New events, newest first">
          <Columns names={['Received', 'Topic', 'Event id', 'Payload']} />
          {shown.events.map((event) => (
            <EventRow event={event} key={event.key} />
          ))}
        </ol>
      ) : (
        <Empty title="Waiting for the next event">
          <p>Events that are already stored are in the list.</p>
          <Command text={publishCommand()} label="the command that publishes an event" />
        </Empty>
      )}
    </>
  );
}

export function EventsSection({ route }: { route: Route }): JSX.Element {
  const filters = filtersOf(route);
  const following = route.parameters.get('follow') === '1';
  const { topic, source } = filters;
  return (
    <>
      <nav class="tabs" aria-label="Stored events, or new ones">
        <a href={hrefOf('events', { ...filters })} aria-current={following ? undefined : 'page'}>
          Stored
        </a>
        <a href={hrefOf('events', { topic, source, follow: '1' })} aria-current={following ? 'page' : undefined}>
          Follow live
        </a>
      </nav>
      <FilterForm filters={filters} following={following} />
      {following ? <Tail filters={filters} /> : <List filters={filters} />}
    </>
  );
}
