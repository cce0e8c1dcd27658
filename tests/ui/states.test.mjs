// The page of an empty, a busy and a broken system, on Redis and PostgreSQL, through the publisher; and the screenshots of them, at three
// widths and in both themes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { Cluster } from './support/cluster.mjs';
import { request, sleep, until } from './support/programs.mjs';
import { Tab, closeBrowser } from './support/browser.mjs';

const SIZES = [[390, 844], [1280, 800], [1920, 1080]];
/** How long the busy system is busy before it is looked at, in seconds. */
const BUSY = Number(process.env.SLUICE_UI_SECONDS ?? 30);

after(closeBrowser);

/** Makes screenshots of a section at each width, in both themes. `look` waits for what is to be seen. */
async function shootAll(server, state, section, look, expectErrors = []) {
  for (const [width, height] of SIZES) {
    for (const theme of ['light', 'dark']) {
      const tab = await Tab.open(server, { hash: `#/${section}`, width, height, theme, expectErrors });
      await look(tab);
      await tab.fits(`${state} #/${section} at ${width} px`);
      await tab.check(`${state} #/${section} at ${width} px in ${theme}`);
      await tab.shoot(`${state}-${section.split('?')[0] || 'overview'}-${width}-${theme}`);
      await tab.close();
    }
  }
}

/** Publishes until it is stopped, at a rate that changes: 30% are duplicates, and now and then one is a conflict. */
class Load {
  constructor(server) {
    this.server = server;
    this.running = true;
    this.sent = 0;
    this.done = this.run();
  }

  async run() {
    const sources = ['web', 'app', 'till', 'partner'];
    const topics = ['orders', 'payments', 'carts', 'visits', 'searches', 'stock.eu', 'stock.us', 'mails', 'reviews', 'returns'];
    for (let n = 0; this.running; n += 1) {
      const size = Math.round(60 + 40 * Math.sin(n / 9) + 20 * Math.sin(n / 2.3));
      const events = Array.from({ length: size }, (_, k) => {
        const id = this.sent + k;
        const again = id % 10 < 3 && id > 200;
        const number = again ? id - 145 : id;
        const topic = topics[(number * 7) % topics.length];
        const amount = (number * 37) % 900 + 0.5;
        const source = sources[number % 4];
        return { topic, event_id: `${topic}-${number}`, source, payload: { customer: number % 97, amount, currency: 'EUR' } };
      });
      if (n % 40 === 20) events.push({ topic: 'orders', event_id: 'orders-0', source: 'partner', payload: { amount: n } });
      this.sent += size;
      const answer = await request(this.server, 'POST', '/publish', events).catch(() => ({ status: 0 }));
      this.answered = answer.status;
      await sleep(150);
    }
  }

  async stop() {
    this.running = false;
    await this.done;
  }
}

test('an empty system says how to begin, a busy one what it does, and a broken one what is wrong', async () => {
  const cluster = await Cluster.start(2);
  let load;
  try {
    await shootAll(cluster, 'empty', '', async (tab) => {
      await tab.page.getByText('Nothing has arrived yet.').waitFor();
      await tab.page.getByRole('button', { name: /Copy: the command/ }).waitFor();
      await tab.page.getByRole('row', { name: /aggregator-1/ }).waitFor();
    });
    for (const [section, text] of [['events', 'No event is stored yet.'], ['topics', 'There is no topic yet.'], ['meters', 'There is no meter yet.'], ['dead-letters', 'There are no dead letters.'], ['conflicts', 'There are no conflicts.']]) {
      const tab = await Tab.open(cluster, { hash: `#/${section}`, width: 390, height: 844 });
      await tab.page.getByText(text).waitFor();
      await tab.check(`empty #/${section}`);
      await tab.close();
    }
    // The command of the page does what it says.
    const empty = await Tab.open(cluster);
    const command = await empty.page.locator('.command pre').innerText();
    const body = /-d '(.*)'/.exec(command)[1];
    assert.ok(command.startsWith(`curl ${cluster.url}/publish `), command);
    assert.equal((await request(cluster, 'POST', '/publish', body)).status, 202);
    await empty.page.getByText('Nothing has arrived yet.').waitFor({ state: 'hidden' });
    await empty.close();

    assert.equal((await request(cluster, 'PUT', '/meters/revenue', { topics: ['orders', 'payments'], aggregation: 'sum', value: '/amount', group_by: ['source', 'topic'] })).status, 201);
    assert.equal((await request(cluster, 'PUT', '/meters/customers', { aggregation: 'unique', value: '/customer' })).status, 201);
    load = new Load(cluster);
    const watch = await Tab.open(cluster, { width: 1280, height: 1000 });
    await watch.page.getByRole('button', { name: '15 min' }).click();
    await sleep(BUSY * 1000);
    // A publisher keeps its connections, so the figures are at first those of one replica.
    await until('a replica has figures', async () => {
      const rows = await watch.page.getByRole('row', { name: /aggregator-/ }).allInnerTexts();
      return rows.length === 2 && rows.some((row) => /\d+ ms|\d s/.test(row.split(/entry|entries/)[1]));
    }, 60);
    assert.match(await watch.text('.tiles'), /Received\s+[1-9][\d.,]*\s*\/s/);
    await watch.shoot('busy-live-1280-light');
    await watch.close();
    await shootAll(cluster, 'busy', '', async (tab) => {
      await tab.page.locator('.chart canvas').waitFor();
      await until('a rate is shown', async () => /Received\s+[1-9]/.test(await tab.text('.tiles')));
      await sleep(500);
    });
    for (const [section, ready] of [['events?follow=1', '.rows .row'], ['events', '.rows .row'], ['topics', 'tbody tr'], ['meters', '.chart canvas'], ['conflicts', '.rows .row'], ['help', '.entry']]) {
      for (const width of [390, 1280]) {
        for (const theme of ['light', 'dark']) {
          const tab = await Tab.open(cluster, { hash: `#/${section}`, width, height: width === 390 ? 844 : 800, theme });
          await tab.page.locator(ready).first().waitFor();
          if (section === 'events' || section === 'conflicts') {
            await tab.page.locator('.row .summary').nth(1).click({ timeout: 2000 }).catch(() => tab.page.locator('.row .summary').first().click());
            await tab.page.locator('.payload pre').first().waitFor();
          }
          await tab.fits(`busy #/${section} at ${width} px`);
          await tab.shoot(`busy-${section.replace('?', '-').replace('=1', '')}-${width}-${theme}`);
          await tab.close();
        }
      }
    }

    // One replica stands still with what it has read, and the database is gone.
    cluster.freeze(1);
    await sleep(1000);
    await cluster.stopPostgres();
    const errors = [/503/, /504/, /500/];
    await shootAll(
      cluster,
      'broken',
      '',
      async (tab) => {
        await until('the page says what is wrong', async () => /the store cannot be used.*The replica aggregator-1 holds/is.test(await tab.text('.findings')), 90);
        await tab.page.getByRole('link', { name: 'What to do' }).first().waitFor();
      },
      errors,
    );
    assert.equal(load.answered, 202, 'events are accepted while the database is away');
    const tab = await Tab.open(cluster, { expectErrors: errors });
    await until('the page says what is wrong', async () => (await tab.page.locator('.findings .alarm').count()) > 0, 60);
    await cluster.startPostgres();
    cluster.aggregators[1].child.kill('SIGCONT');
    await tab.page.getByText(/All is well|Needs attention/).waitFor({ timeout: 90_000 });
    await load.stop();
    await until('all is stored', async () => JSON.parse((await request(cluster, 'GET', '/overview')).text).log?.backlog === 0, 90);
    await tab.page.locator('.tile', { hasText: 'Backlog' }).filter({ hasText: /^Backlog\s*0/ }).waitFor();
    await tab.close();
  } finally {
    await load?.stop();
    await cluster.end();
  }
});
