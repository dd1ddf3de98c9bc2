// Every page in every state with made-up figures, as the built program shows them to operators: accessibility (axe),
// reflow and target sizes by measurement, valid markup (html-validate and the Nu checker), Lighthouse. ANTICAMERA_ASSETS
// may name a folder of templates and catalogues to look at instead of the built-in ones.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parse } from 'acorn';
import { HtmlValidate } from 'html-validate';
import { chromium } from 'playwright-core';

import { Portal } from './portal.mjs';
import { OWN, Program, ROOM } from './program.mjs';

const ROOT = path.resolve(import.meta.dirname, '../..');
const require = createRequire(import.meta.url);
const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const LANGUAGES = ['it', 'de', 'sl', 'fr', 'en', 'es', 'ro', 'sq', 'uk', 'ar', 'zh'];
const LARGE_TEXT = 'document.documentElement.style.fontSize = "200%"';
/** What holds for every state is shown on these. */
const MAIN = ['waiting', 'waiting-long', 'codes', 'held', 'before-opening', 'closed-hours', 'your-turn', 'form-not-sent', 'line-waiting', 'line-your-turn', 'notice-our-fault'];
const MODES = [
  { name: 'light at 320 pixels in Italian', lang: 'it', profile: { viewport: { width: 320, height: 640 } } },
  { name: 'dark in Arabic', lang: 'ar', profile: { viewport: { width: 1280, height: 800 }, colorScheme: 'dark' } },
  { name: 'forced colours in Italian', lang: 'it', profile: { viewport: { width: 1280, height: 800 }, forcedColors: 'active' } },
  { name: 'text at 200 % in Arabic', lang: 'ar', profile: { viewport: { width: 1280, height: 800 } }, prepare: LARGE_TEXT },
  { name: 'dark at 320 pixels in Italian, large text', lang: 'it', profile: { viewport: { width: 320, height: 640 }, colorScheme: 'dark' }, prepare: LARGE_TEXT },
];

let browser;
let portal;
let program;
let scenes;

before(async () => {
  const sandbox = process.getuid() === 0 ? ['--no-sandbox'] : [];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: sandbox });
  portal = await Portal.start();
  program = await Program.start(portal, {
    // Lighthouse looks at no page with a status like 503.
    admission_rate: '1/h', entry: 'page', page_status: 200, message: 'Il servizio è attivo.',
    pages: process.env.ANTICAMERA_ASSETS ? { assets: process.env.ANTICAMERA_ASSETS } : {},
    page: {
      service: { it: 'Ente di prova – Domande', en: 'Test office' }, hours: 'Dalle 8 alle 16: patronati.\nDalle 16 alle 8: cittadini.',
      prepare: { it: 'Codice fiscale e IBAN.' }, help: { it: 'Chiama 800 123 456.' }, help_url: 'tel:+39800123456',
      accessibility_url: '/accessibilita', privacy_url: 'https://ente.example/privacy',
    },
  });
  const list = await (await fetch(program.previews)).text();
  scenes = [...new Set([...list.matchAll(/scene=([a-z-]+)&/g)].map(([, name]) => name))];
  assert.ok(scenes.length > 60, `${scenes.length} scenes`);
});

after(async () => {
  await browser?.close();
  await program?.stop();
  await portal?.down();
});

const address = (scene, lang) => `${program.previews}?scene=${scene}&lang=${lang}`;

/** Opens the folded parts, so that they are looked at too. */
const unfold = () => document.querySelectorAll('details').forEach((details) => { details.open = true; });

const tooWide = () => document.documentElement.scrollWidth - window.innerWidth;

/** What can be pressed and is smaller than 24 by 24 pixels (WCAG 2.2, success criterion 2.5.8). */
const tooSmall = () => [...document.querySelectorAll('a, button, summary, input')]
  .map((target) => (target.type === 'checkbox' ? target.parentElement : target))
  .map((target) => ({ words: target.textContent.trim(), size: target.getBoundingClientRect() }))
  .filter(({ size }) => size.width > 0 && (size.width < 24 || size.height < 24))
  .map(({ words, size }) => `${words}: ${size.width} x ${size.height}`);

const violations = async (page) => {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return found.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(' ')}`);
};

/** A page that complains aloud: a policy violation or a script error fails the test. */
async function open(profile) {
  const context = await browser.newContext(profile);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => { if (message.type() === 'error') { complaints.push(message.text()); } });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { context, page, complaints };
}

describe('every state', { concurrency: 3 }, () => {
  for (const { name, lang, profile, prepare } of MODES) {
    test(`${name}: no violations, nothing to scroll sideways, targets large enough`, { timeout: 400_000 }, async () => {
      const { context, page, complaints } = await open(profile);
      for (const scene of scenes) {
        await page.goto(address(scene, lang));
        if (prepare) { await page.evaluate(prepare); }
        await page.evaluate(unfold);
        assert.deepEqual(await violations(page), [], scene);
        assert.ok(await page.evaluate(tooWide) <= 0, `${scene} fits`);
        assert.deepEqual(await page.evaluate(tooSmall), [], scene);
      }
      assert.deepEqual(complaints, []);
      await context.close();
    });
  }

  test('in every language nothing has to be scrolled sideways, at 320 pixels and with text at 200 %', { timeout: 400_000 }, async () => {
    const { context, page } = await open({ viewport: { width: 320, height: 640 } });
    for (const lang of LANGUAGES) {
      for (const scene of MAIN) {
        await page.goto(address(scene, lang));
        await page.evaluate(unfold);
        assert.ok(await page.evaluate(tooWide) <= 0, `${scene} in ${lang}`);
        await page.evaluate(LARGE_TEXT);
        assert.ok(await page.evaluate(tooWide) <= 0, `${scene} in ${lang} with large text`);
      }
    }
    await context.close();
  });

  test('the line page without script is the same to axe', async () => {
    const { context, page } = await open({ javaScriptEnabled: true, viewport: { width: 320, height: 640 } });
    await page.route('**/*', async (route) => {
      const answer = await route.fetch();
      const html = (await answer.text()).replace(/<script[^]*?<\/script>/g, '');
      await route.fulfill({ response: answer, body: html });
    });
    for (const scene of ['waiting', 'form-not-sent', 'maintenance']) {
      await page.goto(address(scene, 'it'));
      assert.ok(await page.locator('#plain').isVisible());
      assert.deepEqual(await violations(page), [], scene);
      assert.ok(await page.evaluate(tooWide) <= 0);
    }
    await context.close();
  });
});

describe('markup', () => {
  let folder;
  before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'anticamera-markup-'));
    const keep = async (name, url, headers = {}) => {
      fs.writeFileSync(path.join(folder, `${name}.html`), await (await fetch(url, { headers })).text());
    };
    for (const scene of scenes) { for (const lang of ['it', 'ar']) { await keep(`${scene}-${lang}`, address(scene, lang)); } }
    for (const lang of LANGUAGES) { await keep(`real-${lang}`, `${program.origin}/pratica/`, { accept: 'text/html', 'accept-language': lang }); }
    await keep('real-line', `${program.origin}${OWN}/line?room=${ROOM}&to=/pratica/%3Fa%3D%22%3E`, { accept: 'text/html' });
    await keep('real-wrong-method', `${program.origin}${OWN}/join?room=${ROOM}&to=/pratica/%3Fa%3D%22%3E`, { accept: 'text/html' });
    await keep('real-missing', `${program.origin}${OWN}/nothing`, { accept: 'text/html' });
    await keep('list', program.previews);
  });
  after(() => fs.rmSync(folder, { recursive: true, force: true }));

  test('html-validate has nothing to say', async () => {
    const checker = new HtmlValidate({ extends: ['html-validate:recommended'], rules: { 'no-trailing-whitespace': 'off' } });
    for (const file of fs.readdirSync(folder)) {
      const { results } = await checker.validateFile(path.join(folder, file));
      const said = results.flatMap(({ messages }) => messages).map(({ line, ruleId, message }) => `line ${line}: ${ruleId}: ${message}`);
      assert.deepEqual([...new Set(said)], [], file);
    }
  });

  test('the Nu checker has nothing to say', () => {
    const jar = path.join(path.dirname(require.resolve('vnu-jar')), 'build/dist/vnu.jar');
    // It leaves with an error, and says what, when a page has one.
    const said = execFileSync('java', ['-jar', jar, '--also-check-css', '--stdout', '--exit-zero-always', '--format', 'gnu', folder], { encoding: 'utf8' });
    assert.equal(said.replaceAll(folder, ''), '');
  });
});

/** Lighthouse's report on a page of the program in these categories. */
function lighthouse(page, categories) {
  const cli = path.join(path.dirname(require.resolve('lighthouse/package.json')), 'cli/index.js');
  return JSON.parse(execFileSync(process.execPath, [
    cli, program.origin + page, `--only-categories=${categories}`, '--output=json', '--quiet', '--no-enable-error-reporting',
    `--chrome-flags=--headless=new ${process.getuid() === 0 ? '--no-sandbox' : ''}`,
  ], { encoding: 'utf8', maxBuffer: 64 << 20, env: { ...process.env, CHROME_PATH: process.env.CHROMIUM ?? '/usr/bin/chromium' } }));
}

/** The marks for performance need Chromium's trace, which now and then lacks its beginning; then there is no figure, and nothing else is missing. */
function performanceOf(page) {
  try { return `performance ${lighthouse(page, 'performance').categories.performance.score * 100}`; } catch (error) {
    if (!/recording the trace/.test(error.stderr)) { throw error; }
    return 'performance not measured (no trace)';
  }
}

test('Lighthouse gives full marks for accessibility and best practices', { timeout: 180_000 }, () => {
  for (const page of ['/pratica/', `${OWN}/line?room=${ROOM}&lang=ar`]) {
    const { audits, categories: { accessibility, 'best-practices': practices } } = lighthouse(page, 'accessibility,best-practices');
    const short = Object.values(audits).filter(({ score, scoreDisplayMode }) => scoreDisplayMode === 'binary' && score === 0);
    assert.deepEqual([accessibility.score, practices.score], [1, 1], short.map(({ title }) => title).join('; '));
    console.log(`${page}: ${performanceOf(page)} (a figure of this machine, not a test)`);
  }
});

test("the page's script is ECMAScript 5", () => {
  const script = fs.readFileSync(path.join(ROOT, 'waiting-room-assets/page.js'), 'utf8');
  parse(script, { ecmaVersion: 5 });
  assert.throws(() => parse('const a = 1;', { ecmaVersion: 5 }), 'the parser would notice');
});
