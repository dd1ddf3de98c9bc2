// The waiting page of the built program in a real Chromium: what a visitor sees, with and without script.
//
// Each test has a portal, a program and a browser profile of its own. Lines are made long by visitors without a browser
// and a rate of one per hour, and set in motion by changing the rate. Nothing waits for a fixed time.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';

import { Portal } from './portal.mjs';
import { OWN, Program, ROOM } from './program.mjs';

const WANTED = '/pratica/domanda?anno=2020&figli=2#riepilogo';
const STANDING = { admission_rate: '1/h' };
const MOVING = { admission_rate: '200/s' };
const LONG_ENOUGH = 30_000;

/** Scenes wait more than they work, so several run at once. */
const AT_ONCE = 3;
const scenes = [];

let browser;

before(async () => {
  const sandbox = process.getuid() === 0 ? ['--no-sandbox'] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: sandbox, ignoreDefaultArgs: ['--disable-back-forward-cache'] });
});
after(() => browser.close());

/** A test with a portal, the program with a line of `line` visitors, and a browser profile. */
function scene(name, { line = 12, profile = {}, settings = {} }, body) {
  const run = async () => {
    const portal = await Portal.start();
    const program = await Program.start(portal, { ...STANDING, ...settings });
    const context = await browser.newContext({ locale: 'it-IT', baseURL: program.origin, ...profile });
    context.setDefaultTimeout(LONG_ENOUGH);
    const complaints = [];
    context.on('console', (message) => {
      if (message.type() === 'error' && !/status of (503|502|429)|net::ERR/.test(message.text())) { complaints.push(message.text()); }
    });
    context.on('weberror', (error) => complaints.push(String(error.error())));
    try {
      if (line > 0) { await program.fill(line); }
      if (profile.javaScriptEnabled !== false) { await context.clock.install(); }
      await body({ portal, program, context, page: await context.newPage() });
      assert.deepEqual(complaints, [], 'neither policy violations nor script errors');
    } catch (error) {
      const seen = await Promise.all(context.pages().map(async (page) => `${page.url()}\n${await page.locator('body').innerText()}`));
      error.stack += `\n\nThe browser showed:\n${seen.join('\n\n')}`;
      throw error;
    } finally {
      await context.close();
      await program.stop();
      await portal.down().catch(() => {});
    }
  };
  scenes.push({ name, run });
}

const text = (page, selector) => page.locator(selector).innerText();
const number = (words) => Number(words.match(/\d+/)?.[0]);
const inLine = (page) => page.locator('#place').waitFor();
const title = (page, words) => page.locator('h1', { hasText: words });
const heading = (page, words) => title(page, words).waitFor();

/** The ticket cookie: who has the same has the same place. */
async function ticket(context) {
  const cookies = await context.cookies();
  return cookies.find((cookie) => cookie.name === `anticamera-ticket-${ROOM}`)?.value;
}

/** Keeps pictures of the main states for people to look at, where ANTICAMERA_PICTURES says. */
async function picture(page, name) {
  const folder = process.env.ANTICAMERA_PICTURES;
  if (!folder) { return; }
  fs.mkdirSync(folder, { recursive: true });
  const size = page.viewportSize();
  for (const width of [1280, 320]) {
    await page.setViewportSize({ width, height: 800 });
    const wider = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
    assert.equal(wider, false, `${name} fits into ${width} pixels`);
    await page.screenshot({ path: path.join(folder, `${name}-${width}.png`), fullPage: true });
  }
  await page.setViewportSize(size);
}

/** The page asks only once a minute far from the front: minutes pass on its clock until it shows this. */
async function inTime(page, locator) {
  for (let minute = 0; minute < 10; minute += 1) {
    if (await locator.waitFor({ timeout: 2500 }).then(() => true, () => false)) { return; }
    await page.clock.fastForward(61_000).catch(() => {});
  }
  await locator.waitFor();
}

/** ... or no longer shows it. */
async function gone(page, selector) {
  await inTime(page, page.locator(`main:has(${selector}[hidden])`));
}

async function enters(page, program, wanted = WANTED) {
  await inTime(page, page.locator('#inside'));
  assert.equal(page.url(), program.origin + wanted);
}

/** Without script: updates by hand until the button to enter is there, and presses it. */
async function entersByHand(page, program, wanted) {
  const enter = page.getByRole('button', { name: 'Entra ora' });
  const update = page.getByRole('button', { name: 'Aggiorna ora' });
  await update.waitFor();
  while (!(await enter.isVisible())) { await Promise.all([page.waitForNavigation(), update.click()]); }
  await picture(page, 'plain-turn');
  await enter.click();
  await page.locator('#inside').waitFor();
  assert.equal(page.url(), program.origin + wanted);
}

scene('with script the visitor joins, sees the place and enters at the wanted address by itself', {}, async ({ portal, program, page }) => {
  const answer = await page.goto(WANTED);
  assert.equal(answer.status(), 503);
  assert.match(answer.headers()['cache-control'], /no-store/);
  await inLine(page);
  await heading(page, 'Sei in fila');
  assert.ok(number(await text(page, '#ahead')) >= 10);
  assert.match(await text(page, '#updated_at'), /^\d\d:\d\d:\d\d$/);
  assert.notEqual(await text(page, '#reference'), '');
  assert.equal(await page.locator('#plain').isVisible(), false);
  await picture(page, 'waiting');
  assert.equal(portal.received.length, 0, 'nothing reached the portal before the turn');
  await program.change(MOVING);
  await enters(page, program);
  assert.equal(portal.received[0].url, '/pratica/domanda?anno=2020&figli=2');
});

scene('without script a button joins, the line page is updated by hand, and another button enters', { profile: { javaScriptEnabled: false } }, async ({ program, page }) => {
  await page.goto(WANTED);
  await picture(page, 'plain-arrival');
  await page.locator('#plain button').click();
  await heading(page, 'Sei in fila');
  await picture(page, 'plain-line');
  await page.getByRole('button', { name: 'Aggiorna ora' }).click();
  await heading(page, 'Sei in fila');
  await program.change(MOVING);
  // The fragment never leaves the browser, so a page without script cannot keep it.
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('without script the chosen language lasts through updates, and so does the wanted address', { profile: { javaScriptEnabled: false } }, async ({ program, page }) => {
  await page.goto(WANTED);
  await page.getByRole('link', { name: 'English' }).click();
  await page.getByRole('button', { name: 'Join the line' }).click();
  await heading(page, 'You are in the line');
  await page.getByRole('button', { name: 'Update now' }).click();
  await heading(page, 'You are in the line');
  await page.getByRole('link', { name: 'Italiano' }).click();
  await heading(page, 'Sei in fila');
  await program.change(MOVING);
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('with script the chosen language keeps address and place', {}, async ({ program, context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await ticket(context);
  await page.getByRole('link', { name: 'English' }).click();
  await heading(page, 'You are in the line');
  assert.equal(page.url(), program.origin + WANTED);
  assert.equal(await ticket(context), before);
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  await picture(page, 'waiting-english');
});

scene('a form sent from outside is not sent on, says so, and what was written is still there', {}, async ({ portal, program, page }) => {
  await page.goto('/modulo');
  await page.locator('textarea').fill('dodici righe di domanda');
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il tuo modulo non è stato inviato');
  await inLine(page);
  await picture(page, 'form-not-sent');
  assert.equal(portal.forms().length, 0);
  await page.goBack();
  assert.equal(await page.locator('textarea').inputValue(), 'dodici righe di domanda');
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il tuo modulo non è stato inviato');
  await program.change(MOVING);
  await inTime(page, page.locator('#enter'));
  await picture(page, 'form-turn');
  await page.locator('#enter').click();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

scene('a form of whoever is no longer inside is not sent on, and can be sent from there with a turn', { line: 0, settings: MOVING }, async ({ portal, program, context, page }) => {
  await page.goto('/pratica/modulo');
  await page.locator('textarea').fill('dodici righe di domanda');
  await program.change(STANDING);
  await program.fill(12);
  await context.clearCookies();
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il tuo modulo non è stato inviato');
  await inLine(page);
  assert.equal(portal.forms().length, 0);
  await program.change(MOVING);
  await inTime(page, page.locator('#enter'));
  await page.locator('#enter').click();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

scene('without script a form is sent by reloading its page once the visitor entered in another tab', { profile: { javaScriptEnabled: false } }, async ({ portal, program, context, page }) => {
  await page.goto('/modulo');
  await page.locator('textarea').fill('dodici righe di domanda');
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il tuo modulo non è stato inviato');
  await picture(page, 'form-plain');
  const opened = context.waitForEvent('page');
  await page.locator('#plain button').click();
  const other = await opened;
  await program.change(MOVING);
  await entersByHand(other, program, '/pratica/invia');
  assert.equal(portal.forms().length, 0);
  await page.reload();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

scene('two tabs share one place', {}, async ({ program, context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await ticket(context);
  const other = await context.newPage();
  await other.goto('/pratica/altro');
  await inLine(other);
  assert.equal(await text(other, '#reference'), await text(page, '#reference'));
  assert.equal(await ticket(context), before);
  await program.change(MOVING);
  await enters(other, program, '/pratica/altro');
  await page.bringToFront();
  await enters(page, program);
});

scene('whoever loses the connection keeps the place and hears that it is back', {}, async ({ context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await text(page, '#reference');
  await context.setOffline(true);
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /collegamento|connessione/i);
  assert.equal(await text(page, '#reference'), before, 'what was shown stays');
  await picture(page, 'offline');
  await context.setOffline(false);
  await gone(page, '#trouble');
  assert.equal(await text(page, '#reference'), before);
});

scene('a crash of the proxy while waiting keeps the place', {}, async ({ program, context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const [before, place] = [await ticket(context), await text(page, '#reference')];
  await program.crash();
  await inTime(page, page.locator('#trouble:visible'));
  await program.startAgain();
  await gone(page, '#trouble');
  assert.equal(await text(page, '#reference'), place);
  assert.equal(await ticket(context), before);
  await program.change(MOVING);
  await enters(page, program);
});

scene('whoever leaves loses the place and can join again', {}, async ({ program, context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await ticket(context);
  await page.locator('summary').click();
  await page.locator('details button').click();
  await heading(page, 'Hai lasciato la fila');
  await picture(page, 'left');
  assert.equal(await ticket(context), undefined);
  await page.getByRole('button', { name: 'Rimettiti in fila' }).click();
  await heading(page, 'Sei in fila');
  assert.notEqual(await ticket(context), before);
});

scene("an operator's hold is explained, and whoever has a turn then enters when it is over", {}, async ({ portal, program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await program.change({ state: 'hold' });
  await inTime(page, title(page, 'La fila è in pausa'));
  assert.match(await text(page, '#reason'), /dalle \d\d:\d\d/);
  await picture(page, 'held');
  await program.change({ ...MOVING, state: 'open' });
  await enters(page, program);
  assert.equal(portal.received.length, 1);
});

const STANDSTILLS = [
  {
    name: 'a hold',
    reason: /in pausa/,
    begin: ({ program }) => program.change({ state: 'hold' }),
    end: ({ program }) => program.change({ state: 'open' }),
  },
  {
    name: 'an outage of the portal',
    reason: /non risponde/,
    begin: async ({ portal, program }) => { await portal.down(); await noticesOutage(program); },
    end: ({ portal }) => portal.up(),
  },
];

/** What no room protects is tried, fails, and so tells the program. */
async function noticesOutage(program) {
  for (let n = 0; n < 4; n += 1) { await fetch(`${program.origin}/modulo`); }
}

for (const { name, reason, begin, end } of STANDSTILLS) {
  scene(`a turn during ${name} asks nobody to enter, does not reload, and enters by itself afterwards`, { line: 1 }, async (stage) => {
    const { portal, program, page } = stage;
    await page.goto(WANTED);
    await inLine(page);
    // Hidden, the page learns of its turn but does not use it.
    await page.evaluate(() => Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }));
    await program.change(MOVING);
    await inTime(page, title(page, 'È il tuo turno'));
    await begin(stage);
    await inTime(page, title(page, 'La fila è in pausa'));
    let loads = 0;
    page.on('framenavigated', () => { loads += 1; });
    await page.evaluate(() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); });
    for (let polls = 0; polls < 4; polls += 1) {
      const answer = await page.waitForResponse((response) => response.url().includes('/status'));
      assert.equal((await answer.json()).queue.state, 'your_turn');
    }
    assert.equal(loads, 0, 'no reload while nobody can enter');
    assert.equal(await page.locator('#enter').isVisible(), false);
    assert.equal(await page.locator('#trouble').isVisible(), false);
    assert.match(await text(page, '#reason'), reason);
    await picture(page, `turn-during-${name.replaceAll(' ', '-')}`);
    await end(stage);
    await enters(page, program);
    assert.equal(portal.received.filter(({ url }) => url.startsWith('/pratica/domanda')).length, 1);
  });
}

scene('while the portal is down whoever waits reads why', {}, async ({ portal, program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await portal.down();
  await noticesOutage(program);
  await inTime(page, page.locator('#reason:visible'));
  assert.match(await text(page, '#reason'), /non risponde/);
  assert.equal(await page.locator('#enter').isVisible(), false);
  await picture(page, 'portal-down');
  await portal.up();
  await program.change(MOVING);
  await enters(page, program);
});

scene('whoever blocks cookies is told why there is no place', { profile: {} }, async ({ context, page }) => {
  await context.addInitScript(() => Object.defineProperty(Navigator.prototype, 'cookieEnabled', { get: () => false }));
  await page.goto(WANTED);
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /cookie/);
  assert.equal(await page.locator('#place').isVisible(), false);
  await picture(page, 'cookies-blocked');
});

scene('a browser that silently drops cookies is told so, without a loop', {}, async ({ context, page }) => {
  await page.route(`**${OWN}/join**`, async (route) => {
    const answer = await route.fetch();
    const headers = answer.headers();
    delete headers['set-cookie'];
    await route.fulfill({ response: answer, headers });
    await context.clearCookies();
  });
  let joins = 0;
  page.on('request', (request) => { joins += Number(request.url().includes('/join')); });
  await page.goto(WANTED);
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /cookie/);
  assert.equal(joins, 2);
});

scene('after logout, Back and the tab history show no personal page', { line: 0, settings: { ...MOVING, logout: ['/pratica/esci'] } }, async ({ program, page }) => {
  const mine = page.locator('#inside');
  for (const address of ['/pratica/mia', '/pratica/altra']) {
    await page.goto(address);
    await mine.waitFor();
  }
  await page.goto('/pratica/esci');
  await program.change({ state: 'hold' });
  for (let steps = 1; steps <= 2; steps += 1) {
    await page.goBack();
    assert.equal(await mine.count(), 0, `a personal page ${steps} steps back`);
  }
  await page.evaluate(() => history.go(1));
  await page.waitForLoadState();
  assert.equal(await mine.count(), 0);
});

scene('page and headers fit into ten kilobytes', {}, async ({ program }) => {
  for (const coding of ['br', 'gzip']) {
    const answer = await fetch(program.origin + WANTED, { headers: { accept: 'text/html', 'accept-encoding': coding } });
    const headers = [...answer.headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
    const size = Number(answer.headers.get('content-length')) + headers;
    assert.equal(answer.headers.get('content-encoding'), coding);
    assert.ok(size > 1000 && size <= 10_240, `${coding}: ${size} bytes`);
    console.log(`${coding}: ${size} bytes with headers`);
  }
});

describe('the waiting page', { concurrency: AT_ONCE }, () => {
  for (const { name, run } of scenes) { test(name, { timeout: 90_000 }, run); }
});
