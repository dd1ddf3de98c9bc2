// The waiting page of the built program in a real Chromium: what a visitor sees, with and without script.
//
// Each test has a portal, a program and a browser profile of its own. Lines are made long by visitors without a browser
// and a rate of one per hour, and set in motion by changing the rate. Nothing waits for a fixed time.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { chromium } from 'playwright-core';

import { Portal } from './portal.mjs';
import { OWN, Program, ROOM } from './program.mjs';

const WANTED = '/pratica/domanda?anno=2020&figli=2#riepilogo';
const STANDING = { admission_rate: '1/h' };
const MOVING = { admission_rate: '200/s' };
const LONG_ENOUGH = 30_000;
const LANGUAGES = ['it', 'de', 'sl', 'fr', 'en', 'es', 'ro', 'sq', 'uk', 'ar', 'zh'];

/** Scenes wait more than they work, so several run at once. */
const AT_ONCE = 6;
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
      if (message.type() === 'error' && !/status of (503|502|429|422|403)|net::ERR/.test(message.text())) { complaints.push(message.text()); }
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

/** ... or until this holds, which the page does not show. A page that is about to be replaced does not answer. */
async function until(page, holds) {
  const moment = () => new Promise((resolve) => { setTimeout(resolve, 100); });
  for (let times = 1; times < 300 && !holds(); times += 1) {
    await Promise.race([moment(), ...(times % 25 === 0 ? [page.clock.fastForward(61_000).catch(() => {})] : [])]);
  }
  assert.ok(holds());
}

/** Writes down what screen readers are told. */
const listen = (context) => context.addInitScript(() => {
  window.heard = [];
  document.addEventListener('DOMContentLoaded', () => {
    const region = document.getElementById('announcement');
    new MutationObserver(() => window.heard.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
  });
});

const heard = (page, ...words) => page.waitForFunction((all) => window.heard.some((said) => all.every((part) => said.includes(part))), words);

/** ... or no longer shows it. */
async function gone(page, selector) {
  await inTime(page, page.locator(`main:has(${selector}[hidden])`));
}

/** Presses the button as soon as it is there. */
async function enters(page, program, wanted = WANTED) {
  await inTime(page, page.locator('#enter:visible'));
  await picture(page, 'your-turn');
  await page.locator('#enter').click();
  await entersByItself(page, program, wanted);
}

async function entersByItself(page, program, wanted = WANTED) {
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

scene('with script the visitor joins, sees the place, is called and enters at the wanted address', {}, async ({ portal, program, page }) => {
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
  await entersByHand(other, program, '/pratica/');
  assert.equal(portal.forms().length, 0);
  await page.reload();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

scene('the page enters by itself only for whoever chose that, and only while it is looked at', {}, async ({ portal, program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  assert.equal(await page.locator('#auto').isChecked(), false);
  await page.evaluate(() => Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }));
  await page.locator('#auto').check();
  await program.change(MOVING);
  await inTime(page, title(page, 'È il tuo turno'));
  assert.equal(await page.title(), 'È il tuo turno');
  await page.waitForResponse((response) => response.url().includes('/status'));
  assert.equal(portal.received.length, 0, 'nobody looks at the page');
  await page.evaluate(() => { delete document.hidden; document.dispatchEvent(new Event('visibilitychange')); });
  await entersByItself(page, program);
});

scene('nothing is asked of a visitor for sound and notification before they are chosen', {}, async ({ context, program, page }) => {
  await context.addInitScript(() => {
    window.asked = 0;
    window.shown = [];
    window.tones = 0;
    class Notification {
      constructor(title, options) { window.shown.push([title, options.body]); }
    }
    Notification.permission = 'default';
    Notification.requestPermission = async () => { window.asked += 1; Notification.permission = 'granted'; };
    window.Notification = Notification;
    window.AudioContext = class {
      currentTime = 0;
      createOscillator() { window.tones += 1; return { frequency: {}, connect() {}, start() {}, stop() {} }; }
    };
  });
  await page.goto(WANTED);
  await inLine(page);
  assert.deepEqual(await page.evaluate(() => [window.asked, window.tones]), [0, 0]);
  await page.getByLabel('Mostra una notifica').check();
  await page.getByLabel('Fai un suono').check();
  assert.deepEqual(await page.evaluate(() => [window.asked, window.tones]), [1, 3], 'one question, and the sound once to hear it');
  assert.deepEqual(await page.evaluate(() => window.shown.splice(0)), [['Sei in fila', '']], 'and the notification once to see it');
  await page.evaluate(() => Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }));
  await program.change(MOVING);
  await inTime(page, title(page, 'È il tuo turno'));
  assert.deepEqual(await page.evaluate(() => window.shown), [['È il tuo turno', 'Torna alla pagina per entrare.']]);
  assert.equal(await page.evaluate(() => window.tones), 6);
});

scene('a turn can be kept longer, and says how long it is kept', {}, async ({ program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await program.change({ ...MOVING, claim_window: '10m' });
  await inTime(page, page.locator('#extend:visible'));
  assert.match(await text(page, '#enter_by'), /^\d\d:\d\d$/);
  assert.match(await text(page, '#turn_kept'), /conservi il tuo numero/);
  const before = await text(page, '#enter_by');
  await program.change({ claim_window: '40m' });
  const answer = page.waitForResponse((response) => response.url().includes('/extend'));
  await page.locator('#extend').click();
  assert.equal((await (await answer).json()).queue.state, 'your_turn');
  await page.waitForFunction((old) => document.getElementById('enter_by').textContent !== old, before);
  assert.equal(await page.locator('#trouble').isVisible(), false);
  await enters(page, program);
});

scene('updates can be paused and go on', {}, async ({ program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await page.locator('#pause').click();
  assert.equal(await text(page, '#pause'), 'Riprendi gli aggiornamenti');
  const before = await text(page, '#updated_at');
  const polled = page.waitForResponse((response) => response.url().includes('/status'));
  await page.clock.fastForward(61_000);
  await polled;
  assert.equal(await text(page, '#updated_at'), before, 'what is shown stands still, the place is kept');
  await program.change(MOVING);
  await inTime(page, page.locator('#enter:visible'));
  await page.locator('#pause').click();
  await enters(page, program);
});

scene('whoever asks for news by hand hears them', {}, async ({ page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await page.clock.fastForward(3_000);
  await page.locator('#announcement').evaluate((target) => { target.textContent = ''; });
  await page.getByRole('button', { name: 'Aggiorna ora' }).click();
  await page.waitForFunction(() => /persone davanti/.test(document.getElementById('announcement').textContent));
});

scene('the way in with the keyboard alone', {}, async ({ program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const reached = [];
  for (let n = 0; n < 25; n += 1) {
    await page.keyboard.press('Tab');
    const focus = await page.evaluate(() => {
      const { id, tagName } = document.activeElement;
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return { name: id || tagName, seen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 };
    });
    if (focus.name === 'BODY') { break; }
    assert.ok(focus.seen, `the focus can be seen on ${focus.name}`);
    reached.push(focus.name);
  }
  for (const id of ['update', 'pause', 'auto', 'sound', 'notify', 'SUMMARY']) { assert.ok(reached.includes(id), `${id} in ${reached}`); }
  await program.change(MOVING);
  await inTime(page, page.locator('#enter:visible'));
  await page.locator('#heading').focus();
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'enter');
  await page.keyboard.press('Enter');
  await entersByItself(page, program);
});

scene('two tabs that open at the same moment share one place', {}, async ({ context, page }) => {
  const other = await context.newPage();
  await Promise.all([page.goto(WANTED), other.goto('/pratica/altro')]);
  await Promise.all([inLine(page), inLine(other)]);
  await page.reload();
  await inLine(page);
  await other.reload();
  await inLine(other);
  assert.equal(await text(other, '#reference'), await text(page, '#reference'));
});

scene('whoever leaves in one tab has left in the other', {}, async ({ context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const other = await context.newPage();
  await other.goto('/pratica/altro');
  await inLine(other);
  await other.locator('summary', { hasText: 'Lascia la fila' }).click();
  await other.locator('details button', { hasText: 'Lascia la fila' }).click();
  await heading(other, 'Hai lasciato la fila');
  await page.bringToFront();
  await inTime(page, title(page, 'Hai lasciato la fila'));
  assert.equal(await ticket(context), undefined, 'and nobody joined again');
});

scene('whoever has lost the place reads so, and has drawn a new one', {}, async ({ context, page }) => {
  await page.route(`**${OWN}/status**`, async (route) => {
    const answer = await route.fetch();
    const body = await answer.json();
    body.queue.state = 'expired';
    await context.clearCookies();
    await route.fulfill({ response: answer, json: body });
  }, { times: 1 });
  await page.goto(WANTED);
  await inLine(page);
  const before = await text(page, '#reference');
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /te ne è stato dato uno nuovo/);
  await heading(page, 'Sei in fila');
  assert.notEqual(await text(page, '#reference'), before);
});

scene('whoever comes back without the place reads that it is a new one, until something else is to be said', {}, async ({ context, program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await text(page, '#reference');
  await page.locator('#pause').click();
  await context.clearCookies();
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /te ne è stato dato uno nuovo/);
  await page.waitForFunction((old) => ![old, ''].includes(document.getElementById('reference').textContent), before);
  await page.locator('#pause').click();
  await program.change({ state: 'hold' });
  await inTime(page, title(page, 'La fila è in pausa'));
  assert.equal(await page.locator('#trouble').isVisible(), false);
});

scene('whoever logged out stands in no line again because of a tab that was left open', { settings: { logout: ['/pratica/esci'] } }, async ({ context, program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const other = await context.newPage();
  await other.goto('/pratica/altro');
  await inLine(other);
  await program.change(MOVING);
  await enters(other, program, '/pratica/altro');
  await inTime(page, title(page, 'Sei dentro'));
  await program.change(STANDING);
  await other.goto('/pratica/esci');
  await page.bringToFront();
  await inTime(page, title(page, 'Non sei ancora in fila'));
  await page.clock.fastForward(61_000);
  await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  assert.equal(await ticket(context), undefined, 'nobody joined');
  assert.equal(await page.locator('#enter').isVisible(), false);
  await program.fill(2);
  await page.locator('#again').click();
  await heading(page, 'Sei in fila');
});

scene('an answer that turns the page away is not the end: it goes on asking', {}, async ({ page }) => {
  let refusals = 0;
  await page.route(`**${OWN}/status**`, (route) => {
    refusals += 1;
    return refusals === 1 ? route.fulfill({ status: 403, contentType: 'application/problem+json', body: '{}' }) : route.fallback();
  });
  await page.goto(WANTED);
  await inLine(page);
  await inTime(page, page.locator('#plain:visible'));
  assert.equal(await page.locator('#place').isVisible(), false);
  await inTime(page, page.locator('#place:visible'));
  assert.equal(await page.locator('#plain').isVisible(), false);
  assert.equal(await page.locator('#trouble').isVisible(), false);
});

scene('whoever leaves without a connection has left as soon as there is one', {}, async ({ context, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await context.setOffline(true);
  await page.locator('summary', { hasText: 'Lascia la fila' }).click();
  await page.locator('details button', { hasText: 'Lascia la fila' }).click();
  await inTime(page, page.locator('#trouble:visible'));
  assert.match(await text(page, '#trouble'), /connessione/);
  await context.setOffline(false);
  await inTime(page, title(page, 'Hai lasciato la fila'));
  assert.equal(await ticket(context), undefined);
});

scene('a browser that allows notifications but shows none of a page says so at the choice', {}, async ({ context, program, page }) => {
  await context.addInitScript(() => {
    window.Notification = function Notification() { throw new TypeError('Illegal constructor'); };
    window.Notification.permission = 'granted';
    window.Notification.requestPermission = async () => 'granted';
  });
  await page.goto(WANTED);
  await inLine(page);
  await page.getByText('Mostra una notifica').click();
  await page.locator('#option-note:visible').waitFor();
  assert.equal(await page.locator('#notify').isChecked(), false);
  await program.change(MOVING);
  await enters(page, program);
});

scene('screen readers hear what changed at one moment as one text', {}, async ({ context, program, page }) => {
  await listen(context);
  await page.goto(WANTED);
  await inLine(page);
  await heard(page, 'Sei in fila', 'persone davanti');
  await program.change({ state: 'hold' });
  await inTime(page, title(page, 'La fila è in pausa'));
  await heard(page, 'La fila è in pausa', 'Perché ci vuole di più: ');
  await page.evaluate(() => { window.heard = []; });
  await page.clock.fastForward(3_000);
  await page.getByRole('button', { name: 'Aggiorna ora' }).click();
  await heard(page, 'in pausa', ':');
  await program.change({ ...MOVING, state: 'open' });
  await inTime(page, title(page, 'È il tuo turno'));
  await heard(page, 'È il tuo turno');
});

scene('a portal that takes its time gets exactly one entry', {}, async ({ portal, program, page }) => {
  const wanted = '/pratica/domanda?anno=2020&figli=2';
  const release = portal.hold(wanted);
  const entries = () => portal.received.filter(({ url }) => url === wanted).length;
  let [polls, polled] = [0, 0];
  page.on('response', (response) => { polls += Number(response.url().includes('/status')); });
  await page.goto(WANTED);
  await inLine(page);
  // As soon as the page is on its way, a hundred seconds pass on its clock, and it is looked at again and again.
  await page.evaluate(() => {
    const now = Date.now.bind(Date);
    let later = 0;
    Date.now = () => now() + later;
    setInterval(() => {
      if ((later === 0 && document.title !== 'Stai entrando') || later >= 100_000) { return; }
      later += 10_000;
      document.dispatchEvent(new Event('visibilitychange'));
    }, 200);
  });
  await page.locator('#auto').check();
  await program.change(MOVING);
  await until(page, () => entries() > 0);
  polled = polls;
  await until(page, () => polls > polled + 3);
  assert.equal(entries(), 1, 'the page has asked where it stands, and has not entered a second time');
  release();
  await page.locator('#inside').waitFor();
  assert.equal(entries(), 1);
});

scene('a full room says so, and the next one enters when somebody leaves', { line: 0, settings: { ...MOVING, max_active_sessions: 1, logout: ['/pratica/esci'] } }, async ({ program, page }) => {
  const ask = async (address, cookie = '') => {
    const answer = await fetch(program.origin + address, { headers: { accept: 'text/html', cookie } });
    return answer.headers.getSetCookie().map((line) => line.split(';')[0]).join('; ');
  };
  const pass = await ask('/pratica/altro');
  await ask('/pratica/altro', pass);
  await page.goto(WANTED);
  await inTime(page, page.locator('#reason:visible'));
  assert.match(await text(page, '#reason'), /il servizio è pieno/);
  await picture(page, 'full-room');
  await ask('/pratica/esci', pass);
  await enters(page, program);
});

scene("the portal's own lang chooses nothing here, and is still in the address that is entered", {}, async ({ program, page }) => {
  const wanted = '/pratica/domanda?lang=en&x=1';
  await page.goto(wanted);
  await heading(page, 'Sei in fila');
  await page.getByRole('link', { name: 'Deutsch' }).click();
  await heading(page, 'Sie stehen in der Warteschlange');
  await program.change(MOVING);
  await enters(page, program, wanted);
});

scene('without script too many joins end in a page with the button, and the wanted address', {
  line: 0, profile: { javaScriptEnabled: false }, settings: { entry: 'page', joins_per_client: '1/h' },
}, async ({ program, page }) => {
  await program.fill(1);
  await page.goto(WANTED);
  await page.getByRole('button', { name: 'Mettiti in fila' }).click();
  await heading(page, 'Non sei ancora in fila');
  await page.getByText('troppe richieste').waitFor();
  await page.getByText(/ci si può mettere in fila: .*alle \d/).waitFor();
  assert.equal(await page.getByText('posto resta tuo').count(), 0, 'nobody is told of a place that there is not');
  assert.equal(await page.locator('#leave').isVisible(), false, 'nor offered to leave it');
  await picture(page, 'plain-too-many');
  await program.change({ joins_per_client: 'unlimited' });
  await page.getByRole('button', { name: 'Mettiti in fila' }).click();
  await heading(page, 'Sei in fila');
  await program.change(MOVING);
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('where too many join the browser works a moment, and stands in line', {
  line: 0, settings: { entry: 'page', joins_per_client: '1/h' },
}, async ({ program, page }) => {
  await program.fill(1);
  const asked = page.waitForResponse((answer) => answer.url().includes('/join') && answer.status() === 429);
  await page.goto(WANTED);
  assert.equal((await (await asked).json()).challenge.bits, 14);
  await inLine(page);
});

scene('where too many join a browser without workers waits, and stands in line', {
  line: 0, settings: { entry: 'page', joins_per_client: '20/min' },
}, async ({ program, page }) => {
  await program.fill(20);
  await page.addInitScript(() => { window.Worker = undefined; });
  await page.goto(WANTED);
  await page.locator('#trouble', { hasText: 'roppe richieste' }).waitFor();
  await inTime(page, page.locator('#place'));
});

scene('without script whoever leaves and joins again enters at the wanted address', { profile: { javaScriptEnabled: false } }, async ({ program, page }) => {
  await page.goto(WANTED);
  await page.getByRole('button', { name: 'Mettiti in fila' }).click();
  await page.getByRole('button', { name: 'Aggiorna ora' }).click();
  await page.locator('summary', { hasText: 'Lascia la fila' }).click();
  await page.locator('details button', { hasText: 'Lascia la fila' }).click();
  await heading(page, 'Hai lasciato la fila');
  await page.getByRole('link', { name: 'English' }).click();
  await page.getByRole('button', { name: 'Join the line' }).click();
  await page.getByRole('link', { name: 'Italiano' }).click();
  await program.change(MOVING);
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('a form that meets maintenance is not sent, says why, and is sent from there afterwards', {}, async ({ portal, program, page }) => {
  await page.goto('/modulo');
  await page.locator('textarea').fill('dodici righe di domanda');
  await program.change({ state: 'closed' });
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il tuo modulo non è stato inviato');
  assert.match(await text(page, '#reason'), /manutenzione/);
  await picture(page, 'form-maintenance');
  await program.change({ state: 'open' });
  await inTime(page, page.locator('#place:visible'));
  assert.equal(await page.locator('#reason').isVisible(), false);
  await program.change(MOVING);
  await inTime(page, page.locator('#enter:visible'));
  await page.locator('#enter').click();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

scene('a form that the portal did not answer is sent again by reloading', { line: 0, settings: { ...MOVING, page: { service: 'Ente di prova', privacy_url: '/privacy' } } }, async ({ portal, program, page }) => {
  await page.goto('/pratica/modulo');
  await page.locator('textarea').fill('dodici righe di domanda');
  await portal.down();
  await page.getByRole('button', { name: 'Invia' }).click();
  await heading(page, 'Il servizio non risponde');
  await picture(page, 'form-unreachable');
  assert.equal(await text(page, 'header p'), 'Ente di prova');
  assert.equal(await page.locator('main a, header a').count(), 0, 'no link that would throw the form away');
  await page.getByText('Il tuo posto all\'interno resta tuo').waitFor();
  await portal.up();
  await page.getByText('ricarica questa pagina').waitFor();
  await page.reload();
  await page.locator('#inside').waitFor();
  assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
});

for (const javaScriptEnabled of [true, false]) {
  scene(`${javaScriptEnabled ? 'with' : 'without'} script another language opens in another tab, and the form stays`, { profile: { javaScriptEnabled } }, async ({ portal, program, context, page }) => {
    await page.goto('/modulo');
    await page.locator('textarea').fill('dodici righe di domanda');
    await page.getByRole('button', { name: 'Invia' }).click();
    await heading(page, 'Il tuo modulo non è stato inviato');
    const opened = context.waitForEvent('page');
    await page.getByRole('link', { name: 'English' }).click();
    const other = await opened;
    await other.locator('html[lang=en] h1').waitFor();
    await heading(page, 'Il tuo modulo non è stato inviato');
    await program.change({ state: 'observe' });
    await page.reload();
    await page.locator('#inside').waitFor();
    assert.deepEqual(portal.forms(), ['testo=dodici+righe+di+domanda']);
  });
}

scene('too old a browser gets by with the buttons alone', {}, async ({ context, program, page }) => {
  await context.addInitScript(() => { window.XMLHttpRequest = function XMLHttpRequest() { this.open = () => {}; }; });
  await page.goto(WANTED);
  await heading(page, 'Non sei ancora in fila');
  assert.equal(await page.locator('#place').isVisible(), false);
  await picture(page, 'too-old');
  await page.getByRole('button', { name: 'Mettiti in fila' }).click();
  await program.change(MOVING);
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('the number that the line has reached is written as the language writes numbers', { line: 40 }, async ({ page }) => {
  await page.route(`**${OWN}/board/**`, async (route) => {
    const answer = await route.fetch();
    const board = await answer.json();
    board.lanes.citizen.now_serving = 1234567;
    await route.fulfill({ response: answer, json: board });
  });
  await page.goto(WANTED);
  await inLine(page);
  await inTime(page, page.locator('#now_serving:visible'));
  assert.equal(await text(page, '#now_serving'), '1.234.567');
});

/** A way to the program on which pages may be kept: without the headers and the status that keep them out of caches. */
async function keepable(origin) {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const onwards = http.request(origin + request.url, { method: request.method, headers: request.headers }, (answer) => {
      const { 'cache-control': _, pragma: __, expires: ___, ...headers } = answer.headers;
      response.writeHead(answer.statusCode === 503 ? 200 : answer.statusCode, headers);
      answer.pipe(response);
    });
    onwards.on('error', () => response.destroy());
    request.pipe(onwards);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { asked, origin: `http://127.0.0.1:${server.address().port}`, close: () => { server.closeAllConnections(); server.close(); } };
}

scene('a page that Chromium kept in its back/forward cache asks anew when it is shown again', {}, async ({ program, page }) => {
  const way = await keepable(program.origin);
  try {
    await page.goto(way.origin + WANTED);
    await inLine(page);
    await page.evaluate(() => { window.location.href = '/modulo'; });
    await page.locator('textarea').waitFor();
    const before = way.asked.length;
    await page.evaluate(() => { window.history.back(); });
    const since = () => way.asked.slice(before);
    await until(page, () => since().some((line) => line.includes('/status')));
    assert.deepEqual(since().filter((line) => line.startsWith('GET /pratica')), [], 'the page itself was not asked for again');
  } finally {
    way.close();
  }
});

scene('back and forward lead to the same place, and a page that a browser kept asks anew', {}, async ({ page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const before = await text(page, '#reference');
  await page.evaluate(() => { window.location.href = '/modulo'; });
  await page.locator('textarea').waitFor();
  await page.goBack();
  await inLine(page);
  assert.equal(await text(page, '#reference'), before);
  // Chromium keeps no page with a status like 503; a page that it keeps is looked at below.
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })));
  const polled = page.waitForResponse((response) => response.url().includes('/status'));
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })));
  assert.equal((await polled).status(), 200);
  assert.equal(await text(page, '#reference'), before);
});

scene('without storage the visitor waits and enters all the same', {}, async ({ context, program, page }) => {
  await context.addInitScript(() => {
    for (const name of ['localStorage', 'sessionStorage']) {
      Object.defineProperty(window, name, { get() { throw new DOMException('blocked', 'SecurityError'); } });
    }
  });
  await page.goto(WANTED);
  await inLine(page);
  await program.change(MOVING);
  await enters(page, program);
});

scene('Arabic reads from right to left, with the place in it', { profile: { locale: 'ar' } }, async ({ page }) => {
  await page.goto(WANTED);
  await heading(page, 'أنت في الطابور');
  assert.equal(await page.locator('html').getAttribute('dir'), 'rtl');
  assert.match(await text(page, '#ahead'), /أمامك/);
  await picture(page, 'waiting-arabic');
});

scene('what the operator wrote is on the page, in the language of the page where there is one', {
  settings: {
    message: '<b>Domani</b> chiuso & "altro" \u202e',
    page: {
      service: { it: 'Ente <i>Prova</i>', en: 'Test Office' }, prepare: 'Codice fiscale', help: { it: 'Chiama' },
      help_url: 'tel:+39803164', privacy_url: 'https://ente.example/privacy', colours: { accent: '#006643' },
    },
  },
}, async ({ page }) => {
  await page.goto(WANTED);
  await inLine(page);
  assert.equal(await text(page, 'header p'), 'Ente <i>Prova</i>');
  assert.match(await text(page, '#message'), /^<b>Domani<\/b> chiuso & "altro"/);
  assert.equal(await page.locator('b, i').count(), 0);
  assert.equal(await page.locator('footer a[href="tel:+39803164"]').count(), 1);
  assert.equal(await page.locator('.main').first().evaluate((button) => getComputedStyle(button).backgroundColor), 'rgb(0, 102, 67)');
  await picture(page, 'own-words');
  await page.getByRole('link', { name: 'English' }).click();
  await heading(page, 'You are in the line');
  assert.equal(await text(page, 'header p'), 'Test Office');
  assert.equal(await page.locator('footer p').getAttribute('lang'), 'it');
});

scene('a broken folder is refused and the old page stays', {}, async ({ program, page }) => {
  const folder = path.join(program.folder, 'own');
  fs.mkdirSync(folder);
  fs.writeFileSync(path.join(folder, 'it.toml'), '[states.waiting]\nheading = "Attendi il tuo numero"\n');
  await program.change({ pages: { assets: folder } });
  await page.goto(WANTED);
  await heading(page, 'Attendi il tuo numero');
  for (const [file, content] of [['waiting.html', '{% if'], ['it.toml', 'nothing'], ['page.css', 'a { }']]) {
    fs.writeFileSync(path.join(folder, file), content);
    const refused = await program.tryToChange({});
    assert.equal(refused.status, 422, file);
    assert.equal((await refused.json()).faults[0].key, 'page.assets');
    await page.reload();
    await heading(page, 'Attendi il tuo numero');
    fs.rmSync(path.join(folder, file));
  }
  fs.rmSync(folder, { recursive: true });
  assert.equal((await program.tryToChange({})).status, 422, 'no folder at all');
  await page.reload();
  await heading(page, 'Attendi il tuo numero');
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
  await page.locator('summary', { hasText: 'Lascia la fila' }).click();
  await page.locator('details button', { hasText: 'Lascia la fila' }).click();
  await heading(page, 'Hai lasciato la fila');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'heading', 'the focus is not thrown to the top');
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
    await page.locator('#auto').check();
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
    await entersByItself(page, program);
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
  await inTime(page, page.locator('#trouble', { hasText: 'cookie' }));
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

scene('the page fits into ten kilobytes, and with its headers into the first flight', {}, async ({ program }) => {
  for (const lang of LANGUAGES) {
    const sizes = [];
    for (const coding of ['br', 'gzip']) {
      const answer = await fetch(program.origin + WANTED, { headers: { accept: 'text/html', 'accept-encoding': coding, 'accept-language': lang } });
      const headers = [...answer.headers].reduce((sum, [name, value]) => sum + name.length + value.length + 4, 0);
      const size = Number(answer.headers.get('content-length'));
      assert.equal(answer.headers.get('content-encoding'), coding);
      assert.equal(answer.headers.get('content-language'), lang);
      assert.ok(size > 1000 && size <= 10_240, `${lang} ${coding}: ${size} bytes`);
      assert.ok(size + headers <= 14_600, `${lang} ${coding}: ${size} and ${headers} bytes`);
      sizes.push(`${coding} ${size} + ${headers}`);
    }
    console.log(`${lang}: ${sizes.join(', ')} bytes (page + headers)`);
  }
});

scene('at 50 kbit/s and 800 ms there and back the page can be read within 2 seconds', { line: 0, settings: { entry: 'page' } }, async ({ program, page, context }) => {
  await fetch(program.origin + WANTED, { headers: { accept: 'text/html' } });
  const devtools = await context.newCDPSession(page);
  await devtools.send('Network.enable');
  await devtools.send('Network.emulateNetworkConditions', { offline: false, latency: 800, downloadThroughput: 50_000 / 8, uploadThroughput: 50_000 / 8 });
  await page.goto(WANTED, { waitUntil: 'commit' });
  await page.locator('h1').waitFor();
  const painted = await page.evaluate(() => new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntriesByName('first-contentful-paint')[0].startTime)).observe({ type: 'paint', buffered: true });
  }));
  console.log(`first contentful paint: ${Math.round(painted)} ms`);
});

scene('a recovery code gives the place back on another device', {}, async ({ program, page }) => {
  await page.goto(WANTED);
  await inLine(page);
  const [code, ahead] = [await text(page, '#recovery_code'), number(await text(page, '#ahead'))];
  const device = await browser.newContext({ locale: 'it-IT', baseURL: program.origin });
  try {
    const there = await device.newPage();
    await there.goto(WANTED);
    await inLine(there);
    assert.notEqual(await text(there, '#recovery_code'), code);
    await there.locator('details:has(#recover) summary').click();
    const send = async (typed) => {
      await there.fill('#recover-field', typed);
      await there.locator('#recover button').click();
    };
    await send('0000-0000-0000-0000');
    await there.locator('#recover-answer', { hasText: 'Questo codice non è accettato' }).waitFor();
    await send(code.toLowerCase());
    await there.locator('#recovery_code', { hasText: code }).waitFor();
    assert.equal(number(await text(there, '#ahead')), ahead);
  } finally {
    await device.close();
  }
});

scene('without script a wrong recovery code is said to be wrong, and a right one leads to the place', { profile: { javaScriptEnabled: false } }, async ({ program, page }) => {
  const elsewhere = await fetch(`${program.origin}${OWN}/join?room=${ROOM}`, { method: 'POST', headers: { accept: 'application/json', origin: program.origin } });
  const code = (await elsewhere.json()).queue.recovery_code;
  await page.goto(WANTED);
  const send = async (typed) => {
    await page.locator('details:has(#recover) summary').click();
    await page.fill('#recover-field', typed);
    await page.locator('#recover button').click();
  };
  await send('0000-0000-0000-0000');
  await page.getByText('Questo codice non è accettato').waitFor();
  await send(code);
  await heading(page, 'Sei in fila');
  await page.getByText(code).waitFor();
  await program.change(MOVING);
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

/** A window of one hour, three hours from now, and closed otherwise. */
function hoursToCome() {
  const clock = new Intl.DateTimeFormat('it-IT', { timeZone: 'Europe/Rome', hour: '2-digit', hourCycle: 'h23' });
  const at = (hours) => `${clock.format(new Date(Date.now() + hours * 3_600_000))}:00`;
  return { opens: at(3), window: [{ from: at(3), to: at(4), share: { citizen: 1 } }, { from: at(4), to: at(3), closed: true }] };
}

const later = hoursToCome();
scene('outside the hours the page says when they begin, with script', { line: 0, settings: { ...MOVING, window: later.window } }, async ({ page }) => {
  await page.goto(WANTED);
  await inLine(page);
  await page.locator('#opens_at', { hasText: later.opens }).waitFor();
  assert.equal(await page.locator('#enter').isVisible(), false);
  assert.equal(await page.locator('#why').isVisible(), false, 'nothing is said that is true only of an open line');
});

scene('outside the hours the page says when they begin, without script', { line: 0, profile: { javaScriptEnabled: false }, settings: { ...MOVING, window: later.window } }, async ({ page }) => {
  await page.goto(WANTED);
  await page.locator('#plain button').click();
  await page.getByText(later.opens).first().waitFor();
  assert.equal(await page.locator('form[action*="/enter"]').count(), 0);
});

/** The room opens so many seconds after this is asked for, and places are drawn by lot. */
const opensIn = (seconds) => ({ at: new Date(Date.now() + seconds * 1000).toISOString(), order: 'lottery' });

scene('before the hour the page counts down without a number, and at the hour the visitor enters', { line: 0, settings: MOVING }, async ({ program, page }) => {
  await program.change({ opening: opensIn(20) });
  await page.goto(WANTED);
  await inLine(page);
  await heading(page, 'Il servizio non è ancora aperto');
  assert.match(await text(page, '#opens_in'), /^0:00:\d\d$/);
  assert.match(await text(page, '#ahead'), /estraggono a sorte/);
  assert.equal(await page.locator('#now_serving').isVisible(), false);
  assert.equal(await page.locator('#progress').isVisible(), false);
  const reference = await text(page, '#reference');
  await picture(page, 'before-opening');
  await page.locator('#pause').click();
  const stopped = await text(page, '#opens_in');
  await page.clock.runFor(3000);
  assert.equal(await text(page, '#opens_in'), stopped, 'a paused page counts nothing down');
  await page.locator('#pause').click();
  const facts = async () => (await fetch(`${program.origin}${OWN}/draw/${ROOM}`, { headers: { accept: 'application/json' } })).json();
  const before = await facts();
  await enters(page, program);
  const after = await facts();
  assert.equal(after.commitment, before.commitment);
  assert.equal(before.seed, null);
  assert.match(after.seed, /^[0-9a-f]{64}$/);
  assert.match(reference, /^[0-9A-Z]{4}-[0-9A-Z]{4}$/);
});

scene('before the gathering there is no place, and the page joins by itself when there is one', { line: 0, settings: MOVING }, async ({ program, context, page }) => {
  const gather_from = new Date(Date.now() + 20_000).toISOString();
  await program.change({ opening: { ...opensIn(600), gather_from } });
  await page.goto(WANTED);
  await heading(page, 'Il servizio non è ancora aperto');
  assert.equal(await ticket(context), undefined);
  assert.equal(await page.locator('#kept').isVisible(), false, 'nobody is told of a place that there is not');
  await inTime(page, page.locator('#kept:visible'));
  assert.equal(await page.locator('#leave').isVisible(), true);
  assert.notEqual(await ticket(context), undefined);
  assert.equal(await page.locator('#trouble').isVisible(), false, 'a first place is no new one');
});

scene('before the hour the page without script says how long it is, and at the hour the visitor enters', { line: 0, profile: { javaScriptEnabled: false }, settings: MOVING }, async ({ program, page }) => {
  await program.change({ opening: opensIn(20) });
  await page.goto(WANTED);
  await page.locator('#plain button').click();
  await heading(page, 'Il servizio non è ancora aperto');
  await page.getByText('1 minuto').waitFor();
  await picture(page, 'plain-before-opening');
  await entersByHand(page, program, '/pratica/domanda?anno=2020&figli=2');
});

scene('the receipt can be read in a page of its own', { profile: { javaScriptEnabled: false } }, async ({ page }) => {
  await page.goto(WANTED);
  await page.locator('#plain button').click();
  await page.getByRole('link', { name: 'Ricevuta' }).click();
  await page.getByText(/in fila per pratica da .*, numero 13/).waitFor();
  await picture(page, 'receipt');
});

scene('a second press does not break off the entry', {}, async ({ portal, program, page }) => {
  const wanted = '/pratica/domanda?anno=2020&figli=2';
  const release = portal.hold(wanted);
  const entries = () => portal.received.filter(({ url }) => url === wanted).length;
  await page.goto(WANTED);
  await inLine(page);
  await program.change(MOVING);
  await inTime(page, page.locator('#enter:visible'));
  await page.evaluate(() => { document.getElementById('enter').click(); document.getElementById('enter').click(); });
  await heading(page, 'Stai entrando').catch(() => {});
  await until(page, () => entries() > 0);
  assert.equal(entries(), 1);
  release();
  await page.locator('#inside').waitFor();
  assert.equal(entries(), 1);
});

describe('the waiting page', { concurrency: AT_ONCE }, () => {
  for (const { name, run } of scenes) { test(name, { timeout: 90_000 }, run); }
});
