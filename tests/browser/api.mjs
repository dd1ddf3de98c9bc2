// The real answers of the built program against its own description (OpenAPI 3.1), and the description against OpenAPI.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

import { waitThroughRoom } from '../../docs/client/waiting-room.mjs';
import { Portal } from './portal.mjs';
import { OWN, Program, ROOM } from './program.mjs';

const TOKENS = ['waiting-room-ticket', 'waiting-room-turn', 'waiting-room-pass'];

let portal;
let program;
let description;
let ajv;

before(async () => {
  portal = await Portal.start();
  program = await Program.start(portal, { admission_rate: '1/h', joins_per_client: 'unlimited' });
  description = await (await fetch(`${program.origin}${OWN}/openapi.json`)).json();
  ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(description, 'api', false, false);
});
after(async () => {
  await program?.stop();
  await portal?.down();
});

/** An app: no cookies, no fetch metadata (Node's own fetch sends some, so they are said to be none), tokens in headers. */
class App {
  tokens = {};
  #program;

  constructor(asked = program) { this.#program = asked; }

  async ask(method, path, body, headers = {}) {
    const answer = await fetch(this.#program.origin + path, {
      method,
      redirect: 'manual',
      headers: { accept: 'application/json', 'content-type': 'application/json', ...this.tokens, ...headers },
      body: body && JSON.stringify(body),
    });
    for (const name of TOKENS) { if (answer.headers.has(name)) { this.tokens[name] = answer.headers.get(name); } }
    return answer;
  }

  own(method, name, body, headers) { return this.ask(method, `${OWN}/${name}?room=${ROOM}`, body, headers); }
}

/** The line takes note of a change within a second. */
async function becomes(app, state, method = 'GET') {
  for (;;) {
    const { queue } = await fits(await app.own(method, 'status'), '/status', method);
    if (queue.state === state) { return; }
    await new Promise((resolve) => { setTimeout(resolve, 1000); });
  }
}

/** The schema of an operation's answer: the one for its status and media type. */
function schemaOf(path, method, status, media) {
  const at = (pointer) => pointer.slice(2).split('/').reduce((node, part) => node[part.replaceAll('~1', '/')], description);
  const operation = description.paths[path]?.[method.toLowerCase()];
  let pointer = `#/paths/${path.replaceAll('/', '~1')}/${method.toLowerCase()}/responses/${status}`;
  const answer = operation?.responses[status];
  assert.ok(answer, `${method} ${path} describes ${status}`);
  if (answer.$ref) { pointer = answer.$ref; }
  const content = at(pointer).content;
  assert.ok(content?.[media], `${method} ${path} ${status} describes ${media}, not only ${Object.keys(content ?? {})}`);
  return `api${pointer}/content/${media.replaceAll('/', '~1')}/schema`;
}

async function fits(answer, path, method) {
  const media = answer.headers.get('content-type').split(';')[0];
  const body = await answer.json();
  const valid = ajv.getSchema(schemaOf(path, method, answer.status, media));
  assert.ok(valid(body), `${method} ${path} ${answer.status}: ${ajv.errorsText(valid.errors)}\n${JSON.stringify(body)}`);
  return body;
}

describe('what scripts and apps get', () => {
  test('the description is OpenAPI 3.1', async () => {
    const { valid, errors } = await new Validator().validate(structuredClone(description));
    assert.ok(valid, JSON.stringify(errors));
    assert.equal(description.servers[0].url, OWN);
  });

  test('a wrong answer would be noticed', async () => {
    const { queue } = await (await new App().own('POST', 'join')).json();
    const valid = ajv.getSchema(schemaOf('/join', 'POST', 200, 'application/json'));
    assert.ok(valid({ queue }));
    for (const wrong of [{ ...queue, state: 'asleep' }, { ...queue, ahead: '3' }, { ...queue, updated_at: 'now' }, { ...queue, window: null }]) {
      assert.equal(valid({ queue: wrong }), false);
    }
    for (const name of Object.keys(queue)) {
      const { [name]: _, ...rest } = queue;
      assert.equal(valid({ queue: rest }), false, `without ${name}`);
    }
  });

  test('answers in every state are as described', { timeout: 60_000 }, async () => {
    // Far from the front, polls are answered at once.
    await program.fill(40);
    const app = new App();
    assert.equal((await fits(await app.own('GET', 'status'), '/status', 'GET')).queue.state, 'none');
    const refused = await app.ask('GET', '/pratica/');
    assert.equal(refused.status, 503);
    assert.ok(Number(refused.headers.get('retry-after')) >= 1);
    const problem = await refused.json();
    const valid = ajv.getSchema('api#/components/schemas/Problem');
    assert.ok(valid(problem), ajv.errorsText(valid.errors));
    assert.equal((await fits(await app.own('POST', 'join', { join_id: 'a-random-text' }), '/join', 'POST')).queue.state, 'waiting');
    assert.match(app.tokens['waiting-room-ticket'], new RegExp(description.components.headers['Waiting-Room-Ticket'].schema.pattern));
    assert.equal((await fits(await app.own('POST', 'status', { shown_ahead: 3 }), '/status', 'POST')).queue.ahead, 3);
    await program.change({ state: 'hold' });
    await becomes(app, 'held');
    await fits(await app.ask('GET', `${OWN}/board/${ROOM}`), '/board/{room}', 'GET');
    await program.change({ state: 'closed' });
    assert.equal((await fits(await app.own('GET', 'status'), '/status', 'GET')).queue.state, 'maintenance');
    await program.change({ state: 'open' });
    assert.equal((await fits(await app.own('POST', 'leave'), '/leave', 'POST')).queue.state, 'left');
    for (const [method, path, status, asked] of [
      ['POST', '/join', 404, `${OWN}/join?room=nowhere`], ['DELETE', '/join', 405, `${OWN}/join?room=${ROOM}`],
      ['GET', '/board/{room}', 404, `${OWN}/board/nowhere`],
    ]) {
      const answer = await app.ask(method, asked);
      assert.equal(answer.status, status);
      await fits(answer, path, method === 'DELETE' ? 'POST' : method);
    }
    await fits(await app.own('POST', 'extend', undefined, { origin: 'https://other.example', 'waiting-room-ticket': '' }), '/extend', 'POST');
    await fits(await app.own('POST', 'join', { to: 'x'.repeat(9000) }), '/join', 'POST');
    const flooding = new App();
    await flooding.own('POST', 'join');
    await becomes(flooding, 'waiting');
    let answer;
    for (let n = 0; n < 15 && answer?.status !== 429; n += 1) { answer = await flooding.own('GET', 'status'); }
    assert.equal(answer.status, 429);
    assert.equal((await fits(answer, '/status', 'GET')).queue.state, 'waiting');
  });

  test('answers to whoever enters or wants more time are as described', { timeout: 60_000 }, async () => {
    const other = await Program.start(portal, { admission_rate: '10/s', entry: 'page' });
    try {
      const app = new App(other);
      await fits(await app.own('POST', 'join'), '/join', 'POST');
      await becomes(app, 'your_turn', 'POST');
      const extended = await fits(await app.own('POST', 'extend'), '/extend', 'POST');
      assert.equal(extended.queue.state, 'your_turn');
      assert.ok(Date.parse(extended.queue.enter_by) > Date.parse(extended.queue.updated_at));
      let answer;
      for (let n = 0; n < 12 && answer?.status !== 429; n += 1) { answer = await app.own('POST', 'extend'); }
      assert.equal(answer.status, 429);
      assert.ok(Number(answer.headers.get('retry-after')) >= 1);
      assert.equal((await fits(answer, '/extend', 'POST')).queue.state, 'your_turn');
      const entering = await app.own('POST', 'enter', { to: '/pratica/dati?x=1' });
      assert.equal(entering.status, 303);
      assert.ok(description.paths['/enter'].post.responses[303].headers.Location);
      assert.equal(entering.headers.get('location'), '/pratica/dati?x=1');
      await fits(await new App(other).own('POST', 'enter'), '/enter', 'POST');
      assert.equal((await app.ask('GET', '/pratica/dati?x=1')).status, 200);
      assert.equal((await fits(await app.own('POST', 'extend'), '/extend', 'POST')).queue.state, 'inside');
      assert.equal((await fits(await app.own('POST', 'status'), '/status', 'POST')).queue.state, 'inside');
    } finally {
      await other.stop();
    }
  });

  test("the documentation's client waits and gets what it asked for", { timeout: 60_000 }, async () => {
    const other = await Program.start(portal, { admission_rate: '12/min' });
    try {
      await other.fill(1);
      const told = [];
      const answer = await waitThroughRoom(`${other.origin}/pratica/dati?x=1`, { onWait: (queue) => told.push(queue.state) });
      assert.equal(answer.status, 200);
      assert.match(await answer.text(), /GET \/pratica\/dati\?x=1/);
      assert.deepEqual([...new Set(told)], ['waiting', 'your_turn']);
    } finally {
      await other.stop();
    }
  });
});
