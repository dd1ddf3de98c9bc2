// The operators' console of the built program in a real Chromium: figures that move, changes with a preview, two operators at
// once, other people's pages, accessibility. ANTICAMERA_CONSOLE may name a folder of console files to look at instead of the
// built-in ones; ANTICAMERA_PICTURES keeps pictures.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { HtmlValidate } from 'html-validate';
import { chromium } from 'playwright-core';

import { Portal } from './portal.mjs';
import { Program, ROOM } from './program.mjs';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const LINE = 25;
const MEDIA = { '': ['console.html', 'text/html'], '/console.js': ['console.js', 'text/javascript'], '/console.css': ['console.css', 'text/css'] };

let browser;
let portal;
let program;
let token;

before(async () => {
  const sandbox = process.getuid() === 0 ? ['--no-sandbox'] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: sandbox });
  portal = await Portal.start();
  const classes = [{ name: 'office', proof: [{ kind: 'invitation_code', dir: 'state/codes' }] }];
  program = await Program.start(portal, { admission_rate: '1/h', entry: 'page', joins_per_client: 'unlimited', message: 'Il servizio è attivo.', classes });
  token = fs.readFileSync(path.join(program.folder, 'state/admin-token'), 'utf8').trim();
  await program.fill(LINE);
});

after(async () => {
  await browser?.close();
  await program?.stop();
  await portal?.down();
});

/** Other files than the built-in ones, with the same policy. */
async function useOtherFiles(page) {
  const folder = process.env.ANTICAMERA_CONSOLE;
  if (!folder) { return; }
  const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";
  await page.route(/\/console(\/console\.(js|css))?$/, (route) => {
    const [file, contentType] = MEDIA[new URL(route.request().url()).pathname.slice('/console'.length)];
    return route.fulfill({ body: fs.readFileSync(path.join(folder, file)), contentType: `${contentType}; charset=utf-8`, headers: { 'content-security-policy': policy } });
  });
}

/** An operator's browser with the console open, which complains aloud of policy violations and script errors. */
async function operator(profile = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...profile });
  context.setDefaultTimeout(20_000);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => { if (message.type() === 'error' && !/status of (401|409|412|422)/.test(message.text())) { complaints.push(message.text()); } });
  page.on('pageerror', (error) => complaints.push(String(error)));
  await useOtherFiles(page);
  await page.goto(`${program.operators}/console`);
  await page.locator('.room h2', { hasText: ROOM }).waitFor();
  return { context, page, complaints };
}

async function signIn(page) {
  await page.getByLabel('Token', { exact: true }).fill(token);
  await page.getByRole('button', { name: 'Use this token' }).click();
  await page.locator('#who', { hasText: 'may administer' }).waitFor();
}

const press = (page, name) => page.getByRole('button', { name, exact: true }).click();
const dialog = (page, words) => page.locator('dialog[open]', { hasText: words }).waitFor();
const status = async () => (await fetch(`${program.operators}/admin/v1/status`)).json();
const citizens = ({ rooms }) => rooms[0].lanes.find(({ class: name }) => name === 'citizen');
const figure = (page, term) => page.locator('.figures div', { hasText: term }).locator('dd > span').innerText();

async function previewRate(page, rate) {
  await press(page, 'Rate');
  await page.getByLabel('Entries', { exact: true }).fill(rate);
  await press(page, 'Preview');
  await dialog(page, 'Nothing is changed yet');
}

/** Waits until the program's status has this. */
async function inForce(holds) {
  for (let times = 0; times < 100; times += 1) {
    if (holds(await status())) { return; }
    await new Promise((resolve) => { setTimeout(resolve, 100); });
  }
  assert.fail(JSON.stringify(await status()));
}

async function picture(page, name) {
  const folder = process.env.ANTICAMERA_PICTURES;
  if (!folder) { return; }
  fs.mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: name !== 'console-preview' });
}

const tooWide = () => document.documentElement.scrollWidth - window.innerWidth;

async function violations(page) {
  // Playwright evaluates outside the page's policy, so that axe may be put in.
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(' ')}`);
}

test('figures appear and move, and the age of the picture turns red when none comes', async () => {
  const { context, page, complaints } = await operator();
  await page.locator('#age', { hasText: 'Live' }).waitFor();
  assert.equal(Number(await figure(page, 'In line')), citizens(await status()).waiting);
  const before = Number(await figure(page, 'In line'));
  await program.fill(3);
  await page.waitForFunction((old) => [...document.querySelectorAll('.figures div')].some((div) => /In line/.test(div.textContent) && Number(div.querySelector('dd > span').textContent) > old), before);
  assert.ok(await page.getByRole('button', { name: 'Rate', exact: true }).isDisabled(), 'looking changes nothing');
  // What a cut line looks like to the page: its stream ends and does not come back.
  await context.setOffline(true);
  await page.evaluate(() => stream.abort());
  await page.locator('#age.late', { hasText: 'out of reach' }).waitFor();
  await context.setOffline(false);
  await page.locator('#age:not(.late)', { hasText: 'Live' }).waitFor();
  assert.deepEqual(complaints.filter((text) => !/ERR_INTERNET_DISCONNECTED/.test(text)), []);
  await context.close();
});

test('a rate is previewed, confirmed, in force, and undone', async () => {
  const { context, page, complaints } = await operator();
  await signIn(page);
  await previewRate(page, '2/h');
  await dialog(page, 'those who wait');
  await picture(page, 'console-preview');
  assert.deepEqual(await violations(page), []);
  assert.equal((await status()).rooms[0].rate, '1/h', 'a preview changes nothing');
  await press(page, 'Confirm');
  await dialog(page, 'it is in force');
  await inForce((now) => now.rooms[0].rate === '2/h');
  await page.locator('#overrides li', { hasText: `${ROOM}, rate: 2/h (by admin` }).waitFor();
  await press(page, 'Undo it');
  await dialog(page, 'Nothing is changed yet');
  await press(page, 'Confirm');
  await dialog(page, 'it is in force');
  await inForce((now) => now.rooms[0].rate === '1/h');
  await press(page, 'Close');
  await previewRate(page, '50/s');
  await page.locator('dialog .warning').first().waitFor();
  await press(page, 'Cancel');
  await press(page, 'Rate');
  await page.getByLabel('Entries', { exact: true }).fill('fast');
  await press(page, 'Preview');
  await dialog(page, 'not done');
  assert.equal((await status()).rooms[0].rate, '1/h');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('hold, freeze and a message with two languages, each with a preview', async () => {
  const { context, page, complaints } = await operator();
  await signIn(page);
  const confirm = async () => { await dialog(page, 'Nothing is changed yet'); await press(page, 'Confirm'); await dialog(page, 'in force'); await press(page, 'Close'); };
  await press(page, 'Hold');
  await confirm();
  await page.locator('.lane .warning', { hasText: 'held by an operator' }).first().waitFor();
  await press(page, 'Release');
  await confirm();
  await press(page, 'Freeze');
  await confirm();
  await press(page, 'Thaw');
  await confirm();
  await press(page, 'Message');
  await page.getByLabel('Text 1', { exact: true }).fill('Riprendiamo <b>alle 10</b>');
  await press(page, 'Another language');
  await page.getByLabel('Language of text 2').selectOption('de');
  await page.getByLabel('Text 2', { exact: true }).fill('Um zehn geht es weiter');
  await press(page, 'Preview');
  await dialog(page, 'How the pages say it');
  await page.locator('dialog li', { hasText: 'Page in en: Riprendiamo <b>alle 10</b>' }).waitFor();
  await page.locator('dialog li', { hasText: 'Page in de: Um zehn geht es weiter' }).waitFor();
  await confirm();
  await inForce((now) => now.rooms[0].messages.length === 2);
  await press(page, 'Undo the last change');
  await confirm();
  await inForce((now) => now.rooms[0].messages.length === 1);
  await press(page, 'Reset the leak guard');
  await dialog(page, 'No room is stopped');
  await press(page, 'Confirm');
  await dialog(page, 'let in again');
  assert.deepEqual(complaints, []);
  await context.close();
});

test('of two operators at once the second hears what the first changed', async () => {
  const [first, second] = [await operator(), await operator()];
  await signIn(first.page);
  await signIn(second.page);
  await previewRate(first.page, '3/h');
  await previewRate(second.page, '4/h');
  await press(first.page, 'Confirm');
  await dialog(first.page, 'it is in force');
  await press(second.page, 'Confirm');
  await dialog(second.page, 'changed since your preview');
  await second.page.locator('dialog li', { hasText: '3/h' }).waitFor();
  assert.equal((await status()).overrides[0].value.wish.rate, '3/h', 'nothing of the second is in force');
  await press(second.page, 'Preview it anew');
  await dialog(second.page, 'Nothing is changed yet');
  await press(second.page, 'Confirm');
  await dialog(second.page, 'it is in force');
  await inForce((now) => now.rooms[0].rate === '4/h');
  assert.deepEqual([...first.complaints, ...second.complaints], []);
  await Promise.all([first.context.close(), second.context.close()]);
});

/** What an operator asks of the API directly. */
async function ask(method, rest, body) {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return (await fetch(`${program.operators}/admin/v1${rest}`, { method, headers, body: body && JSON.stringify(body) })).json();
}

async function previewCode(page, whose) {
  await press(page, 'Make a code');
  await page.getByLabel('To whom', { exact: true }).fill(whose);
  await page.getByLabel('Tickets', { exact: true }).fill('3');
  await press(page, 'Preview');
  await dialog(page, 'Nothing is changed yet');
}

test('a code is made, shown once, found and taken back', async () => {
  const { context, page, complaints } = await operator();
  assert.ok(await page.getByRole('button', { name: 'Make a code' }).isDisabled());
  assert.equal(await page.locator('#codes details').isVisible(), false, 'lists are for those who may administer');
  await signIn(page);
  await page.locator('#codes summary').click();
  await page.locator('#codes', { hasText: 'None.' }).waitFor();
  await previewCode(page, 'office 1');
  await dialog(page, 'A code of class office for office 1, for 3 tickets');
  assert.deepEqual((await ask('GET', '/codes')).codes, [], 'a preview makes nothing');
  await press(page, 'Confirm');
  await dialog(page, 'shown only now');
  const code = await page.locator('dialog .secret').innerText();
  assert.match(code, /^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$/);
  assert.deepEqual(await violations(page), []);
  await press(page, 'Close');
  await page.locator('dialog[open]').waitFor({ state: 'hidden' });
  await page.waitForFunction((text) => !document.documentElement.outerHTML.includes(text), code);
  const row = page.locator('#codes li', { hasText: 'office 1' });
  await row.filter({ hasText: 'used 0 of 3' }).waitFor();
  await page.getByLabel('Find a code').fill('office 2');
  await page.locator('#codes', { hasText: 'None.' }).waitFor();
  await page.getByLabel('Find a code').fill('FICE 1');
  await row.getByRole('button', { name: 'Take back the code of office 1' }).click();
  await dialog(page, 'Tickets that were drawn with it stay');
  await press(page, 'Confirm');
  await dialog(page, 'Done, and written down');
  await press(page, 'Close');
  await row.filter({ hasText: 'taken back' }).waitFor();
  await page.locator('#codes summary:focus').waitFor();
  assert.equal((await ask('GET', '/codes')).codes[0].state, 'revoked');
  await press(page, 'Forget the token');
  await page.locator('#codes li').first().waitFor({ state: 'detached' });
  assert.deepEqual(complaints, []);
  await context.close();
});

test('of two operators who hand out codes at once the second hears what the first did', async () => {
  const { context, page, complaints } = await operator();
  await signIn(page);
  await previewCode(page, 'office 7');
  await ask('POST', '/codes', { class: 'office', identity: 'office 7' });
  await press(page, 'Confirm');
  await dialog(page, 'changed since your preview');
  await page.locator('dialog li', { hasText: 'code created: office 7' }).waitFor();
  assert.equal((await ask('GET', '/codes')).codes.filter(({ identity }) => identity === 'office 7').length, 1);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('a staff pass is made, and opens the room by its link until it is taken back', async () => {
  const { context, page, complaints } = await operator();
  await signIn(page);
  await page.locator('#passes summary').click();
  await press(page, 'Make a pass');
  await page.getByLabel('For what, or whom').fill('uptime "probe"');
  await press(page, 'Preview');
  await dialog(page, 'is no name');
  await press(page, 'Close');
  await press(page, 'Make a pass');
  await page.getByLabel('For what, or whom').fill('uptime probe');
  await press(page, 'Preview');
  await dialog(page, 'Nothing is changed yet');
  await press(page, 'Confirm');
  await dialog(page, 'shown only now');
  const link = await page.locator('dialog .secret').first().innerText();
  const opens = async () => (await fetch(`${program.origin}${link}`, { redirect: 'manual' })).status === 303;
  const until = async (wanted) => { for (let times = 0; times < 100 && await opens() !== wanted; times += 1) { await page.waitForTimeout(100); } return opens(); };
  assert.equal(await until(true), true);
  await press(page, 'Close');
  await page.getByRole('button', { name: 'Take back the pass of uptime probe' }).click();
  await dialog(page, 'waits like everybody');
  await press(page, 'Confirm');
  await dialog(page, 'Done, and written down');
  assert.equal(await until(false), false);
  assert.deepEqual(complaints, []);
  await context.close();
});

test('where looking needs a token, nothing is shown without a good one', async () => {
  await program.change({ admin: { view_needs_token: true } });
  const context = await browser.newContext();
  const page = await context.newPage();
  await useOtherFiles(page);
  await page.goto(`${program.operators}/console`);
  await page.locator('#who', { hasText: 'Looking needs a token' }).waitFor();
  const signInWith = async (text) => { await page.getByLabel('Token', { exact: true }).fill(text); await press(page, 'Use this token'); };
  await signInWith('wrong');
  await page.locator('#who', { hasText: 'needs' }).waitFor();
  assert.equal(await page.locator('.room').count(), 0);
  await page.locator('#token').waitFor();
  await signInWith(token);
  await page.locator('.room h2', { hasText: ROOM }).waitFor();
  assert.deepEqual(await context.cookies(), []);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
  await press(page, 'Forget the token');
  await page.locator('#token').waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await page.locator('#age.late').waitFor();
  await context.close();
  await program.change({ admin: {} });
});

test('a reload that failed stands above everything until one succeeds', async () => {
  const { context, page, complaints } = await operator();
  assert.equal((await program.tryToChange({ admission_rate: 'fast' })).status, 422);
  await page.locator('#alarms', { hasText: 'The last reload did not come into force' }).waitFor();
  assert.deepEqual(await violations(page), []);
  await program.change({ admission_rate: '1/h' });
  await page.locator('#alarms', { hasText: 'did not come' }).waitFor({ state: 'detached' });
  assert.deepEqual(complaints, []);
  await context.close();
});

test("another site's page in the operator's browser changes nothing and cannot frame the console", async () => {
  const evil = http.createServer((request, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>evil</title>'));
  await new Promise((resolve) => { evil.listen(0, '127.0.0.1', resolve); });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${evil.address().port}/`);
  const { revision } = await status();
  const asked = page.waitForResponse((answer) => answer.url().endsWith('/rate'));
  await page.evaluate(([origin, room]) => { fetch(`${origin}/admin/v1/rooms/${room}/rate`, { method: 'POST', mode: 'no-cors', body: '{"rate":"9/s"}' }); }, [program.operators, ROOM]);
  assert.equal((await asked).status(), 403);
  const forged = await new Promise((resolve, reject) => {
    const headers = { origin: 'https://evil.example', authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const request = http.request(`${program.operators}/admin/v1/rooms/${ROOM}/rate`, { method: 'POST', headers }, resolve).on('error', reject);
    request.end('{"rate":"9/s"}');
  });
  assert.equal(forged.statusCode, 403, 'even with the right token');
  const framed = page.waitForResponse((answer) => answer.url().endsWith('/console'));
  await page.evaluate((address) => { document.body.append(Object.assign(document.createElement('iframe'), { src: address })); }, `${program.operators}/console`);
  assert.equal((await framed).status(), 403);
  assert.equal((await status()).revision, revision);
  await context.close();
  evil.closeAllConnections();
  evil.close();
});

test('html-validate has nothing to say', async () => {
  const folder = process.env.ANTICAMERA_CONSOLE;
  const html = folder ? fs.readFileSync(path.join(folder, 'console.html'), 'utf8') : await (await fetch(`${program.operators}/console`)).text();
  const { results } = await new HtmlValidate({ extends: ['html-validate:recommended'] }).validateString(html);
  assert.deepEqual(results.flatMap(({ messages }) => messages).map(({ line, ruleId, message }) => `line ${line}: ${ruleId}: ${message}`), []);
});

describe('accessibility', () => {
  for (const [width, height] of [[320, 640], [1920, 1080]]) {
    for (const colorScheme of ['light', 'dark']) {
      test(`no violations and nothing to scroll sideways at ${width} pixels, ${colorScheme}`, { timeout: 120_000 }, async () => {
        const { context, page, complaints } = await operator({ viewport: { width, height }, colorScheme });
        await signIn(page);
        await page.locator('.room > details > summary').click();
        await page.locator('figure svg').first().waitFor({ timeout: 60_000 });
        await picture(page, `console-${width}-${colorScheme}`);
        await page.evaluate(() => document.querySelectorAll('details').forEach((details) => { details.open = true; }));
        await page.locator('#codes li').first().waitFor();
        await page.locator('#passes li').first().waitFor();
        assert.deepEqual(await violations(page), []);
        assert.ok(await page.evaluate(tooWide) <= 0, 'it fits');
        await press(page, 'Message');
        assert.deepEqual(await violations(page), []);
        assert.ok(await page.evaluate(tooWide) <= 0, 'the dialogue fits');
        assert.deepEqual(complaints, []);
        await context.close();
      });
    }
  }

  test('a change can be made with the keyboard alone', async () => {
    const { context, page } = await operator();
    await signIn(page);
    await page.getByRole('button', { name: 'Rate', exact: true }).focus();
    await page.keyboard.press('Enter');
    await page.locator('#rate:focus').waitFor();
    await page.keyboard.press('Control+A');
    await page.keyboard.type('7/h');
    await page.keyboard.press('Enter');
    await dialog(page, 'Nothing is changed yet');
    await page.locator('dialog button:focus', { hasText: 'Confirm' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('dialog[open]').waitFor({ state: 'hidden' });
    await page.locator('button.act:focus', { hasText: 'Rate' }).waitFor();
    await context.close();
  });
});

test('a drain says whom it concerns, and then stops the program, whose line is there again after a start', async () => {
  const { context, page, complaints } = await operator();
  await signIn(page);
  const { waiting } = citizens(await status());
  await press(page, 'Drain and stop');
  await dialog(page, `${waiting} wait in line, 0 are inside`);
  await page.locator('dialog button:focus', { hasText: 'Cancel' }).waitFor();
  await picture(page, 'console-drain');
  assert.deepEqual(await violations(page), []);
  await press(page, 'Cancel');
  assert.equal((await status()).stage, 'serving', 'a preview changes nothing');
  await press(page, 'Drain and stop');
  await dialog(page, 'this cannot be undone');
  await press(page, 'Confirm');
  await dialog(page, 'the program ends what is under way, and stops');
  assert.equal(await program.ended(), 0);
  await page.locator('#age.late', { hasText: 'out of reach' }).waitFor();
  await program.startAgain();
  await page.locator('#age:not(.late)', { hasText: 'Live' }).waitFor();
  await inForce((now) => now.rooms.length === 1);
  const { tickets } = citizens(await status());
  assert.ok(tickets >= LINE, `${tickets} tickets`);
  assert.deepEqual(complaints.filter((text) => !/ERR_(CONNECTION|EMPTY_RESPONSE|INCOMPLETE_CHUNKED)/.test(text)), []);
  await context.close();
});
