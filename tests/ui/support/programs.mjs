// Starts the real programs, each with its data in a temporary folder, and ends them.
import { spawn, execFileSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
const target = resolve(root, process.env.CARGO_TARGET_DIR ?? 'target');
/** The folder of the programs. */
const bin = process.env.SLUICE_BIN_DIR ?? join(target, 'debug');
export const out = join(target, 'ui-screenshots');

export const sleep = (time) => new Promise((done) => setTimeout(done, time));

/** Waits until `condition` returns something that is true, and returns it. */
export async function until(what, condition, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  let last;
  for (;;) {
    try {
      const found = await condition();
      if (found) return found;
      last = found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`after ${seconds} s not yet: ${what} (last: ${last})`);
    await sleep(100);
  }
}

/** What is running, which does not outlive this process. */
const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** A program that is running. */
export class Program {
  constructor(name, args, env, log) {
    this.log = '';
    this.child = spawn(join(bin, name), args, { env: { PATH: process.env.PATH, HOME: log, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    this.child.stderr.setEncoding('utf8').on('data', (text) => (this.log = (this.log + text).slice(-200_000)));
    running.add(this.child);
    this.ended = new Promise((done) => this.child.on('exit', done));
    this.child.on('error', (error) => (this.log += `\n${error}`));
  }

  /** Waits until it listens, and returns its address. */
  async address() {
    return until(`the program listens; its log: ${this.log.slice(-2000)}`, () => {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.log.slice(-2000)}`);
      return /"message":"listening".*?"address":"([^"]*)"/.exec(this.log)?.[1];
    });
  }

  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    await this.ended;
  }
}

/** The whole system in one process. */
export class Standalone {
  static async start({ args = [], env = {} } = {}) {
    const server = new Standalone();
    server.folder = await mkdtemp(join(tmpdir(), 'sluice-ui-'));
    server.options = { args, env };
    await server.run('127.0.0.1:0');
    return server;
  }

  async run(listen) {
    const { args, env } = this.options;
    this.program = new Program('sluice-aggregator', ['standalone', '--listen', listen, '--data', join(this.folder, 'data'), ...args], env, this.folder);
    this.listen = await this.program.address();
    this.url = `http://${this.listen}`;
  }

  /** Stops it, and returns when nothing listens any more. */
  async stop() {
    await this.program.stop();
  }

  /** Starts it again, at the same address and with the same data. */
  async again() {
    await this.run(this.listen);
  }

  async end() {
    await this.program.stop('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
  }

  /** Makes the database refuse events of a topic, or take them again. */
  refuse(topic, refuse) {
    const statement = refuse
      ? `CREATE TRIGGER no_${topic} BEFORE INSERT ON events WHEN NEW.topic = '${topic}' BEGIN SELECT RAISE(ABORT, 'no events of ${topic} are taken'); END`
      : `DROP TRIGGER no_${topic}`;
    sql(join(this.folder, 'data/store.db'), statement);
  }
}

/** Runs a statement in a file of SQLite. Node.js 20 has no SQLite of its own. */
function sql(file, statement) {
  const program = 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=30); c.execute(sys.argv[2]); c.commit()';
  execFileSync('python3', ['-c', program, file, statement]);
}

/** Makes a token, and returns it with its item for the file. */
export function makeToken(...args) {
  const text = execFileSync(join(bin, 'sluice-publisher'), ['token', ...args], { encoding: 'utf8' });
  const token = /sluice_[A-Za-z0-9_-]+/.exec(text)[0];
  return { token, item: text.slice(text.indexOf('- name:')) };
}

/** Sends a request to a server, and returns the status and the body. */
export async function request(server, method, path, body, headers = {}) {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(server.url + path, {
    method,
    headers: { ...(text === undefined ? {} : { 'Content-Type': 'application/json' }), ...headers },
    ...(text === undefined ? {} : { body: text }),
  });
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Publishes events, and waits until they are stored. */
export async function publish(server, events, headers = {}) {
  const answer = await request(server, 'POST', '/publish?wait=stored', events, headers);
  if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
  return JSON.parse(answer.text);
}

export { existsSync, join, readFile, writeFile };
