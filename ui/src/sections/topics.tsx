import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { type TopicPage, ask, withQuery } from '../api';
import { count, number } from '../format';
import { Command, Empty, Trouble } from '../parts';
import { hrefOf, useQuery } from '../state';
import { publishCommand } from './overview';

/** The topics that are asked for at most. */
const MAX = 10_000;
/** The rows that are drawn at first, and with each press of the button below them. */
const STEP = 100;

type Topic = TopicPage['topics'][number];
type Column = 'topic' | 'received' | 'unique_processed' | 'duplicate_dropped' | 'conflicts';

const COLUMNS: { id: Column; label: string }[] = [
  { id: 'topic', label: 'Topic' },
  { id: 'received', label: 'Received' },
  { id: 'unique_processed', label: 'Stored' },
  { id: 'duplicate_dropped', label: 'Duplicates' },
  { id: 'conflicts', label: 'Conflicts' },
];

async function all(signal: AbortSignal): Promise<{ topics: Topic[]; more: boolean }> {
  const topics: Topic[] = [];
  let cursor: string | null = null;
  do {
    const page: TopicPage = await ask(withQuery('/topics', { limit: 5000, cursor }), { signal });
    topics.push(...page.topics);
    cursor = page.next_cursor;
  } while (cursor !== null && topics.length < MAX);
  return { topics, more: cursor !== null };
}

function sorted(topics: Topic[], by: Column, descending: boolean): Topic[] {
  const compare = (a: Topic, b: Topic): number => (by === 'topic' ? a.topic.localeCompare(b.topic) : a[by] - b[by] || b.topic.localeCompare(a.topic));
  return topics.toSorted((a, b) => (descending ? compare(b, a) : compare(a, b)));
}

export function TopicsSection(): JSX.Element {
  const { data, problem, loading, reload } = useQuery('topics', all, 10_000);
  const [search, setSearch] = useState('');
  const [by, setBy] = useState<Column>('received');
  const [descending, setDescending] = useState(true);
  const [rows, setRows] = useState(STEP);
  const words = search.toLowerCase();
  const found = sorted((data?.topics ?? []).filter(({ topic }) => topic.toLowerCase().includes(words)), by, descending);
  const order = (column: Column): void => {
    setDescending(column === by ? !descending : column !== 'topic');
    setBy(column);
  };
  return (
    <>
      <form class="filters" role="search" aria-label="Topics" onSubmit={(event) => event.preventDefault()}>
        <label>
          <span>Search</span>
          <input
            type="search"
            value={search}
            placeholder="Part of a name"
            spellcheck={false}
            onInput={(event) => {
              setSearch(event.currentTarget.value);
              setRows(STEP);
            }}
          />
        </label>
      </form>
      {problem !== null && <Trouble problem={problem} what="The topics cannot be loaded." reload={reload} />}
      <p class="muted" role="status">
        {data === null ? (loading ? 'Loading…' : '') : search === '' ? count(found.length, 'topic') : `${number(found.length)} of ${count(data.topics.length, 'topic')}`}
        {data?.more ? `, the first ${number(MAX)} by name` : ''}
      </p>
      {data !== null && data.topics.length === 0 && (
        <Empty title="There is no topic yet.">
          <p>A topic exists from its first event on.</p>
          <Command text={publishCommand()} label="the command that publishes an event" />
        </Empty>
      )}
      {data !== null && data.topics.length > 0 && found.length === 0 && <Empty title="No topic has this in its name." />}
      {found.length > 0 && (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of topics">
          <table class="topics">
            <thead>
              <tr>
                {COLUMNS.map(({ id, label }) => (
                  <th scope="col" key={id} class={id === 'topic' ? '' : 'n'} aria-sort={id === by ? (descending ? 'descending' : 'ascending') : undefined}>
                    <button type="button" class="sort" onClick={() => order(id)}>
                      {label}
                      <span aria-hidden="true">{id === by ? (descending ? ' ↓' : ' ↑') : ''}</span>
                    </button>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, rows).map((topic) => (
                <tr key={topic.topic}>
                  <th scope="row">
                    <a href={hrefOf('events', { topic: topic.topic })}>{topic.topic}</a>
                  </th>
                  <td class="n">{number(topic.received)}</td>
                  <td class="n">{number(topic.unique_processed)}</td>
                  <td class="n">{number(topic.duplicate_dropped)}</td>
                  <td class={topic.conflicts > 0 ? 'n warning' : 'n'}>{number(topic.conflicts)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      {found.length > rows && (
        <button type="button" class="wide" onClick={() => setRows(rows + STEP)}>
          {`Show ${Math.min(STEP, found.length - rows)} more of ${number(found.length - rows)}`}
        </button>
      )}
    </>
  );
}
