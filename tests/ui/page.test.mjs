// What a person does with the page, on the whole system in one process.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Standalone, publish, request, sleep, until } from './support/programs.mjs';
import { Tab, closeBrowser } from './support/browser.mjs';

let server;

before(async () => {
  server = await Standalone.start();
});

after(async () => {
  await closeBrowser();
  await server.end();
});

test('the page loads nothing from elsewhere, and its policy forbids what it does not need', async () => {
  const page = await request(server, 'GET', '/', undefined, { 'Accept-Encoding': 'gzip' });
  assert.equal(page.status, 200);
  const policy = page.headers.get('content-security-policy');
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]) {
    assert.ok(policy.includes(part), policy);
  }
  assert.ok(!policy.includes('unsafe'), policy);
  assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
  assert.equal(page.headers.get('referrer-policy'), 'no-referrer');
  const assets = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map((found) => found[1]).filter((path) => path.includes('.'));
  assert.ok(assets.length >= 3, page.text);
  let bytes = 0;
  for (const path of ['', ...assets]) {
    const answer = await fetch(`${server.url}/${path}`, { headers: { 'Accept-Encoding': 'gzip' } });
    assert.equal(answer.status, 200, path);
    assert.equal(answer.headers.get('content-encoding'), 'gzip', path);
    bytes += Number(answer.headers.get('content-length'));
    const tag = answer.headers.get('etag');
    const again = await fetch(`${server.url}/${path}`, { headers: { 'Accept-Encoding': 'gzip', 'If-None-Match': tag } });
    assert.equal(again.status, 304, path);
  }
  assert.ok(bytes > 10_000 && bytes < 150 * 1024, `${bytes} bytes compressed`);
});

test('an event that is published by HTTP appears, is found by filters, and shows its payload exactly as it was sent', async () => {
  const tab = await Tab.open(server);
  const payload = '{"total":12.50,"big":12345678901234567890,"empty":{},"list":[1, 2]}';
  const body = `{"topic":"exact","event_id":"e-1","source":"shop","payload":${payload}}`;
  assert.equal((await request(server, 'POST', '/publish?wait=stored', body)).status, 200);
  await publish(server, [{ topic: 'exact', event_id: 'e-2', source: 'till', payload: 2 }, { topic: 'other', event_id: 'o-1', payload: 3 }]);
  // The number in the overview becomes that of the server without a reload.
  await tab.page.locator('.tile', { hasText: 'Stored' }).filter({ hasText: '3 in total' }).waitFor();
  await tab.go('events');
  await tab.page.getByRole('button', { name: /exact.*e-1/ }).waitFor();
  await tab.page.getByLabel('Topic', { exact: true }).fill('exact');
  await tab.page.getByLabel('Source', { exact: true }).fill('shop');
  await tab.page.getByRole('button', { name: 'Apply' }).click();
  await until('one event is shown', async () => (await tab.page.locator('.rows .row').count()) === 1);
  assert.match(tab.page.url(), /topic=exact&source=shop/);
  await tab.page.locator('.row .summary').click();
  const shown = await tab.page.locator('.payload pre').innerText();
  assert.equal(shown, '{\n  "total": 12.50,\n  "big": 12345678901234567890,\n  "empty": {},\n  "list": [\n    1,\n    2\n  ]\n}');
  await tab.page.getByRole('button', { name: 'Copy payload' }).click();
  assert.equal(await tab.page.evaluate(() => navigator.clipboard.readText()), payload);
  // Back and forward of the browser change the filters.
  await tab.page.goBack();
  await until('all events are shown', async () => (await tab.page.locator('.rows .row').count()) > 1);
  // One event by its id, and one that does not exist.
  await tab.go('events?topic=exact&id=e-2');
  await until('the event is shown', async () => (await tab.page.locator('.rows .row').count()) === 1);
  tab.expect(/404/);
  await tab.go('events?topic=exact&id=none');
  await tab.page.getByText('There is no such event.').waitFor();
  await tab.close();
});

test('more events than a page are loaded one page after the other, each once', async () => {
  const events = Array.from({ length: 130 }, (_, n) => ({ topic: 'many', event_id: `m-${n}`, payload: n }));
  await publish(server, events);
  const tab = await Tab.open(server, { hash: '#/events?topic=many' });
  const rows = tab.page.locator('.rows .row');
  await until('the first page', async () => (await rows.count()) === 50);
  await tab.page.getByRole('button', { name: 'Older events' }).click();
  await until('the second page', async () => (await rows.count()) === 100);
  await tab.page.getByRole('button', { name: 'Older events' }).click();
  await until('the third page', async () => (await rows.count()) === 130);
  const ids = await rows.evaluateAll((rows) => rows.map((row) => row.dataset.id));
  assert.equal(new Set(ids).size, 130);
  await tab.page.getByRole('button', { name: 'Older events' }).waitFor({ state: 'hidden' });
  await tab.close();
});

test('the feed is followed live, can be paused, and misses nothing while the server is restarted', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  const tab = await Tab.open(own, { hash: '#/events?follow=1&topic=live' });
  await tab.page.getByText('Following.').waitFor();
  await publish(own, [{ topic: 'live', event_id: 'first', payload: 1 }, { topic: 'elsewhere', event_id: 'x', payload: 1 }]);
  const rows = tab.page.locator('.rows .row');
  await tab.page.locator('[data-id="live/first"]').waitFor();
  assert.equal(await rows.count(), 1);
  await tab.page.getByRole('button', { name: 'Pause' }).click();
  await publish(own, [{ topic: 'live', event_id: 'second', payload: 2 }]);
  await sleep(1500);
  assert.equal(await rows.count(), 1, 'nothing is drawn while it is paused');
  await tab.page.getByRole('button', { name: 'Go on' }).click();
  await tab.page.locator('[data-id="live/second"]').waitFor();
  tab.expect(/ERR_CONNECTION_REFUSED/, /ERR_INCOMPLETE_CHUNKED_ENCODING/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/);
  await own.stop();
  await tab.page.getByText('The stream was interrupted.').first().waitFor();
  await own.again();
  await publish(own, [{ topic: 'live', event_id: 'third', payload: 3 }]);
  await tab.page.locator('[data-id="live/third"]').waitFor();
  const ids = await rows.evaluateAll((rows) => rows.map((row) => row.dataset.id));
  assert.deepEqual(ids, ['live/third', 'live/second', 'live/first']);
  await tab.close();
});

test('a server that is stopped is said to be away, and the page recovers by itself', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  await publish(own, [{ topic: 'kept', event_id: 'k', payload: 1 }]);
  const tab = await Tab.open(own);
  await tab.page.getByText('All is well').waitFor();
  await tab.page.getByText('Nothing is wrong.').waitFor();
  tab.expect(/ERR_CONNECTION_REFUSED/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/);
  await own.stop();
  await tab.page.getByText('No connection').waitFor();
  await tab.page.getByText('The server does not answer.').waitFor();
  // What was known stays.
  await tab.page.locator('.tile', { hasText: '1 in total' }).first().waitFor();
  await tab.page.getByRole('link', { name: 'What to do' }).click();
  await tab.page.getByRole('heading', { name: 'The server does not answer' }).waitFor();
  await own.again();
  await tab.page.getByText('All is well').waitFor();
  await tab.close();
});

test('a payload, a topic and an id with markup are shown as text', async () => {
  const nasty = '<img src=x onerror="document.title=1"><script>document.title=2</script>&amp;';
  await publish(server, [
    { topic: nasty, event_id: nasty, source: nasty, payload: { [nasty]: nasty, payload: '"}],"' } },
    { topic: nasty, event_id: nasty, source: nasty, payload: 'another' },
  ]);
  const tab = await Tab.open(server, { hash: '#/events' });
  await tab.page.locator('.row .summary').first().click();
  const details = await tab.text('.details');
  assert.ok(details.includes(nasty) && details.includes(JSON.stringify(nasty)), details);
  assert.match(await tab.text('.payload pre'), /"payload": "\\"}\],\\""/);
  await tab.go('topics');
  await tab.page.getByRole('link', { name: nasty }).waitFor();
  await tab.go('conflicts');
  await tab.page.locator('.row .summary').first().click();
  await tab.page.getByText('"another"').first().waitFor();
  await until('both payloads', async () => (await tab.page.locator('.pair pre').count()) === 2);
  assert.ok((await tab.text('.pair')).includes(JSON.stringify(nasty)));
  await sleep(300);
  assert.equal(await tab.page.title(), 'Conflicts · Sluice');
  assert.equal(await tab.page.locator('main img, main script').count(), 0);
  await tab.close();
});

test('a dead letter is opened, refused while its cause is there, and then replayed', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  own.refuse('poison', true);
  await publish(own, [
    { topic: 'poison', event_id: 'p-1', payload: { amount: 7 } },
    { topic: 'poison', event_id: 'p-2', payload: '<b>bold</b>' },
    { topic: 'good', event_id: 'g-1', payload: 1 },
  ]);
  const tab = await Tab.open(own);
  await tab.page.getByText('2 events could not be stored').waitFor();
  await tab.page.getByRole('link', { name: 'Show' }).click();
  const letter = tab.page.locator('.row', { hasText: 'p-1' });
  await letter.locator('.summary').click();
  assert.match(await letter.innerText(), /no events of poison are taken/);
  assert.match(await letter.locator('.payload pre').innerText(), /"amount": 7/);
  tab.expect(/409/);
  await letter.getByRole('button', { name: 'Replay' }).click();
  await tab.page.getByText(/was not replayed/).waitFor();
  own.refuse('poison', false);
  await letter.getByRole('button', { name: 'Replay' }).click();
  await tab.page.getByText(/was replayed: 1 event stored, 0 duplicates dropped/).waitFor();
  await letter.waitFor({ state: 'detached' });
  assert.equal((await request(own, 'GET', '/events/poison/p-1')).status, 200);

  const other = tab.page.locator('.row', { hasText: 'p-2' });
  await other.locator('.summary').click();
  await other.getByRole('button', { name: 'Discard…' }).click();
  const dialog = tab.page.getByRole('dialog');
  assert.match(await dialog.innerText(), /1 event will be gone for good/);
  // Whoever cancels discards nothing.
  await tab.page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert.equal(JSON.parse((await request(own, 'GET', '/dead-letters')).text).dead_letters.length, 1);
  await other.getByRole('button', { name: 'Discard…' }).click();
  await dialog.getByRole('button', { name: 'Discard' }).click();
  await tab.page.getByText(/was discarded, with 1 event/).waitFor();
  await tab.page.getByText('There are no dead letters.').waitFor();
  assert.equal((await request(own, 'GET', '/events/poison/p-2')).status, 404);
  await tab.close();
});

test('all dead letters of a code are counted first and then replayed together', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  own.refuse('poison', true);
  await publish(own, Array.from({ length: 60 }, (_, n) => ({ topic: 'poison', event_id: `p-${n}`, payload: n })));
  own.refuse('poison', false);
  const tab = await Tab.open(own, { hash: '#/dead-letters' });
  await until('a page of them', async () => (await tab.page.locator('.rows .row').count()) === 50);
  await tab.page.getByRole('button', { name: 'Older dead letters' }).click();
  await until('all of them', async () => (await tab.page.locator('.rows .row').count()) === 60);
  await tab.page.getByRole('button', { name: 'Replay all…' }).click();
  const dialog = tab.page.getByRole('dialog');
  assert.match(await dialog.innerText(), /60 dead letters with 60 events/);
  await dialog.getByRole('button', { name: 'Replay all' }).click();
  await tab.page.getByText('60 dead letters replayed: 60 events stored, 0 duplicates dropped.').waitFor();
  assert.equal(JSON.parse((await request(own, 'GET', '/stats')).text).unique_processed, 60);
  await tab.close();
});

test('a thousand topics are searched and sorted', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  const events = Array.from({ length: 1000 }, (_, n) => ({ topic: `topic-${String(n).padStart(4, '0')}`, event_id: 'first', payload: n }));
  await publish(own, [...events, { topic: 'topic-0777', event_id: 'second', payload: 1 }, { topic: 'topic-0777', event_id: 'first', payload: 777 }]);
  const tab = await Tab.open(own, { hash: '#/topics' });
  await tab.page.getByText('1,000 topics').waitFor();
  const first = tab.page.locator('tbody tr').first();
  assert.match(await first.innerText(), /topic-0777\s+3\s+2\s+1\s+0/);
  const search = tab.page.getByLabel('Search');
  const began = Date.now();
  await search.fill('099');
  await tab.page.getByText('11 of 1,000 topics').waitFor();
  assert.ok(Date.now() - began < 2000, `searching took ${Date.now() - began} ms`);
  await search.fill('nothing like this');
  await tab.page.getByText('No topic has this in its name.').waitFor();
  await search.fill('');
  await tab.page.getByRole('button', { name: 'Topic' }).click();
  assert.match(await first.innerText(), /topic-0000/);
  await tab.page.getByRole('button', { name: 'Topic' }).click();
  assert.match(await first.innerText(), /topic-0999/);
  assert.match(await tab.page.locator('thead [aria-sort="descending"]').innerText(), /^Topic\s*↓$/);
  await tab.page.getByRole('button', { name: 'Show 100 more of 900' }).click();
  assert.equal(await tab.page.locator('tbody tr').count(), 200);
  await tab.page.getByRole('link', { name: 'topic-0998' }).click();
  await until('the events of the topic', async () => (await tab.page.locator('.rows .row').count()) === 1);
  await tab.check('topics with a thousand rows');
  await tab.close();
});

test('a meter is shown as a chart, with exact sums, by groups', async () => {
  const tab = await Tab.open(server, { hash: '#/meters' });
  await tab.page.getByText('There is no meter yet.').waitFor();
  const definition = { topics: ['sales'], aggregation: 'sum', value: '/amount', group_by: ['source'] };
  assert.equal((await request(server, 'PUT', '/meters/revenue', definition)).status, 201);
  // As text, because this number is none of JavaScript.
  await publish(server, '[{"topic":"sales","event_id":"1","source":"shop","payload":{"amount":9007199254740993}},{"topic":"sales","event_id":"2","source":"till","payload":{"amount":2}}]');
  await tab.page.getByRole('heading', { name: 'revenue' }).waitFor();
  await tab.page.getByRole('cell', { name: '9,007,199,254,740,995' }).waitFor();
  await tab.page.getByLabel('Group by').selectOption('source');
  await tab.page.getByRole('row', { name: /shop 9,007,199,254,740,993 1/ }).waitFor();
  await tab.page.getByRole('row', { name: /till 2 1/ }).waitFor();
  await tab.page.locator('.chart canvas').waitFor();
  assert.match(await tab.page.locator('.chart .plot').getAttribute('aria-label'), /Meter revenue.*shop.*till/);
  await tab.close();
});

test('the theme follows the system, can be switched, and stays after a reload', async () => {
  const tab = await Tab.open(server, { theme: 'dark' });
  const colour = () => tab.page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await colour();
  await tab.page.getByRole('button', { name: /^Theme: as the system/ }).click();
  const light = await colour();
  assert.notEqual(light, dark);
  await tab.page.reload();
  await tab.page.getByRole('button', { name: /^Theme: light/ }).waitFor();
  assert.equal(await colour(), light);
  await tab.page.getByRole('button', { name: /^Theme: light/ }).click();
  assert.equal(await colour(), dark);
  await tab.page.getByRole('button', { name: /^Theme: dark/ }).click();
  assert.equal(await colour(), dark, 'the system is dark');
  await tab.close();
});

test('everything can be done with the keyboard alone', async () => {
  await publish(server, [{ topic: 'keys', event_id: 'by-keyboard', payload: { typed: true } }]);
  const tab = await Tab.open(server);
  await tab.page.getByRole('heading', { name: 'Overview' }).waitFor();
  const { keyboard } = tab.page;
  const focused = () => tab.page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.getAttribute('name') || '');
  /** Presses Tab until what has the focus matches, which is seen by its outline. */
  const tabTo = async (pattern) => {
    for (let n = 0; n < 40; n += 1) {
      await keyboard.press('Tab');
      if (pattern.test(await focused())) {
        const outline = await tab.page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        assert.notEqual(outline, 'none', `the focus on ${pattern} is not seen`);
        return;
      }
    }
    assert.fail(`${pattern} cannot be reached`);
  };
  await tabTo(/^Skip to the content$/);
  await tabTo(/^Events$/);
  await keyboard.press('Enter');
  await tab.page.locator('main[data-section="events"]').waitFor();
  // The focus is at the beginning of the section.
  await tabTo(/^Stored$/);
  await tabTo(/^topic$/);
  await keyboard.type('keys');
  await keyboard.press('Enter');
  await until('one event is shown', async () => (await tab.page.locator('.rows .row').count()) === 1);
  await tabTo(/by-keyboard/);
  await keyboard.press('Enter');
  await tab.page.locator('.payload pre').waitFor();
  assert.equal(await tab.page.locator('.row .summary').getAttribute('aria-expanded'), 'true');
  await keyboard.press('Space');
  await tab.page.locator('.payload pre').waitFor({ state: 'detached' });
  await tab.close();
});

test('axe finds nothing in any section, in both themes, on a phone and on a wide screen', async (t) => {
  const own = await Standalone.start();
  t.after(() => own.end());
  own.refuse('poison', true);
  await request(own, 'PUT', '/meters/amounts', { aggregation: 'count', group_by: ['topic'] });
  await publish(own, [
    { topic: 'a', event_id: '1', payload: { a: 1 } },
    { topic: 'poison', event_id: '1', payload: 1 },
  ]);
  await publish(own, [{ topic: 'a', event_id: '1', payload: { a: 2 } }]);
  for (const theme of ['light', 'dark']) {
    for (const width of [390, 1280]) {
      const tab = await Tab.open(own, { theme, width });
      await tab.page.getByText('1 event could not be stored').waitFor();
      for (const section of ['', 'events', 'events?follow=1', 'topics', 'meters', 'dead-letters', 'conflicts', 'help?about=backlog']) {
        await tab.go(section);
        const row = tab.page.locator('.row .summary').first();
        if (['events', 'dead-letters', 'conflicts'].includes(section)) {
          await row.click();
          await tab.page.locator('.payload pre').first().waitFor();
        }
        if (section === 'meters') await tab.page.locator('.chart canvas').waitFor();
        await tab.fits(`#/${section} at ${width} px`);
        await tab.check(`#/${section} in ${theme} at ${width} px`);
        if (section === 'dead-letters') {
          await tab.page.getByRole('button', { name: 'Discard…' }).click();
          await tab.check(`the dialog in ${theme}`);
          await tab.page.keyboard.press('Escape');
        }
      }
      await tab.close();
    }
  }
});

test('however many pages are open, the server makes the overview once in two seconds', async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, () => request(server, 'GET', '/overview')));
  const times = new Set(answers.map(({ status, text }) => (assert.equal(status, 200, text), JSON.parse(text).at)));
  assert.ok(times.size <= 2, `${times.size} answers were made`);
});
