import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { type Counts, type DeadLetter, Problem, ask, withQuery } from '../api';
import { count, cut, number } from '../format';
import { Columns, Confirm, type Confirmation, Empty, Facts, HelpLink, Icon, Payload, Row, Time, Trouble, sentence } from '../parts';
import { type Route, hrefOf, useQuery } from '../state';

interface Page {
  dead_letters: DeadLetter[];
  next_cursor: string | null;
}

interface Replayed {
  matched: number;
  events: number;
  replayed: number;
  still_refused: number;
  counts: Counts;
  next_cursor: string | null;
}

/** What was done last, said aloud. */
interface Result {
  good: boolean;
  text: string;
  problem?: Problem;
}

function counted({ unique_processed: stored, duplicate_dropped: duplicates }: Counts): string {
  return `${count(stored, 'event')} stored, ${count(duplicates, 'duplicate')} dropped`;
}

/** Replays what matches, in as many calls as it takes. */
async function replayAll(code: string): Promise<Result> {
  const sum = { replayed: 0, refused: 0, stored: 0, duplicates: 0 };
  let cursor: string | null = null;
  do {
    const answer: Replayed = await ask(withQuery('/dead-letters/replay', { code, cursor, limit: 200 }), { method: 'POST' });
    sum.replayed += answer.replayed;
    sum.refused += answer.still_refused;
    sum.stored += answer.counts.unique_processed;
    sum.duplicates += answer.counts.duplicate_dropped;
    cursor = answer.next_cursor;
  } while (cursor !== null);
  const refused = sum.refused === 0 ? '' : ` ${count(sum.refused, 'dead letter')} were refused again, and stay.`;
  return {
    good: sum.refused === 0,
    text: `${count(sum.replayed, 'dead letter')} replayed: ${counted({ received: 0, unique_processed: sum.stored, duplicate_dropped: sum.duplicates, conflicts: 0 })}.${refused}`,
  };
}

export function DeadLettersSection({ route }: { route: Route }): JSX.Element {
  const code = route.parameters.get('code') ?? '';
  const path = withQuery('/dead-letters', { code, limit: 50 });
  const { data, problem, loading, reload } = useQuery<Page>(path, (signal) => ask(path, { signal }), 10_000);
  const [more, setMore] = useState<{ of: string; letters: DeadLetter[]; next: string | null }>({ of: '', letters: [], next: null });
  const [confirmation, setConfirmation] = useState<Confirmation | null>(null);
  const [result, setResult] = useState<Result | null>(null);
  const [typed, setTyped] = useState(code);
  const older = more.of === path ? more : null;
  const letters = [...(data?.dead_letters ?? []), ...(older?.letters ?? [])];
  const next = older === null ? (data?.next_cursor ?? null) : older.next;

  const run = async (what: string, action: () => Promise<Result>): Promise<void> => {
    try {
      setResult(await action());
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem(0, 'unknown', String(error));
      setResult({ good: false, text: what, problem });
    }
    setMore({ of: '', letters: [], next: null });
    reload();
  };
  const replay = (letter: DeadLetter): Promise<void> =>
    run(`Dead letter ${letter.id} was not replayed.`, async () => {
      const answer = await ask<{ replayed: Counts }>(`/dead-letters/${letter.id}/replay`, { method: 'POST' });
      return { good: true, text: `Dead letter ${letter.id} was replayed: ${counted(answer.replayed)}.` };
    });
  const discard = (letter: DeadLetter): void =>
    setConfirmation({
      title: `Discard dead letter ${letter.id}?`,
      text: `${count(letter.events, 'event')} will be gone for good. The audit counts ${letter.events === 1 ? 'it' : 'them'} as discarded.`,
      action: 'Discard',
      dangerous: true,
      run: () =>
        run(`Dead letter ${letter.id} was not discarded.`, async () => {
          const answer = await ask<{ discarded: number }>(`/dead-letters/${letter.id}`, { method: 'DELETE' });
          return { good: true, text: `Dead letter ${letter.id} was discarded, with ${count(answer.discarded, 'event')}.` };
        }),
    });
  const askForAll = async (): Promise<void> => {
    try {
      const dry = await ask<Replayed>(withQuery('/dead-letters/replay', { code, dry_run: 'true', limit: 1000 }), { method: 'POST' });
      const atLeast = dry.next_cursor === null ? '' : 'at least ';
      setConfirmation({
        title: 'Replay all dead letters?',
        text: `${atLeast}${count(dry.matched, 'dead letter')} with ${count(dry.events, 'event')} ${code === '' ? '' : `and the code ${code} `}would be stored and counted. What the database still refuses stays here. Entries that killed their reader are left out unless you filter by their code.`,
        action: 'Replay all',
        run: () => run('They were not replayed.', () => replayAll(code)),
      });
    } catch (error) {
      setResult({ good: false, text: 'They cannot be replayed.', problem: error as Problem });
    }
  };
  const older50 = async (): Promise<void> => {
    try {
      const page = await ask<Page>(`${path}&cursor=${encodeURIComponent(next ?? '')}`);
      setMore({ of: path, letters: [...(older?.letters ?? []), ...page.dead_letters], next: page.next_cursor });
    } catch (error) {
      setResult({ good: false, text: 'Older ones cannot be loaded.', problem: error as Problem });
    }
  };
  return (
    <>
      <form
        class="filters"
        role="search"
        aria-label="Dead letters"
        onSubmit={(event) => {
          event.preventDefault();
          location.hash = hrefOf('dead-letters', { code: typed });
        }}
      >
        <label>
          <span>Code</span>
          <input type="text" name="code" value={typed} spellcheck={false} autocomplete="off" onInput={(event) => setTyped(event.currentTarget.value)} />
        </label>
        <div class="buttons">
          <button type="submit" class="primary">
            Apply
          </button>
          <button type="button" disabled={letters.length === 0} onClick={askForAll}>
            Replay all{code === '' ? '' : ' of this code'}…
          </button>
        </div>
      </form>
      <div role="status" class="result">
        {result !== null && (
          <p class={result.good ? 'done' : 'failed'}>
            <Icon name={result.good ? 'good' : 'alarm'} /> {result.text} {result.problem ? sentence(result.problem) : ''}{' '}
            {result.problem?.status === 403 && <HelpLink id="access">Who may do this</HelpLink>}
          </p>
        )}
      </div>
      {problem !== null && <Trouble problem={problem} what="The dead letters cannot be loaded." reload={reload} />}
      {data === null && loading && <p class="muted">Loading…</p>}
      {data !== null && letters.length === 0 && (
        <Empty title={code === '' ? 'There are no dead letters.' : 'No dead letter has this code.'}>
          <p>
            Here would be every event that could not be stored, with the reason, to be replayed when the cause is gone.{' '}
            <HelpLink id="dead-letters">More about dead letters</HelpLink>
          </p>
        </Empty>
      )}
      {letters.length > 0 && (
        <ol class="rows letters">
          <Columns names={['Failed', 'Topic', 'Event id', 'Reason']} />
          {letters.map((letter) => (
            <Row
              key={letter.id}
              id={String(letter.id)}
              summary={
                <>
                  <span class="time">
                    <Time iso={letter.failed_at} />
                  </span>
                  <span class="topic">{letter.topic ?? `${number(letter.events)} events`}</span>
                  <span class="id">{letter.event_id ?? `entry ${letter.position}`}</span>
                  <span class="brief">
                    <code>{letter.code}</code> {cut(letter.reason, 200)}
                  </span>
                </>
              }
            >
              {() => (
                <>
                  <p class="reason">{letter.reason}</p>
                  <Facts
                    facts={[
                      ['Code', letter.code],
                      ['Failed', letter.failed_at],
                      ['Events', number(letter.events)],
                      ['Position', letter.position],
                      ...letter.content.map((event): [string, string] => ['Source', event.source ?? '–']),
                      ...letter.content.map((event): [string, string] => ['Request', event.request_id]),
                    ]}
                  />
                  {letter.content.map((event) => (
                    <Payload key="payload" json={event.payload} label="payload" />
                  ))}
                  {letter.content.length === 0 && <p class="muted">The content is not shown: it is a whole entry, or larger than 1 MiB.</p>}
                  <div class="buttons">
                    <button type="button" class="primary" onClick={() => replay(letter)}>
                      Replay
                    </button>
                    <button type="button" class="danger" onClick={() => discard(letter)}>
                      Discard…
                    </button>
                  </div>
                </>
              )}
            </Row>
          ))}
        </ol>
      )}
      {next !== null && (
        <button type="button" class="wide" onClick={older50}>
          Older dead letters
        </button>
      )}
      {confirmation !== null && <Confirm confirmation={confirmation} close={() => setConfirmation(null)} />}
    </>
  );
}
