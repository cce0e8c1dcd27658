import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { type Conflict, type Problem, type StoredEvent, ask, eventPath, withQuery } from '../api';
import { cut } from '../format';
import { Columns, Empty, Facts, HelpLink, Payload, Row, Time, Trouble } from '../parts';
import { hrefOf, useQuery } from '../state';

interface Page {
  conflicts: Conflict[];
  next_cursor: string | null;
}

function Both({ conflict }: { conflict: Conflict }): JSX.Element {
  const path = eventPath(conflict.topic, conflict.event_id);
  const stored = useQuery<StoredEvent>(path, (signal) => ask(path, { signal }));
  return (
    <>
      <Facts
        facts={[
          ['Topic', <a href={hrefOf('events', { topic: conflict.topic })}>{conflict.topic}</a>],
          ['Event id', conflict.event_id],
          ['Source of the dropped one', conflict.source ?? '–'],
          ['Dropped', conflict.seen_at],
          ['Request of the dropped one', conflict.request_id],
        ]}
      />
      <div class="pair">
        <div>
          <h2 class="part">Stored</h2>
          {stored.problem !== null && <Trouble problem={stored.problem} what="The stored event cannot be loaded." reload={stored.reload} />}
          {stored.data !== null && (stored.data.payload === undefined ? <p class="muted">Its payload was erased or is damaged.</p> : <Payload json={stored.data.payload} label="stored payload" />)}
        </div>
        <div>
          <h2 class="part">Dropped</h2>
          <Payload json={conflict.payload} label="dropped payload" />
        </div>
      </div>
    </>
  );
}

export function ConflictsSection(): JSX.Element {
  const { data, problem, loading, reload } = useQuery<Page>('conflicts', (signal) => ask('/conflicts?limit=50', { signal }), 10_000);
  const [more, setMore] = useState<{ conflicts: Conflict[]; next: string | null; problem: Problem | null } | null>(null);
  const conflicts = [...(data?.conflicts ?? []), ...(more?.conflicts ?? [])];
  const next = more === null ? (data?.next_cursor ?? null) : more.next;
  const older = async (): Promise<void> => {
    try {
      const page = await ask<Page>(withQuery('/conflicts', { limit: 50, cursor: next }));
      setMore({ conflicts: [...(more?.conflicts ?? []), ...page.conflicts], next: page.next_cursor, problem: null });
    } catch (error) {
      setMore({ conflicts: more?.conflicts ?? [], next, problem: error as Problem });
    }
  };
  return (
    <>
      {problem !== null && <Trouble problem={problem} what="The conflicts cannot be loaded." reload={reload} />}
      {data === null && loading && <p class="muted">Loading…</p>}
      {data !== null && conflicts.length === 0 && (
        <Empty title="There are no conflicts.">
          <p>
            Here would be duplicates whose payload differs from the one that is stored. They are kept for a week.{' '}
            <HelpLink id="conflicts">More about conflicts</HelpLink>
          </p>
        </Empty>
      )}
      {conflicts.length > 0 && (
        <ol class="rows conflicts">
          <Columns names={['Dropped', 'Topic', 'Event id', 'Payload that was dropped']} />
          {conflicts.map((conflict) => (
            <Row
              key={`${conflict.topic}/${conflict.event_id}/${conflict.seen_at}/${conflict.request_id}`}
              id={`${conflict.topic}/${conflict.event_id}`}
              summary={
                <>
                  <span class="time">
                    <Time iso={conflict.seen_at} />
                  </span>
                  <span class="topic">{conflict.topic}</span>
                  <span class="id">{conflict.event_id}</span>
                  <code class="brief">{cut(conflict.payload, 160)}</code>
                </>
              }
            >
              {() => <Both conflict={conflict} />}
            </Row>
          ))}
        </ol>
      )}
      {more?.problem && <Trouble problem={more.problem} what="Older conflicts cannot be loaded." reload={older} />}
      {next !== null && (
        <button type="button" class="wide" onClick={older}>
          Older conflicts
        </button>
      )}
    </>
  );
}
