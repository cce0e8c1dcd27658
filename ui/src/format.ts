// Numbers and times as people read them.

const whole = new Intl.NumberFormat('en');
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

/** A number with all its digits; a dash if it is not known. */
export const number = (value: number | null | undefined): string => (value === null || value === undefined ? '–' : whole.format(value));

/** A number that fits into a tile. */
export const compact = (value: number): string => (Math.abs(value) < 100_000 ? whole.format(Math.round(value)) : short.format(value));

/** A rate per second. */
export function rate(value: number | null): string {
  if (value === null) return '–';
  if (value === 0) return '0';
  return value < 10 ? value.toFixed(1) : compact(value);
}

/** A duration of seconds. */
export function seconds(value: number): string {
  if (value < 0.001) return '<1 ms';
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 48 * 3600) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} days`;
}

const pad = (value: number, length = 2): string => String(value).padStart(length, '0');

/** The time of day, with the date if it is another day. */
export function clock(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
  const today = date.toDateString() === new Date().toDateString();
  return today ? time : `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time.slice(0, 8)}`;
}

/** How long ago something was. */
export function ago(iso: string, now: number): string {
  const passed = (now - new Date(iso).getTime()) / 1000;
  return passed < 5 ? 'just now' : `${seconds(passed)} ago`;
}

/** The first characters of a text. */
export const cut = (text: string, length: number): string => (text.length <= length ? text : `${text.slice(0, length)}…`);

/** "1 entry", "2 entries". */
export const entries = (value: number): string => (value === 1 ? '1 entry' : `${number(value)} entries`);

/** "1 event", "2 events". */
export const count = (value: number, what: string): string => `${number(value)} ${what}${value === 1 ? '' : 's'}`;
