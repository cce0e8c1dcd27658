// A browser in which each page is watched: what it asks for, what it writes to the console, and what its policy forbids.
import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import axe from 'axe-core';
import { out } from './programs.mjs';

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
let browser;

/** Returns the browser of this process. */
async function launched() {
  browser ??= await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--force-color-profile=srgb', '--font-render-hinting=none'] });
  return browser;
}

export async function closeBrowser() {
  await browser?.close();
  browser = undefined;
}

/** A page that shows a server, and all that went wrong in it. */
export class Tab {
  static async open(server, { hash = '', width = 1280, height = 800, theme = 'light', touch = false, expectErrors = [] } = {}) {
    const tab = new Tab();
    tab.server = server;
    tab.wrong = [];
    tab.context = await (await launched()).newContext({
      viewport: { width, height },
      colorScheme: theme,
      reducedMotion: 'reduce',
      timezoneId: 'Europe/Berlin',
      locale: 'en-GB',
      hasTouch: touch,
      permissions: ['clipboard-read', 'clipboard-write'],
    });
    tab.page = await tab.context.newPage();
    tab.page.setDefaultTimeout(15_000);
    tab.expected = expectErrors;
    tab.page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') tab.note(`console: ${message.text()}`);
    });
    tab.page.on('pageerror', (error) => tab.note(`error: ${error}`));
    tab.page.on('request', (request) => {
      if (new URL(request.url()).origin !== server.url) tab.note(`a request to elsewhere: ${request.url()}`);
    });
    await tab.page.addInitScript(() => {
      addEventListener('securitypolicyviolation', (event) => console.error(`violation: ${event.violatedDirective} ${event.blockedURI}`));
    });
    await tab.page.goto(server.url + '/' + hash);
    return tab;
  }

  note(text) {
    if (!this.expected.some((expected) => expected.test(text))) this.wrong.push(text);
  }

  /** What goes wrong from now on and matches is expected: Chromium writes each failed request to the console. */
  expect(...patterns) {
    this.expected.push(...patterns);
  }

  async go(section) {
    await this.page.evaluate((section) => (location.hash = `#/${section}`), section);
    const name = section.split('?')[0] || 'overview';
    await this.page.locator(`main[data-section="${name}"]`).waitFor();
  }

  text(selector = 'main') {
    return this.page.locator(selector).innerText();
  }

  /** Checks that axe finds nothing. It runs outside of the page's policy, which forbids what it does. */
  async check(what) {
    await this.page.evaluate(axe.source);
    const { violations } = await this.page.evaluate(() =>
      axe.run(document, { resultTypes: ['violations'], runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] } }),
    );
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.slice(0, 4).map((node) => `${node.html.slice(0, 200)} ${node.any[0]?.message ?? node.failureSummary ?? ''}`).join('\n    ')}`);
    assert.equal(found.length, 0, `axe in ${what}:\n  ${found.join('\n  ')}`);
  }

  /** Checks that nothing is wider than the window. */
  async fits(what) {
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${what} is ${wide} px wider than the window`);
  }

  async shoot(name) {
    await mkdir(out, { recursive: true });
    await this.page.screenshot({ path: join(out, `${name}.png`), fullPage: false });
  }

  /** Closes it, and checks that nothing went wrong. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.wrong, [], 'what went wrong in the page');
  }
}
