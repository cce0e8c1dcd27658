// Small parts of which the sections are made.
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import type { Problem } from './api';
import { hrefOf } from './state';
import { clock } from './format';
import { indented } from './json';

const PATHS = {
  overview: 'M3 12h4l3-8 4 16 3-8h4',
  events: 'M8 6h13M8 12h13M8 18h13M3.5 6h.01M3.5 12h.01M3.5 18h.01',
  topics: 'M20.6 13.4 13.4 20.6a2 2 0 0 1-2.8 0L3 13V3h10l7.6 7.6a2 2 0 0 1 0 2.8zM7.5 7.5h.01',
  meters: 'M4 20V10M10 20V4M16 20v-7M21 20H3',
  'dead-letters': 'M4 5h16v14H4zM4 6l8 7 8-7',
  conflicts: 'M7 4v6a5 5 0 0 0 5 5h7M15 11l4 4-4 4M7 20v-5',
  help: 'M9.2 9a2.8 2.8 0 1 1 4 2.5c-.8.4-1.2 1-1.2 2M12 17h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z',
  alarm: 'M12 8v5M12 16.5h.01M12 3 2 20h20z',
  warning: 'M12 8v5M12 16.5h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z',
  notice: 'M12 11v5M12 7.5h.01M12 21a9 9 0 1 1 0-18 9 9 0 0 1 0 18z',
  good: 'M5 12.5 10 17 19 7',
  sun: 'M12 17a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM12 2v2M12 20v2M4.2 4.2l1.4 1.4M18.4 18.4l1.4 1.4M2 12h2M20 12h2M4.2 19.8l1.4-1.4M18.4 5.6l1.4-1.4',
  moon: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  auto: 'M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18',
  more: 'M9 6l6 6-6 6',
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Panel({ title, id, actions, children }: { title: string; id?: string; actions?: ComponentChildren; children: ComponentChildren }): JSX.Element {
  const heading = useId();
  return (
    <section class="panel" aria-labelledby={heading} id={id}>
      <header>
        <h2 id={heading}>{title}</h2>
        {actions !== undefined && <div class="actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}

/** A command that can be copied. */
export function Command({ text, label }: { text: string; label: string }): JSX.Element {
  return (
    <div class="command">
      <pre tabIndex={0} role="group" aria-label={label}>
        {text}
      </pre>
      <Copy text={text} label={`Copy: ${label}`} />
    </div>
  );
}

export function Copy({ text, label }: { text: string; label: string }): JSX.Element {
  const [done, setDone] = useState('');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setDone('Copied');
    } catch {
      // The clipboard is only there over HTTPS and on this machine.
      setDone('Select the text and copy it');
    }
    setTimeout(() => setDone(''), 2500);
  };
  return (
    <button type="button" class="quiet small" aria-label={label} onClick={copy}>
      <span aria-live="polite">{done || 'Copy'}</span>
    </button>
  );
}

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <p class="title">{title}</p>
      {children}
    </div>
  );
}

/** Says what is wrong with a section, and what to do. */
export function Trouble({ problem, what, reload }: { problem: Problem; what: string; reload?: () => void }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <Icon name="alarm" />
      <div>
        <p>
          <strong>{what}</strong> {sentence(problem)}
        </p>
        <p class="muted">{adviceOf(problem)}</p>
      </div>
      {reload !== undefined && (
        <button type="button" class="small" onClick={reload}>
          Try again
        </button>
      )}
    </div>
  );
}

export function sentence(problem: Problem): string {
  const text = problem.message.charAt(0).toUpperCase() + problem.message.slice(1);
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

function adviceOf(problem: Problem): string {
  switch (problem.code) {
    case 'unreachable':
    case 'no_answer':
      return 'Check that the server runs. The page tries again by itself.';
    case 'missing_scope':
      return 'Sign in with a token that has this scope. Help → Signing in says how one is made.';
    case 'topic_not_allowed':
      return 'Your token is bounded by topics. Choose one of its topics, or sign in with another token.';
    case 'still_refused':
      return 'The cause is still there. Remove it in the database, and replay again.';
    case 'query_unavailable':
      return 'The publisher cannot reach an aggregator. Events are still accepted.';
    case 'store_unavailable':
      return 'The database does not answer. What was accepted waits in the log and is not lost.';
    case 'too_many_queries':
    case 'rate_limited':
      return 'The server is busy. Try again in a few seconds.';
    case 'query_too_slow':
      return 'Ask for less: a shorter time, or one topic.';
    default:
      return problem.status >= 500 ? 'The log of the server has the cause.' : `The code is ${problem.code}; docs/errors.md explains it.`;
  }
}

export function Time({ iso }: { iso: string }): JSX.Element {
  return (
    <time dateTime={iso} title={iso}>
      {clock(iso)}
    </time>
  );
}

/** JSON of a payload, as text. */
export function Payload({ json, label }: { json: string; label: string }): JSX.Element {
  const text = indented(json);
  const shown = text.length > 100_000 ? `${text.slice(0, 100_000)}\n… ${text.length - 100_000} more characters` : text;
  return (
    <div class="payload">
      <pre tabIndex={0} role="group" aria-label={label}>
        {shown}
      </pre>
      <Copy text={json} label={`Copy ${label}`} />
    </div>
  );
}

export interface Confirmation {
  title: string;
  text: string;
  action: string;
  dangerous?: boolean;
  run: () => Promise<void>;
}

/** Asks before something is done. The dialog keeps the focus, and Escape closes it. */
export function Confirm({ confirmation, close }: { confirmation: Confirmation; close: () => void }): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    dialog.current?.showModal();
    return () => before?.focus?.();
  }, []);
  const run = async (): Promise<void> => {
    setBusy(true);
    await confirmation.run();
    close();
  };
  return (
    <dialog ref={dialog} aria-labelledby={id} onClose={close}>
      <h2 id={id}>{confirmation.title}</h2>
      <p>{confirmation.text}</p>
      <div class="buttons">
        <button type="button" onClick={close} disabled={busy}>
          Cancel
        </button>
        <button type="button" class={confirmation.dangerous ? 'danger' : 'primary'} onClick={run} disabled={busy}>
          {confirmation.action}
        </button>
      </div>
    </dialog>
  );
}

/** Links to an entry of the help. */
export function HelpLink({ id, children }: { id: string; children?: ComponentChildren }): JSX.Element {
  return <a href={hrefOf('help', { about: id })}>{children ?? 'What to do'}</a>;
}

/** A row that opens. What it has inside is made only while it is open. */
export function Row({ id, summary, children }: { id: string; summary: ComponentChildren; children: () => ComponentChildren }): JSX.Element {
  const [open, setOpen] = useState(false);
  const body = useId();
  return (
    <li class={open ? 'row open' : 'row'} data-id={id}>
      <button type="button" class="summary" aria-expanded={open} aria-controls={open ? body : undefined} onClick={() => setOpen(!open)}>
        <Icon name="more" />
        {summary}
      </button>
      {open && (
        <div class="details" id={body}>
          {children()}
        </div>
      )}
    </li>
  );
}

/** The names of the columns of rows that open. Each row says to a screen reader what it has. */
export function Columns({ names }: { names: string[] }): JSX.Element {
  return (
    <li class="columns" aria-hidden="true">
      <span />
      {names.map((name) => (
        <span key={name}>{name}</span>
      ))}
    </li>
  );
}

/** Names and values. */
export function Facts({ facts }: { facts: [string, ComponentChildren][] }): JSX.Element {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
