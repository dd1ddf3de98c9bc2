// The built program with a configuration of its own, on ports that the system chose. Ends with the test that started it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const ROOT = path.resolve(import.meta.dirname, '../..');
const PROGRAM = process.env.ANTICAMERA ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target'), 'release/anticamera');

export const ROOM = 'pratica';
export const OWN = '/.waiting-room';

/** A value as TOML has it. */
function toml(value) {
  if (Array.isArray(value)) { return `[${value.map(toml).join(', ')}]`; }
  if (value?.constructor !== Object) { return JSON.stringify(value); }
  return `{ ${Object.entries(value).map(([key, inner]) => `"${key}" = ${toml(inner)}`).join(', ')} }`;
}

export class Program {
  #process;
  #log = [];
  #portal;
  #settings;
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'anticamera-browser-'));
  #listen = '127.0.0.1:0';   // as configured; a reload may not change it
  #admin = '127.0.0.1:0';
  #visitors;                 // the addresses in fact listened on
  #operators;
  #stopped = false;

  /** Starts the program in front of `portal`; `settings` are lines of the room's table, `page` of `[room.page]`, `pages` of `[page]`, `admin` of `[admin]`, `classes` of one `[[class]]` each. */
  static async start(portal, settings) {
    const program = new Program();
    program.#portal = portal;
    program.#settings = settings;
    await program.#start();
    return program;
  }

  get origin() { return `http://${this.#visitors}`; }

  /** Where operators look. */
  get operators() { return `http://${this.#operators}`; }

  /** Where an operator looks at pages with made-up figures. */
  get previews() { return `${this.operators}/admin/v1/rooms/${ROOM}/preview`; }

  /** A folder of the program's own, which ends with it. */
  get folder() { return this.#folder; }

  async #start() {
    this.#write();
    this.#process = spawn(PROGRAM, ['run', '--config', this.#file], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process.stderr.on('data', (text) => this.#log.push(String(text)));
    const lines = readline.createInterface({ input: this.#process.stdout });
    const serving = new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        this.#log.push(line);
        if (line.includes('anticamera serves')) { resolve(line); }
      });
      lines.on('close', () => reject(new Error(`the program ended:\n${this.#log.join('\n')}`)));
    });
    [this.#visitors, this.#operators] = (await serving).match(/127\.0\.0\.1:\d+/g);
  }

  get #file() { return path.join(this.#folder, 'config.toml'); }

  #write() {
    const { page = {}, pages = {}, admin = {}, classes = [], ...settings } = this.#settings;
    const lines = (table) => Object.entries(table).map(([key, value]) => `${key} = ${toml(value)}`);
    fs.writeFileSync(this.#file, [
      '[server]', `listen = ["${this.#listen}"]`, 'watch = false',
      '[portal]', `url = "${this.#portal.origin}"`, 'ramp = "1s"', 'connect_timeout = "1s"',
      '[admin]', `listen = "${this.#admin}"`, ...lines(admin),
      '[page]', ...lines(pages),
      '[[room]]', `name = "${ROOM}"`, 'paths = ["/pratica/**"]', ...lines(settings),
      '[room.page]', ...lines(page), ...classes.flatMap((one) => ['[[class]]', ...lines(one)]), '',
    ].join('\n'));
  }

  /** Changes settings of the room while the program runs. */
  async change(settings) {
    const answer = await this.tryToChange(settings);
    if (!answer.ok) { throw new Error(`reload: ${answer.status} ${await answer.text()}`); }
  }

  /** The answer to a change that may be refused. */
  tryToChange(settings) {
    this.#settings = { ...this.#settings, ...settings };
    this.#write();
    return fetch(`${this.operators}/admin/v1/reload`, { method: 'POST' });
  }

  /** `kill -9`. */
  async crash() {
    this.#process.kill('SIGKILL');
    await once(this.#process, 'exit');
  }

  /** Waits until the program has ended by itself. */
  async ended() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) { await once(this.#process, 'exit'); }
    return this.#process.exitCode;
  }

  /** On the same ports with the same state. */
  async startAgain() {
    [this.#listen, this.#admin] = [this.#visitors, this.#operators];
    await this.#start();
  }

  async stop() {
    this.#stopped = true;
    this.#process.kill('SIGTERM');
    const late = setTimeout(() => this.#process.kill('SIGKILL'), 3000);
    if (this.#process.exitCode === null && this.#process.signalCode === null) { await once(this.#process, 'exit'); }
    clearTimeout(late);
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * Makes a line of visitors without a browser. The first one asks to enter for as long as it takes, as a visitor with a
   * turn does, so that the line moves only when somebody can enter; the others never come for their turn.
   */
  async fill(visitors) {
    const first = await this.#join();
    for (let n = 1; n < visitors; n += 1) { await this.#join(); }
    this.#knock(first);
  }

  async #join() {
    const answer = await fetch(`${this.origin}${OWN}/join?room=${ROOM}`, { method: 'POST', headers: { accept: 'application/json' } });
    if (answer.status !== 200) { throw new Error(`join: ${answer.status} ${await answer.text()}`); }
    return answer.headers.getSetCookie().map((cookie) => cookie.split(';')[0]).join('; ');
  }

  async #knock(cookie) {
    while (!this.#stopped) {
      const headers = { accept: 'text/html', cookie };
      const answer = await fetch(`${this.origin}/pratica/primo`, { headers }).catch(() => null);
      if (answer?.ok) { return; }
      await new Promise((resolve) => { setTimeout(resolve, 200); });
    }
  }
}
