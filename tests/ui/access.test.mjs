// Signing in with a token, and what the page says where a token may not do something.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Standalone, join, makeToken, publish, writeFile } from './support/programs.mjs';
import { Tab, closeBrowser } from './support/browser.mjs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';

let server, folder;
const tokens = {};

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-ui-tokens-'));
  let items = '';
  for (const [name, args] of Object.entries({
    all: ['--scope', 'publish', '--scope', 'read', '--scope', 'admin'],
    reader: ['--scope', 'read'],
    bounded: ['--scope', 'read', '--topic', 'orders.*'],
    publisher: ['--scope', 'publish'],
  })) {
    const { token, item } = makeToken('--name', name, ...args);
    tokens[name] = token;
    items += item;
  }
  const file = join(folder, 'tokens.yaml');
  await writeFile(file, items);
  server = await Standalone.start({ args: ['--tokens', file] });
  server.refuse('poison', true);
  const headers = { Authorization: `Bearer ${tokens.all}` };
  await publish(server, [{ topic: 'orders.eu', event_id: '1', payload: 1 }, { topic: 'users', event_id: '1', payload: 1 }, { topic: 'poison', event_id: '1', payload: 1 }], headers);
});

after(async () => {
  await closeBrowser();
  await server.end();
  await rm(folder, { recursive: true });
});

async function signIn(tab, token) {
  await tab.page.getByLabel('Token').fill(token);
  await tab.page.getByRole('button', { name: 'Sign in' }).click();
}

test('the page asks for a token, refuses a bad one, and shows nothing before', async () => {
  const tab = await Tab.open(server, { expectErrors: [/401/] });
  await tab.page.getByRole('heading', { name: 'Sign in to Sluice' }).waitFor();
  assert.equal(await tab.page.locator('.tile').count(), 0);
  await tab.check('the sign-in');
  await signIn(tab, 'sluice_0123456789');
  await tab.page.getByText('This token is not accepted').waitFor();
  assert.equal(await tab.page.evaluate(() => sessionStorage.length), 0, 'a bad token is not kept');
  await signIn(tab, 'two words');
  await tab.page.getByText('Enter the token').waitFor();
  await signIn(tab, tokens.all);
  await tab.page.locator('.tile', { hasText: '2 in total' }).first().waitFor();
  // It stays after a reload, only in this tab, and is gone after signing out.
  await tab.page.reload();
  await tab.page.locator('.tile', { hasText: '2 in total' }).first().waitFor();
  assert.equal(await tab.page.evaluate(() => localStorage.length), 0);
  assert.ok(!tab.page.url().includes(tokens.all));
  await tab.page.getByRole('button', { name: 'Sign out' }).click();
  await tab.page.getByRole('heading', { name: 'Sign in to Sluice' }).waitFor();
  assert.equal(await tab.page.evaluate(() => sessionStorage.length), 0);
  await tab.close();
});

test('a live stream sends the token, which no EventSource could', async () => {
  const tab = await Tab.open(server, { hash: '#/events?follow=1', expectErrors: [/401/] });
  await signIn(tab, tokens.reader);
  await tab.page.getByText('Following.').waitFor();
  await publish(server, [{ topic: 'users', event_id: 'live', payload: 1 }], { Authorization: `Bearer ${tokens.all}` });
  await tab.page.locator('[data-id="users/live"]').waitFor();
  await tab.close();
});

test('what a token may not do is refused with the scope that is needed', async () => {
  const tab = await Tab.open(server, { hash: '#/dead-letters', expectErrors: [/401/, /403/] });
  await signIn(tab, tokens.reader);
  await tab.page.locator('.row .summary').first().click();
  await tab.page.getByRole('button', { name: 'Replay', exact: true }).click();
  await tab.page.getByText(/was not replayed.*admin/).waitFor();
  await tab.page.getByRole('link', { name: 'Who may do this' }).click();
  await tab.page.getByRole('heading', { name: 'Signing in, and what a token may do' }).waitFor();
  await tab.close();

  const publisher = await Tab.open(server, { expectErrors: [/401/, /403/] });
  await signIn(publisher, tokens.publisher);
  await publisher.page.getByText(/The server refused to tell its state.*`read`/).waitFor();
  await publisher.close();
});

test('a token that is bounded by topics sees these alone', async () => {
  const tab = await Tab.open(server, { hash: '#/topics', expectErrors: [/401/, /403/] });
  await signIn(tab, tokens.bounded);
  await tab.page.getByText('1 topic', { exact: true }).waitFor();
  await tab.page.getByRole('link', { name: 'orders.eu' }).waitFor();
  await tab.go('');
  await tab.page.locator('.tile', { hasText: '1 in total' }).first().waitFor();
  await tab.go('events?topic=users');
  await tab.page.getByText('Your token is bounded by topics').waitFor();
  await tab.close();
});
