// A stand-in portal: tells what reached it, and is down when asked to be.

import { once } from 'node:events';
import http from 'node:http';

export class Portal {
  /** What reached it: method, address and, with a form, its body. */
  received = [];
  #server;
  #port = 0;
  #held = new Map();

  static async start() {
    const portal = new Portal();
    await portal.up();
    return portal;
  }

  get origin() { return `http://127.0.0.1:${this.#port}`; }

  async up() {
    this.#server = http.createServer((request, response) => this.#answer(request, response));
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = this.#server.address().port;
  }

  async down() {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }

  /** Keeps answers to this address back until the function it returns is called. */
  hold(url) {
    let release;
    this.#held.set(url, new Promise((resolve) => { release = resolve; }));
    return release;
  }

  /** Bodies of the forms that reached it. */
  forms() { return this.received.filter(({ method }) => method === 'POST').map(({ body }) => body); }

  async #answer(request, response) {
    let body = '';
    for await (const piece of request) { body += piece; }
    // The proxy's own question about what this portal writes is no visitor's.
    const calibrates = request.url.includes('/anticamera-calibration-');
    if (request.url !== '/pratica/primo' && !calibrates) { this.received.push({ method: request.method, url: request.url, body }); }
    await this.#held.get(request.url);
    response.setHeader('content-type', 'text/html; charset=utf-8');
    if (request.url.endsWith('/modulo')) {
      response.end(page('Modulo', '<form method="post" action="/pratica/invia"><textarea name="testo"></textarea><button>Invia</button></form>'));
    } else {
      response.end(page('Dentro', `<p id="inside">${request.method} ${request.url.replaceAll('&', '&amp;')}</p><p id="body">${body}</p>`));
    }
  }
}

const page = (title, main) => `<!doctype html><html lang="it"><title>${title}</title><link rel="icon" href="data:,"><h1>${title}</h1>${main}</html>`;
