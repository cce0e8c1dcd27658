// What to do about each thing that can be wrong: short, with the section of the documentation that has it all.

export interface Help {
  id: string;
  title: string;
  means: string;
  steps: string[];
  /** File and section of the documentation. */
  docs: string;
}

export const HELP: Help[] = [
  {
    id: 'unreachable',
    title: 'The server does not answer',
    means: 'This page gets no answer. What it shows is the last state that it knows. Publishing may work nevertheless, if only the queries fail.',
    steps: [
      'Check that the server runs, and that this browser reaches its address.',
      'Open /healthz: it answers while the process runs. Open /readyz: it says in words what is missing.',
      'The page asks again by itself, and goes on as soon as there is an answer.',
    ],
    docs: 'docs/operations.md#at-a-glance',
  },
  {
    id: 'aggregators',
    title: 'The aggregators behind the publisher do not answer',
    means: 'The publisher accepts events and writes them to the log. It cannot forward questions, so this page is empty.',
    steps: [
      'Check that the aggregators run, and their /readyz.',
      'Check --query-url of the publisher. The log of the publisher has the reason.',
      'Events that are accepted meanwhile wait in the log, and are stored later.',
    ],
    docs: 'docs/operations.md#the-publisher-answers-503',
  },
  {
    id: 'store',
    title: 'The store cannot be used',
    means: 'PostgreSQL, or the file of standalone, does not answer or refuses. Events are still accepted and wait in the log; nothing is lost. Counts are not known meanwhile.',
    steps: [
      'Check that PostgreSQL runs, accepts connections, and has room on its disk.',
      'The log of the aggregator names the error: look for "not ready" and "cannot commit".',
      'Nothing has to be repeated: what waits is stored as soon as the store is back.',
    ],
    docs: 'docs/operations.md#postgresql',
  },
  {
    id: 'log',
    title: 'The log cannot be used',
    means: 'Redis, or the log of standalone, does not answer. Publishing is answered 503, so clients know that they must repeat their requests. What is stored can be read.',
    steps: [
      'Check that Redis runs, and has memory and disk space.',
      'The log of the publisher and of the aggregator names the error.',
      'Clients that repeat a request with the same Idempotency-Key are counted once.',
    ],
    docs: 'docs/operations.md#redis',
  },
  {
    id: 'commits',
    title: 'A batch cannot be committed',
    means: 'The store has refused the same batch several times. The aggregator repeats it; what comes after it waits.',
    steps: [
      'Look for "cannot commit, trying again" in the log of the aggregator. It has the error of the database.',
      'Remove the cause: room on the disk, a lock that somebody holds, a database that is too slow.',
      'Nothing is lost. The batch is stored as soon as the cause is gone.',
    ],
    docs: 'docs/operations.md#the-backlog-grows',
  },
  {
    id: 'losses',
    title: 'A server has lost something that it had confirmed',
    means: 'PostgreSQL or Redis was restored from a backup or failed over, and is missing commits or entries. What the log still has is stored again.',
    steps: [
      'Wait while it is stored again: the note disappears.',
      'If a note names a time from which events are missing, send the events of that time again. What is there already is dropped as a duplicate.',
      'Run the audit afterwards.',
    ],
    docs: 'docs/high-availability.md#postgresql',
  },
  {
    id: 'durability',
    title: 'A server is not set as durability needs',
    means: 'With this setting of Redis or PostgreSQL, events that were confirmed can be lost when the power is cut.',
    steps: ['Change the setting that the note names, and restart that server.', 'Until then, an answer of 202 or a commit promises less than it should.'],
    docs: 'docs/operations.md#what-redis-and-postgresql-must-promise',
  },
  {
    id: 'replicas',
    title: 'A replica holds entries and does not ask for more',
    means: 'A replica has read entries and not stored them, and has not asked for more for a while. It is dead, frozen, or waits for the database.',
    steps: [
      'If the replica is gone for good, do nothing: the others claim its entries after --claim-after (30 seconds).',
      'If it runs, look at its log for "cannot commit".',
      'If no replica is left, start one.',
    ],
    docs: 'docs/operations.md#the-backlog-grows',
  },
  {
    id: 'backlog',
    title: 'The backlog grows',
    means: 'More events are published than stored. They wait in the log, and nothing is lost. When the backlog reaches --max-backlog, publishers answer 429.',
    steps: [
      'Check that all replicas run, and that the database is not slow.',
      'Start more replicas, or give each more workers.',
      'A short peak needs nothing: the backlog falls by itself afterwards.',
    ],
    docs: 'docs/operations.md#the-backlog-grows',
  },
  {
    id: 'latency',
    title: 'Events take long until they are stored',
    means: 'The time from accepting an event to its row is long. The backlog or the database is the cause, or the clocks of the machines differ.',
    steps: ['Look at the backlog first.', 'Compare the clocks of publishers and aggregators: the time is measured with both.', 'Look at sluice_commit_seconds: high values mean a slow disk.'],
    docs: 'docs/operations.md#the-backlog-grows',
  },
  {
    id: 'dead-letters',
    title: 'Events could not be stored',
    means: 'The database refused an event because of its data, or an entry could not be read. It is kept as a dead letter with the reason, and counted nowhere else.',
    steps: [
      'Open the dead letters, and read the reasons.',
      'Remove the cause, such as a constraint or a trigger in the database. Then replay them: they are stored and counted once.',
      'Discard what can never be stored. The audit still accounts for it.',
    ],
    docs: 'docs/operations.md#dead-letters',
  },
  {
    id: 'conflicts',
    title: 'Events with the same id have different payloads',
    means: 'A client has sent an event whose topic and id are stored already, with another payload. The first payload stays, and the other one is kept for a week.',
    steps: [
      'Open the conflicts, and compare the two payloads.',
      'Find the client by the source, and let it use a new id for each event.',
    ],
    docs: 'docs/api.md#publishing',
  },
  {
    id: 'audit',
    title: 'The audit, and a difference that it has found',
    means: 'sluice-aggregator audit compares the counters of the log, the counters of the store and its rows. With --record it notes its result for this page, for metrics and for an alert. If it finds a difference, events are missing or were counted twice.',
    steps: [
      'Run sluice-aggregator audit again: it prints every comparison, and which one differs.',
      'Keep the logs of all programs, and back up the database before anything is changed.',
    ],
    docs: 'docs/operations.md#load-and-proof',
  },
  {
    id: 'maintenance',
    title: 'Maintenance is behind',
    means: 'Events or tables that --retention should have removed are still there, a partition of events is not closed in time, or a closed one has no filter. Nothing is lost. The disk fills up, or storing becomes slower.',
    steps: [
      'Look for a dump or another long transaction in the database. What it reads is removed after it has ended.',
      'Look for "maintenance failed" and "maintenance of the partitions" in the log of the aggregator. It has the error of the database.',
      'Without a filter: raise --filter-memory.',
    ],
    docs: 'docs/runbooks.md#sluiceretentionbehind',
  },
  {
    id: 'other',
    title: 'A replica reports something about itself',
    means: 'The note says what. The log of the replica has the details.',
    steps: ['Read the log of the replica that the note is from.'],
    docs: 'docs/operations.md#at-a-glance',
  },
  {
    id: 'access',
    title: 'Signing in, and what a token may do',
    means: 'A token has scopes. read shows data; admin replays and discards; publish publishes. A token can be bounded by topics, and then sees only these.',
    steps: [
      'Make a token: sluice-publisher token --name NAME --scope read --scope admin, and add what it prints to the file of tokens.',
      'The page keeps the token in this tab until it is closed, and sends it to this server alone.',
    ],
    docs: 'docs/security.md#authorization',
  },
];

export const helpOf = (id: string): Help | undefined => HELP.find((help) => help.id === id);
