import type { ComponentChildren, JSX } from 'preact';
import { useState } from 'preact/hooks';
import { type Series, ask, withQuery } from '../api';
import { Chart, type Line } from '../chart';
import { ago, compact, entries, number, rate, seconds } from '../format';
import { Command, Empty, HelpLink, Icon, Panel, Trouble } from '../parts';
import { type Finding, findings } from '../problems';
import { type System, hrefOf, useNow, useQuery, useSystem } from '../state';

export const publishCommand = (): string =>
  `curl ${location.origin}${location.pathname}publish -H 'Content-Type: application/json' \\\n  -d '{"topic":"orders","event_id":"evt-1","payload":{"value":100}}'`;

/** The time over which the rates in the tiles are means, in milliseconds. */
const MEAN = 10_000;

function mean(system: System, of: 'received' | 'stored' | 'duplicates'): number | null {
  const last = system.samples.at(-1);
  if (last === undefined) return null;
  const recent = system.samples.filter((sample) => last.at - sample.at < MEAN);
  return recent.reduce((sum, sample) => sum + sample[of], 0) / recent.length;
}

function Tile({ label, value, unit, below, href, level }: { label: string; value: string; unit?: string; below: ComponentChildren; href?: string; level?: string }): JSX.Element {
  return (
    <div class={`tile ${level ?? ''}`}>
      <dt>{href === undefined ? label : <a href={href}>{label}</a>}</dt>
      <dd class="value">
        {value}
        {unit !== undefined && <small> {unit}</small>}
      </dd>
      <dd class="below">{below}</dd>
    </div>
  );
}

function Tiles({ system }: { system: System }): JSX.Element {
  const { overview } = system;
  const totals = overview?.totals ?? null;
  const latencies = [...system.latencies.values()].flatMap(({ latency }) => (latency === null ? [] : [latency]));
  const p99 = latencies.length === 0 ? null : Math.max(...latencies.map((latency) => latency.p99_seconds));
  const p50 = latencies.length === 0 ? null : Math.max(...latencies.map((latency) => latency.p50_seconds));
  const backlog = overview?.log?.backlog ?? null;
  const total = (value: number | undefined): string => (value === undefined ? 'total not known' : `${number(value)} in total`);
  return (
    <dl class="tiles" aria-label="Now">
      <Tile label="Received" value={rate(mean(system, 'received'))} unit="/s" below={total(totals?.received)} />
      <Tile label="Stored" value={rate(mean(system, 'stored'))} unit="/s" below={total(totals?.unique_processed)} />
      <Tile label="Duplicates" value={rate(mean(system, 'duplicates'))} unit="/s" below={total(totals?.duplicate_dropped)} />
      <Tile
        label="Backlog"
        value={backlog === null ? '–' : compact(backlog)}
        below={overview?.log ? `${entries(overview.log.pending_entries)} in work` : 'not known'}
      />
      <Tile
        label="Until stored"
        value={p99 === null ? '–' : seconds(p99)}
        below={p50 === null ? 'nothing in the last minute' : `99 of 100 events; half in ${seconds(p50)}`}
      />
      <Tile
        label="Dead letters"
        value={totals === null ? '–' : compact(totals.dead_lettered)}
        below={totals === null ? 'not known' : `${number(totals.conflicts)} conflicts`}
        href={hrefOf('dead-letters')}
        level={totals !== null && totals.dead_lettered > 0 ? 'warning' : ''}
      />
    </dl>
  );
}

function Findings({ found, known }: { found: Finding[]; known: boolean }): JSX.Element | null {
  if (!known && found.length === 0) return null;
  if (found.length === 0) {
    return (
      <p class="allgood">
        <Icon name="good" /> Nothing is wrong.
      </p>
    );
  }
  return (
    <ul class="findings" aria-label="What is wrong">
      {found.map(({ level, text, help, section }) => (
        <li class={level} key={help + text.replace(/[\d,.]+/g, '')}>
          <Icon name={level} />
          <p>
            <span class="sr">{level}: </span>
            {text}
          </p>
          <span class="links">
            {section !== undefined && <a href={hrefOf(section)}>Show</a>}
            <HelpLink id={help} />
          </span>
        </li>
      ))}
    </ul>
  );
}

const RANGES = {
  live: { label: '15 min', hours: 0, window: '' },
  hour: { label: '1 hour', hours: 1, window: 'minute' },
  day: { label: '24 hours', hours: 24, window: 'hour' },
  month: { label: '30 days', hours: 720, window: 'day' },
} as const;
type Range = keyof typeof RANGES;

const LENGTHS: Record<string, number> = { minute: 60, hour: 3600, day: 86_400 };

function Rates({ system }: { system: System }): JSX.Element {
  const [range, setRange] = useState<Range>('hour');
  const { hours, window } = RANGES[range];
  const query = useQuery<Series | null>(
    range,
    async (signal) => {
      if (range === 'live') return null;
      const to = new Date();
      const from = new Date(to.getTime() - hours * 3_600_000);
      const tz = Intl.DateTimeFormat().resolvedOptions().timeZone;
      return ask<Series>(withQuery('/stats/series', { from: from.toISOString(), to: to.toISOString(), window, tz }), { signal });
    },
    range === 'live' ? 0 : range === 'hour' ? 5_000 : 30_000,
  );
  const live = range === 'live';
  const series = query.data?.series ?? [];
  const length = LENGTHS[window] ?? 1;
  const now = Date.now();
  // The last window is not over: it is divided by what has passed of it.
  const per = (value: number, start: string): number => value / Math.max(1, Math.min(length, (now - Date.parse(start)) / 1000));
  const times = live ? system.samples.map((sample) => sample.at) : series.map((point) => Date.parse(point.start));
  const line = (label: string, colour: string, ofSample: 'received' | 'stored' | 'duplicates', ofSeries: 'received' | 'unique_processed' | 'duplicate_dropped'): Line => ({
    label,
    colour,
    values: live ? system.samples.map((sample) => sample[ofSample]) : series.map((point) => per(point[ofSeries], point.start)),
  });
  const lines = [
    line('Received', '--c1', 'received', 'received'),
    line('Stored', '--c2', 'stored', 'unique_processed'),
    line('Duplicates', '--c3', 'duplicates', 'duplicate_dropped'),
  ];
  const choices = (
    <div class="choices" role="group" aria-label="Time shown">
      {(Object.keys(RANGES) as Range[]).map((name) => (
        <button type="button" key={name} aria-pressed={name === range} onClick={() => setRange(name)}>
          {RANGES[name].label}
        </button>
      ))}
    </div>
  );
  return (
    <Panel title="Events" actions={choices}>
      {query.problem !== null && system.problem === null && <Trouble problem={query.problem} what="The chart cannot be loaded." reload={query.reload} />}
      {live && times.length < 2 ? (
        <Empty title="Collecting">
          <p>This chart shows what has happened since the page was opened, a value every two seconds.</p>
        </Empty>
      ) : times.length === 0 ? (
        query.problem === null ? <p class="muted">Loading…</p> : null
      ) : (
        <Chart title="Events received, stored and dropped as duplicates" times={times} lines={lines} unit={live ? 'events per second' : `events per second, mean of each ${window}`} height={220} />
      )}
    </Panel>
  );
}

function Replicas({ system }: { system: System }): JSX.Element {
  const replicas = system.overview?.replicas ?? null;
  return (
    <Panel title="Replicas" id="replicas">
      {replicas === null ? (
        <Empty title="The log does not say who reads it." />
      ) : replicas.length === 0 ? (
        <Empty title="No replica has read the log yet.">
          <p>
            Start one: <code>sluice-aggregator run</code>, or <code>standalone</code>, which is all in one.
          </p>
        </Empty>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of replicas">
          <table>
            <thead>
              <tr>
                <th scope="col">Replica</th>
                <th scope="col" class="n">Holds</th>
                <th scope="col" class="n">Last asked</th>
                <th scope="col" class="n">Half stored in</th>
                <th scope="col" class="n">99 of 100 in</th>
              </tr>
            </thead>
            <tbody>
              {replicas.map(({ name, pending, idle_seconds: idle }) => {
                const seen = system.latencies.get(name);
                const latency = seen?.latency ?? null;
                return (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td class="n">{entries(pending)}</td>
                    <td class={idle > 30 && pending > 0 ? 'n warning' : 'n'}>{idle < 6 ? 'now' : `${seconds(idle)} ago`}</td>
                    <td class="n">{latency === null ? '–' : seconds(latency.p50_seconds)}</td>
                    <td class="n">{latency === null ? '–' : seconds(latency.p99_seconds)}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function Audit({ system }: { system: System }): JSX.Element {
  const now = useNow();
  const audit = system.overview?.audit ?? null;
  if (audit === null) {
    return (
      <Panel title="Audit">
        <p class="muted">
          No audit has been noted. It compares every counter with the rows: <code>sluice-aggregator audit --record</code>.{' '}
          <HelpLink id="audit">More about the audit</HelpLink>
        </p>
      </Panel>
    );
  }
  const good = audit.verdict === 'exact';
  const result = good ? 'Every number agrees' : audit.verdict === 'different' ? `${number(audit.differing)} of them differ` : 'A number is not known';
  return (
    <Panel title="Audit">
      <p class={good ? 'allgood' : 'failed'}>
        <Icon name={good ? 'good' : 'alarm'} /> {result}
      </p>
      <p class="muted">
        {`${number(audit.comparisons)} comparisons, ${ago(audit.at, now)}`}
        {audit.rows_compared === null ? '.' : `, with the hashes of ${number(audit.rows_compared)} rows.`}
      </p>
    </Panel>
  );
}

export function OverviewSection(): JSX.Element {
  const system = useSystem();
  const { overview } = system;
  const isEmpty = overview?.totals !== null && overview?.totals !== undefined && overview.totals.received === 0;
  return (
    <>
      <Findings found={findings(system)} known={overview !== null} />
      {isEmpty && (
        <Panel title="Publish the first event">
          <p class="lead">Nothing has arrived yet. This command publishes an event. Run it twice: it is stored once, and counted as a duplicate.</p>
          <Command text={publishCommand()} label="the command that publishes an event" />
        </Panel>
      )}
      <Tiles system={system} />
      <Rates system={system} />
      <div class="beside">
        <Replicas system={system} />
        <Audit system={system} />
      </div>
    </>
  );
}
