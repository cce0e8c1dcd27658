// A chart of values over time. What it shows is also said in words, because a canvas has none.
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { clock, compact } from './format';

export interface Line {
  label: string;
  /** The name of a custom property with its colour. */
  colour: string;
  values: (number | null)[];
}

export interface ChartProps {
  /** What is shown, for those who do not see it. */
  title: string;
  /** Milliseconds since 1970, ascending. */
  times: number[];
  lines: Line[];
  /** What one value is, such as "events per second". */
  unit: string;
  bars?: boolean;
  height?: number;
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const pad = (value: number): string => String(value).padStart(2, '0');

/** A time on the axis, as exact as the distance to the next one. Midnight is the date. */
function tick(time: number, step: number): string {
  const date = new Date(time * 1000);
  const day = `${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  if (step >= 86_400) return day;
  const minute = `${pad(date.getHours())}:${pad(date.getMinutes())}`;
  if (step < 60) return `${minute}:${pad(date.getSeconds())}`;
  return step >= 3600 && minute === '00:00' ? day : minute;
}

function options(props: ChartProps, width: number, onHover: (index: number | null) => void): uPlot.Options {
  const font = '11px system-ui, sans-serif';
  const axis: uPlot.Axis = { stroke: css('--muted'), font, grid: { stroke: css('--line'), width: 1 }, ticks: { show: false } };
  const single = props.times.length < 2;
  return {
    width,
    height: props.height ?? 200,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [
      { ...axis, space: 64, size: 28, values: (_, times, __, ___, step) => times.map((time) => tick(time, step)) },
      { ...axis, size: 52, values: (_, values) => values.map((value) => (value === 0 ? '0' : value < 1 ? String(Number(value.toFixed(3))) : compact(value))) },
    ],
    series: [
      {},
      ...props.lines.map((line): uPlot.Series => {
        const colour = css(line.colour);
        const bars = props.bars ? { paths: uPlot.paths.bars!({ size: [0.8, 40], gap: 1 }), fill: colour, width: 0 } : { width: 2 };
        return { label: line.label, stroke: colour, points: { show: single && !props.bars }, ...bars };
      }),
    ],
    hooks: { setCursor: [(plot) => onHover(plot.cursor.idx ?? null)] },
  };
}

function inWords({ title, times, lines, unit }: ChartProps): string {
  const last = times.length - 1;
  if (last < 0) return `${title}: no values`;
  const parts = lines.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    return `${label}: last ${compact(values[last] ?? 0)}, highest ${compact(Math.max(0, ...known))}`;
  });
  return `${title}, ${unit}, from ${clock(new Date(times[0]!).toISOString())} to ${clock(new Date(times[last]!).toISOString())}. ${parts.join('; ')}.`;
}

export function Chart(props: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const [theme, setTheme] = useState(0);
  const shape = `${props.lines.map((line) => line.label + line.colour).join()}|${props.bars}|${props.height}|${props.times.length < 2}|${theme}`;
  const data = [props.times.map((time) => time / 1000), ...props.lines.map((line) => line.values)] as uPlot.AlignedData;
  useEffect(() => {
    const changed = (): void => setTheme((theme) => theme + 1);
    addEventListener('themechange', changed);
    return () => removeEventListener('themechange', changed);
  }, []);
  useEffect(() => {
    const element = place.current;
    if (element === null) return undefined;
    const made = new uPlot(options(props, element.clientWidth, setHovered), data, element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: props.height ?? 200 }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data));
  const index = hovered !== null && hovered < props.times.length ? hovered : null;
  return (
    <figure class="chart">
      <div class="plot" ref={place} role="img" aria-label={inWords(props)} />
      <figcaption>
        {props.lines.map(({ label, colour, values }) => (
          <span class={`key c${colour}`} key={label}>
            {label}
            {index !== null && <b>{values[index] === null ? '–' : format(values[index]!)}</b>}
          </span>
        ))}
        <span class="unit">{index === null ? props.unit : `${props.unit}, ${clock(new Date(props.times[index]!).toISOString())}`}</span>
      </figcaption>
    </figure>
  );
}

const format = (value: number): string => (value !== 0 && value < 10 ? String(Number(value.toFixed(2))) : compact(value));
