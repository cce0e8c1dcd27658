import './style.css';
import { render } from 'preact';
import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { type Overview, Problem, ask, hasToken, setToken, whenUnauthorized } from './api';
import { compact, seconds } from './format';
import { Icon, type IconName, sentence } from './parts';
import { findings } from './problems';
import { ConflictsSection } from './sections/conflicts';
import { DeadLettersSection } from './sections/dead-letters';
import { EventsSection } from './sections/events';
import { HelpSection } from './sections/help';
import { MetersSection } from './sections/meters';
import { OverviewSection } from './sections/overview';
import { TopicsSection } from './sections/topics';
import { type Route, type System, SystemContext, hrefOf, useNow, useOverview, useRoute } from './state';
import { type Theme, useTheme } from './theme';

const SECTIONS: { id: string; icon: IconName; title: string; view: (route: Route) => JSX.Element }[] = [
  { id: '', icon: 'overview', title: 'Overview', view: () => <OverviewSection /> },
  { id: 'events', icon: 'events', title: 'Events', view: (route) => <EventsSection route={route} /> },
  { id: 'topics', icon: 'topics', title: 'Topics', view: () => <TopicsSection /> },
  { id: 'meters', icon: 'meters', title: 'Meters', view: () => <MetersSection /> },
  { id: 'dead-letters', icon: 'dead-letters', title: 'Dead letters', view: (route) => <DeadLettersSection route={route} /> },
  { id: 'conflicts', icon: 'conflicts', title: 'Conflicts', view: () => <ConflictsSection /> },
  { id: 'help', icon: 'help', title: 'Help', view: (route) => <HelpSection route={route} /> },
];

function Mark(): JSX.Element {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path class="gate" d="M8 7v11M16 7v7M24 7v11" />
      <path class="water" d="M6 24c2.5-2.4 5-2.4 7.5 0s5 2.4 7.5 0 3.3-2.2 5-1.3" />
    </svg>
  );
}

/** Whether the server answers and all is well, in one line. Only a change of it is said aloud. */
function Status({ system }: { system: System }): JSX.Element {
  const now = useNow();
  const { overview, problem, answeredAt } = system;
  const worst = findings(system)[0]?.level;
  const lost = problem !== null;
  const level = lost ? 'alarm' : overview === null ? 'unknown' : worst === 'alarm' || worst === 'warning' ? worst : 'good';
  const text = lost ? (problem.status === 0 ? 'No connection' : 'No answer') : { unknown: 'Connecting', good: 'All is well', warning: 'Needs attention', alarm: 'Something is wrong', notice: '' }[level];
  return (
    <p class={`health ${level}`}>
      <span class="dot" aria-hidden="true" />
      <span role="status">{text}</span>
      {lost && answeredAt !== null && <span class="since">{`state of ${seconds((now - answeredAt) / 1000)} ago`}</span>}
    </p>
  );
}

const NEXT: Record<Theme, Theme> = { auto: 'light', light: 'dark', dark: 'auto' };
const ICONS: Record<Theme, IconName> = { auto: 'auto', light: 'sun', dark: 'moon' };
const THEMES: Record<Theme, string> = { auto: 'as the system', light: 'light', dark: 'dark' };

function ThemeSwitch(): JSX.Element {
  const [theme, setTheme] = useTheme();
  return (
    <button type="button" class="quiet iconic" title={`Theme: ${THEMES[theme]}`} aria-label={`Theme: ${THEMES[theme]}. Change to ${THEMES[NEXT[theme]]}`} onClick={() => setTheme(NEXT[theme])}>
      <Icon name={ICONS[theme]} />
    </button>
  );
}

function SignIn({ refused, done }: { refused: boolean; done: () => void }): JSX.Element {
  const [value, setValue] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(refused ? 'The token is not accepted any more. It has expired, or was removed.' : null);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    const token = value.trim();
    if (!/^[\x21-\x7e]+$/.test(token)) {
      setProblem('Enter the token: one word of letters, digits and signs.');
      return;
    }
    setBusy(true);
    setToken(token);
    try {
      await ask<Overview>('/overview');
      done();
    } catch (error) {
      const problem = error as Problem;
      // It is a valid token, which may do something else: the page says so where it matters.
      if (problem.status === 403) {
        done();
        return;
      }
      if (problem.status === 401) {
        setToken(null);
        setProblem('This token is not accepted: it is misspelled, has expired, or is not in the file of this server.');
      } else if (problem.status === 0) {
        setToken(null);
        setProblem(`${sentence(problem)} Check that it runs, and try again.`);
      } else done();
      input.current?.focus();
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="signin">
      <Mark />
      <h1>Sign in to Sluice</h1>
      <p class="muted">This server needs a token. It stays in this tab until you sign out or close the tab, and is sent to this server alone.</p>
      <form onSubmit={submit}>
        <label>
          <span>Token</span>
          <input
            ref={input}
            type="password"
            name="token"
            value={value}
            autocomplete="off"
            spellcheck={false}
            aria-invalid={problem !== null}
            aria-describedby={problem === null ? undefined : 'signin-problem'}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        </label>
        {problem !== null && (
          <p class="failed" id="signin-problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class="primary" disabled={busy}>
          {busy ? 'Checking…' : 'Sign in'}
        </button>
      </form>
      <p class="muted">
        A token for this page needs the scope <code>read</code>, and <code>admin</code> to replay and discard. <code>sluice-publisher token</code> makes one.
      </p>
    </main>
  );
}

function Navigation({ current, system }: { current: string; system: System }): JSX.Element {
  const totals = system.overview?.totals;
  const badges: Record<string, number> = { 'dead-letters': totals?.dead_lettered ?? 0, conflicts: totals?.conflicts ?? 0 };
  const strip = useRef<HTMLElement>(null);
  useEffect(() => strip.current?.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' }), [current]);
  return (
    <nav class="sections" aria-label="Sections" ref={strip}>
      <ul>
        {SECTIONS.map(({ id, icon, title }) => (
          <li key={id}>
            <a href={hrefOf(id)} aria-current={id === current ? 'page' : undefined}>
              <Icon name={icon} />
              <span>{title}</span>
              {(badges[id] ?? 0) > 0 && <span class={`badge ${id}`}>{compact(badges[id] ?? 0)}</span>}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  );
}

function App(): JSX.Element {
  const [locked, setLocked] = useState<'no' | 'yes' | 'refused'>('no');
  const [session, setSession] = useState(0);
  const route = useRoute();
  const system = useOverview(locked === 'no');
  const main = useRef<HTMLElement>(null);
  const section = SECTIONS.find(({ id }) => id === route.section) ?? SECTIONS[0]!;
  const shown = useRef(section.id);
  useEffect(() => {
    whenUnauthorized((hadToken) => {
      if (hadToken) setToken(null);
      setLocked(hadToken ? 'refused' : 'yes');
    });
  }, []);
  useEffect(() => {
    document.title = locked === 'no' ? `${section.title} · Sluice` : 'Sign in · Sluice';
    // After a change of the section the keyboard goes on at its beginning.
    if (shown.current !== section.id) main.current?.focus();
    shown.current = section.id;
  }, [section.id, locked]);
  if (locked !== 'no') {
    return (
      <SignIn
        refused={locked === 'refused'}
        done={() => {
          setLocked('no');
          setSession(session + 1);
        }}
      />
    );
  }
  return (
    <SystemContext.Provider value={system} key={session}>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the content
      </a>
      <header class="top">
        <a class="brand" href={hrefOf('')} aria-label="Sluice, overview">
          <Mark />
          <span>Sluice</span>
        </a>
        <Status system={system} />
        <div class="tools">
          {system.overview !== null && <span class="version">{system.overview.version}</span>}
          <ThemeSwitch />
          {hasToken() && (
            <button
              type="button"
              class="quiet"
              onClick={() => {
                setToken(null);
                setLocked('yes');
              }}
            >
              Sign out
            </button>
          )}
        </div>
      </header>
      <Navigation current={section.id} system={system} />
      <main id="content" tabIndex={-1} ref={main} data-section={section.id || 'overview'}>
        <h1>{section.title}</h1>
        {section.view(route)}
      </main>
    </SystemContext.Provider>
  );
}

render(<App />, document.getElementById('app')!);
