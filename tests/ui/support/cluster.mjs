// Redis, PostgreSQL, a publisher, and aggregators behind one address.
import { execFileSync, spawn } from 'node:child_process';
import { chownSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Program, until } from './programs.mjs';

/** Returns a port that is free now. */
async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** PostgreSQL does not run as root: as root it is started as the user of its package. */
function asUser(program, args) {
  return process.getuid() === 0 ? ['setpriv', ['--reuid=postgres', '--regid=postgres', '--init-groups', program, ...args]] : [program, args];
}

async function postgresBin() {
  if (process.env.SLUICE_PG_BIN) return process.env.SLUICE_PG_BIN;
  const versions = await readdir('/usr/lib/postgresql');
  return `/usr/lib/postgresql/${versions.sort((a, b) => b - a)[0]}/bin`;
}

class Server {
  constructor(program, args) {
    this.log = '';
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: '/' });
    for (const stream of [this.child.stdout, this.child.stderr]) stream.setEncoding('utf8').on('data', (text) => (this.log += text));
    this.ended = new Promise((done) => this.child.on('exit', done));
  }

  async stop(signal) {
    this.child.kill(signal);
    await this.ended;
  }
}

/** Leads each connection to the next of several ports: what a Service of Kubernetes does. */
class Balancer {
  constructor(ports) {
    this.ports = ports;
    this.open = new Map();
    let next = 0;
    this.server = net.createServer((client) => {
      const port = this.ports[next++ % this.ports.length];
      const upstream = net.connect(port, '127.0.0.1');
      this.open.set(client, port);
      client.on('close', () => this.open.delete(client));
      for (const [from, to] of [[client, upstream], [upstream, client]]) {
        from.pipe(to);
        from.on('error', () => to.destroy());
        from.on('close', () => to.destroy());
      }
    });
    this.server.listen(0, '127.0.0.1');
  }

  /** Leads nobody to a port any more, as after a probe that failed. */
  leaveOut(port) {
    this.ports = this.ports.filter((other) => other !== port);
    for (const [client, of] of this.open) if (of === port) client.destroy();
  }
}

export class Cluster {
  static async start(replicas = 2) {
    const cluster = new Cluster();
    cluster.folder = await mkdtemp(join(tmpdir(), 'sluice-ui-cluster-'));
    execFileSync('chmod', ['755', cluster.folder]);
    const [redis, postgres] = [await freePort(), await freePort()];
    await mkdir(join(cluster.folder, 'redis'));
    const redisArgs = ['--port', redis, '--dir', join(cluster.folder, 'redis'), '--appendonly', 'yes', '--appendfsync', 'always', '--save', '', '--maxmemory-policy', 'noeviction', '--maxmemory', '256mb'];
    cluster.redis = new Server('redis-server', redisArgs.map(String));
    await cluster.initPostgres(postgres);
    await cluster.startPostgres();
    const env = { SLUICE_REDIS_URL: `redis://127.0.0.1:${redis}`, SLUICE_DATABASE_URL: `postgres://sluice@127.0.0.1:${postgres}/postgres` };
    cluster.aggregators = [];
    for (let n = 0; n < replicas; n += 1) {
      const args = ['run', '--listen', '127.0.0.1:0', '--consumer', `aggregator-${n}`, '--claim-after', '60s'];
      cluster.aggregators.push(new Program('sluice-aggregator', args, env, cluster.folder));
    }
    const ports = [];
    for (const aggregator of cluster.aggregators) ports.push(Number((await aggregator.address()).split(':').at(-1)));
    cluster.ports = ports;
    cluster.balancer = new Balancer(ports);
    const { port } = await until('the balancer listens', () => cluster.balancer.server.address());
    const query = `http://127.0.0.1:${port}`;
    cluster.publisher = new Program('sluice-publisher', ['serve', '--listen', '127.0.0.1:0', '--query-url', query], env, cluster.folder);
    cluster.url = `http://${await cluster.publisher.address()}`;
    await until('the aggregators are ready', async () => (await fetch(`${query}/readyz`)).ok && (await fetch(`${cluster.url}/overview`)).ok, 60);
    return cluster;
  }

  async initPostgres(port) {
    this.port = port;
    this.data = join(this.folder, 'postgres');
    this.bin = await postgresBin();
    await mkdir(this.data);
    if (process.getuid() === 0) {
      const id = (option) => Number(execFileSync('id', [option, 'postgres'], { encoding: 'utf8' }));
      chownSync(this.data, id('-u'), id('-g'));
    }
    const [program, args] = asUser(join(this.bin, 'initdb'), ['-D', this.data, '-U', 'sluice', '--auth', 'trust', '--no-sync', '-E', 'UTF8', '--locale', 'C.UTF-8']);
    execFileSync(program, args, { stdio: 'pipe', cwd: '/' });
  }

  async startPostgres() {
    const [program, args] = asUser(join(this.bin, 'postgres'), ['-D', this.data, '-p', String(this.port), '-k', '', '-h', '127.0.0.1', '-c', 'max_connections=200']);
    this.postgres = new Server(program, args);
    await until(`PostgreSQL accepts connections; its log: ${this.postgres.log}`, () => {
      execFileSync(join(this.bin, 'pg_isready'), ['-q', '-h', '127.0.0.1', '-p', String(this.port)]);
      return true;
    });
  }

  /** Lets an aggregator stand still, and nobody is led to it. */
  freeze(replica) {
    this.aggregators[replica].child.kill('SIGSTOP');
    this.balancer.leaveOut(this.ports[replica]);
  }

  /** Ends PostgreSQL at once, as `pg_ctl stop -m immediate` does. */
  async stopPostgres() {
    await this.postgres.stop('SIGQUIT');
  }

  async end() {
    this.balancer?.server.close();
    for (const program of [this.publisher, ...(this.aggregators ?? [])]) {
      program?.child.kill('SIGCONT');
      await program?.stop('SIGKILL');
    }
    await this.postgres?.stop('SIGQUIT');
    await this.redis?.stop('SIGKILL');
    await rm(this.folder, { recursive: true, force: true });
  }
}
