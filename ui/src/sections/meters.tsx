import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { type Figures, type Meter, ask, withQuery } from '../api';
import { Chart } from '../chart';
import { count, number } from '../format';
import { Command, Empty, Panel, Trouble } from '../parts';
import { useQuery } from '../state';

const RANGES = {
  hour: { label: '1 hour', hours: 1, window: 'minute' },
  day: { label: '24 hours', hours: 24, window: 'hour' },
  month: { label: '30 days', hours: 720, window: 'day' },
} as const;
type Range = keyof typeof RANGES;

/** The groups that have a line of their own. */
const LINES = 6;

const putCommand = (): string =>
  `curl -X PUT ${location.origin}${location.pathname}meters/sales -H 'Content-Type: application/json' \\\n  -d '{"topics":["orders"],"aggregation":"sum","value":"/value","group_by":["source"]}'`;

const AGGREGATIONS: Record<string, string> = {
  sum: 'The sum of',
  min: 'The least',
  max: 'The greatest',
  avg: 'The average of',
  unique: 'How many different values of',
  latest: 'The latest',
};

function inWords(meter: Meter): string {
  const what = meter.aggregation === 'count' ? 'How many events' : `${AGGREGATIONS[meter.aggregation] ?? meter.aggregation} ${meter.value ?? ''}`;
  const ofAll = (meter.topics ?? []).every((topic) => topic === '*');
  return `${what} of ${ofAll ? 'all topics' : meter.topics?.join(', ')}, by ${meter.time ?? 'timestamp'}.`;
}

const nameOf = (group: Record<string, unknown> | null): string => {
  if (group === null) return 'without its group';
  const values = Object.values(group);
  return values.length === 0 ? 'all' : values.map((value) => (value === null ? '(none)' : String(value))).join(' · ');
};

/** The sum of decimal numbers, exactly, as long as they are whole; otherwise it is that of floating point. */
function total(values: string[]): string {
  if (values.every((value) => /^-?\d+$/.test(value))) return values.reduce((sum, value) => sum + BigInt(value), 0n).toLocaleString('en');
  return values.reduce((sum, value) => sum + Number(value), 0).toLocaleString('en', { maximumFractionDigits: 6 });
}

function MeterPanel({ meter }: { meter: Meter }): JSX.Element {
  const [range, setRange] = useState<Range>('hour');
  const [by, setBy] = useState('');
  const { hours, window } = RANGES[range];
  const { data, problem, loading, reload } = useQuery<Figures>(
    `${meter.name}/${range}/${by}`,
    (signal) => {
      const to = new Date();
      const from = new Date(to.getTime() - hours * 3_600_000);
      const tz = Intl.DateTimeFormat().resolvedOptions().timeZone;
      const path = `/meters/${encodeURIComponent(meter.name)}`;
      // As a JSON array, because a field may have a comma in it.
      return ask(withQuery(path, { from: from.toISOString(), to: to.toISOString(), window, tz, group_by: by === '' ? null : JSON.stringify([by]) }), { signal });
    },
    range === 'hour' ? 5_000 : 30_000,
  );
  const windows = data?.windows ?? [];
  const groups = new Map<string, { values: (number | null)[]; texts: string[]; events: number }>();
  windows.forEach(({ groups: of }, index) => {
    for (const { group, value, events } of of) {
      const name = nameOf(group);
      const line = groups.get(name) ?? { values: windows.map(() => null), texts: [], events: 0 };
      line.values[index] = value === null ? null : Number(value);
      if (value !== null) line.texts.push(value);
      line.events += events;
      groups.set(name, line);
    }
  });
  const adds = meter.aggregation === 'count' || meter.aggregation === 'sum';
  const ranked = [...groups].toSorted(([, a], [, b]) => b.events - a.events);
  const lines = ranked.slice(0, LINES).map(([label, { values }], index) => ({
    label,
    colour: ranked.length === 1 ? '--c2' : `--c${index + 1}`,
    // Nothing happened in a window without a figure.
    values: adds ? values.map((value) => value ?? 0) : values,
  }));
  const actions = (
    <>
      {(meter.group_by?.length ?? 0) > 0 && (
        <label class="inline">
          <span>Group by</span>
          <select value={by} onChange={(event) => setBy(event.currentTarget.value)}>
            <option value="">nothing</option>
            {meter.group_by?.map((field) => (
              <option key={field} value={field}>
                {field}
              </option>
            ))}
          </select>
        </label>
      )}
      <div class="choices" role="group" aria-label={`Time shown of ${meter.name}`}>
        {(Object.keys(RANGES) as Range[]).map((name) => (
          <button type="button" key={name} aria-pressed={name === range} onClick={() => setRange(name)}>
            {RANGES[name].label}
          </button>
        ))}
      </div>
    </>
  );
  return (
    <Panel title={meter.name} actions={actions}>
      <p class="muted">
        {inWords(meter)}
        {!meter.complete && ` What was stored before it was put is still being counted: ${Math.floor((meter.progress ?? 0) * 100)}%.`}
        {(meter.skipped ?? 0) > 0 && ` ${count(meter.skipped ?? 0, 'event')} had no value that can be used.`}
      </p>
      {problem !== null && <Trouble problem={problem} what="The figures cannot be loaded." reload={reload} />}
      {data !== null && ranked.length === 0 && <Empty title="No event was counted in this time." />}
      {data === null && loading && <p class="muted">Loading…</p>}
      {ranked.length > 0 && (
        <>
          <Chart title={`Meter ${meter.name}`} times={windows.map(({ start }) => Date.parse(start))} lines={lines} unit={`each ${window}`} bars={lines.length === 1 && adds} height={180} />
          <div class="scroll" tabIndex={0} role="region" aria-label={`Figures of ${meter.name}`}>
            <table>
              <thead>
                <tr>
                  <th scope="col">{by === '' ? 'Group' : by}</th>
                  <th scope="col" class="n">{adds ? 'Total' : 'Last value'}</th>
                  <th scope="col" class="n">Events</th>
                </tr>
              </thead>
              <tbody>
                {ranked.slice(0, 20).map(([name, { texts, events }]) => (
                  <tr key={name}>
                    <th scope="row">{name}</th>
                    <td class="n">{adds ? total(texts) : (texts.at(-1) ?? '–')}</td>
                    <td class="n">{number(events)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {ranked.length > 20 && <p class="muted">{`${number(ranked.length - 20)} more groups: GET /meters/${meter.name} has all.`}</p>}
        </>
      )}
    </Panel>
  );
}

export function MetersSection(): JSX.Element {
  const { data, problem, reload } = useQuery<{ meters: Meter[] }>('meters', (signal) => ask('/meters', { signal }), 10_000);
  return (
    <>
      {problem !== null && <Trouble problem={problem} what="The meters cannot be loaded." reload={reload} />}
      {data !== null && data.meters.length === 0 && (
        <Empty title="There is no meter yet.">
          <p>A meter counts or adds up events over time, exactly: each stored event once. This command puts one:</p>
          <Command text={putCommand()} label="the command that puts a meter" />
        </Empty>
      )}
      {data?.meters.map((meter) => <MeterPanel meter={meter} key={meter.name} />)}
    </>
  );
}
