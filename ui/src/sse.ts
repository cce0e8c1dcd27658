// Server-sent events by a streaming fetch: EventSource cannot send a token.
import { Problem, send } from './api';

export interface Message {
  id: string | null;
  event: string;
  data: string;
}

/** Splits what arrives into messages. A comment that has an id is a message without data. */
export class Parser {
  private rest = '';
  private id: string | null = null;
  private event = '';
  private data: string[] = [];

  feed(chunk: string): Message[] {
    const messages: Message[] = [];
    const lines = (this.rest + chunk).split('\n');
    this.rest = lines.pop() ?? '';
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
      if (line === '') {
        if (this.data.length > 0 || this.id !== null) {
          messages.push({ id: this.id, event: this.event || 'message', data: this.data.join('\n') });
        }
        this.id = null;
        this.event = '';
        this.data = [];
        continue;
      }
      const colon = line.indexOf(':');
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
      if (field === 'id') this.id = value;
      else if (field === 'event') this.event = value;
      else if (field === 'data') this.data.push(value);
    }
    return messages;
  }
}

export type StreamState = 'connecting' | 'open' | 'waiting';

/** How long to wait before the next attempt, in milliseconds. */
const PAUSE = { first: 1_000, longest: 15_000 };

function sleep(time: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/**
 * Follows a stream until the signal is aborted. Where it ends, it goes on after the last message. A refusal that another attempt does
 * not change is thrown.
 */
export async function follow(
  path: string,
  signal: AbortSignal,
  onMessage: (message: Message) => void,
  onState: (state: StreamState, problem: Problem | null) => void,
): Promise<void> {
  let last: string | null = null;
  let pause = PAUSE.first;
  while (!signal.aborted) {
    let problem: Problem | null = null;
    try {
      onState('connecting', null);
      const headers: Record<string, string> = { Accept: 'text/event-stream' };
      if (last !== null) headers['Last-Event-ID'] = last;
      const response = await send(path, { headers, signal });
      onState('open', null);
      pause = PAUSE.first;
      const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      for (;;) {
        const read = await reader?.read();
        if (read === undefined || read.done) break;
        for (const message of parser.feed(read.value)) {
          last = message.id ?? last;
          onMessage(message);
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
      problem = error instanceof Problem ? error : new Problem(0, 'unreachable', 'the connection was interrupted');
    }
    if (signal.aborted) return;
    onState('waiting', problem);
    await sleep(pause, signal);
    pause = Math.min(pause * 2, PAUSE.longest);
  }
}
