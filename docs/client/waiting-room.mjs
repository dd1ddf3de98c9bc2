// A small client: asks like fetch, and when the answer is the waiting room's, waits in line and asks again.
// Works in browsers (which keep the place in cookies) and elsewhere (where it keeps the tokens in headers).

const TOKENS = ['Waiting-Room-Ticket', 'Waiting-Room-Turn', 'Waiting-Room-Pass'];
const tokens = new Map();

/**
 * Like `fetch`, for requests without a body that can be read only once.
 *
 * @param {string} url absolute address of what is wanted
 * @param {object} [options] those of `fetch`, and besides: `onWait(queue)`, called with the place in line whenever it is
 *   known; `ownPath`, the prefix of the waiting room's own paths; `signal` ends the waiting too
 * @returns {Promise<Response>} the portal's answer
 */
export async function waitThroughRoom(url, { onWait = () => {}, ownPath = '/.waiting-room', room, ...options } = {}) {
  for (;;) {
    const answer = await ask(url, options);
    const problem = await waitingRoomProblem(answer);
    if (!problem) { return answer; }
    await waitForTurn(new URL(ownPath, url), room ?? firstSegment(url), onWait, options.signal);
  }
}

/** Draws a ticket (or is told of the one there is) and asks as often as it is told to, until it may enter. */
async function waitForTurn(own, room, onWait, signal) {
  const joinId = crypto.randomUUID();
  let [path, body] = ['join', { join_id: joinId }];
  for (;;) {
    const answer = await ask(`${own}/${path}?room=${room}`, { method: 'POST', body: JSON.stringify(body), signal });
    const queue = (await answer.json().catch(() => ({}))).queue;
    if (!queue && answer.status < 500 && answer.status !== 429) { throw new Error(`waiting room: ${answer.status}`); }
    if (queue) { onWait(queue); }
    if (queue && mayEnter(queue)) { return; }
    [path, body] = queue && ['none', 'expired', 'left'].includes(queue.state) ? ['join', {}] : ['status', {}];
    const seconds = answer.ok && queue ? queue.refresh_seconds : Number(answer.headers.get('Retry-After') ?? 15);
    await pause(seconds, signal);
  }
}

/** Nobody enters while there is a reason, except that a service which starts again lets people in slowly. */
function mayEnter({ state, ahead_at_gate: before, reason }) {
  return state === 'inside' || (state === 'your_turn' && !(before > 0) && (!reason || ['ramping_up', 'room_full'].includes(reason.code)));
}

async function ask(url, options) {
  const headers = new Headers(options.headers);
  if (!headers.has('Accept')) { headers.set('Accept', 'application/json'); }
  if (options.body && !headers.has('Content-Type')) { headers.set('Content-Type', 'application/json'); }
  for (const [name, token] of tokens) { headers.set(name, token); }
  const answer = await fetch(url, { ...options, headers });
  for (const name of TOKENS) { if (answer.headers.has(name)) { tokens.set(name, answer.headers.get(name)); } }
  return answer;
}

/** The waiting room's answer is a problem document with a `queue` member; every other answer is the portal's. */
async function waitingRoomProblem(answer) {
  if (answer.status !== 503 || !answer.headers.get('Content-Type')?.startsWith('application/problem+json')) { return null; }
  const problem = await answer.clone().json().catch(() => null);
  return problem?.queue ? problem : null;
}

function firstSegment(url) { return new URL(url).pathname.split('/')[1]; }

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
