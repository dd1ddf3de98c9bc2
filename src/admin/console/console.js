// The operators' console. It shows the picture that the program sends each second, and changes a room only after it has
// shown what the change does. Text becomes text, never markup; the token lives as long as the tab does.
'use strict';

const API = '/admin/v1';
const LATE = 3000;
const CHARTS_EVERY = 10_000;
const REASONS = {
  operator_hold: 'held by an operator', outside_hours: 'outside its hours', before_opening: 'not open yet', room_full: 'no seat is free',
  portal_unhealthy: 'the portal does not answer', leak_guard: 'stopped by the leak guard', store_unreachable: 'the store does not answer',
  store_full: 'the store cannot write', ramping_up: 'the rate rises again after an outage', closed: 'the line has ended',
};

const id = (name) => document.getElementById(name);
const store = { get: () => sessionStorage.getItem('token') ?? '', set: (token) => sessionStorage.setItem('token', token), forget: () => sessionStorage.removeItem('token') };

let picture = null;      // the last one
let takenAt = 0;         // when it was taken, on this browser's clock as far as the program's can be known
let role = null;         // of the token, once the program has said so
let languages = null;
let past = new Map();
let chartSpan = 3600;
let stream = null;
let skew = Infinity;     // this browser's clock before the program's, and the way of a picture, since the stream began

// ---- building blocks

/** An element with properties and children; text stays text. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== 'list') { element[name] = value; } else { element.setAttribute(name, value); }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(tag, attributes = {}, text = '') {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) { element.setAttribute(name, value); }
  element.textContent = text;
  return element;
}

/** Writes only what differs, so that nothing flickers and a selection stays. */
function say(element, text) { if (element.textContent !== text) { element.textContent = text; } }

const whole = (value) => Math.round(value).toLocaleString('en');
const fine = (value) => (value === null || value === undefined ? '–' : value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 2 : value < 100 ? 1 : 0 }));

function perTime(rate) {
  if (rate === 0 || rate >= 1) { return `${fine(rate)}/s`; }
  return rate * 60 >= 1 ? `${fine(rate * 60)}/min` : `${fine(rate * 3600)}/h`;
}

function span(seconds) {
  if (seconds === null || seconds === undefined) { return 'no end known'; }
  if (seconds < 90) { return `${Math.round(seconds)} s`; }
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${fine(seconds / 3600)} h`;
}

function waitRange(low, high) {
  if (low === null || high === null) { return 'no end known'; }
  return span(low) === span(high) ? span(high) : `${span(low)} to ${span(high)}`;
}

function hour(instant) {
  const at = new Date(instant);
  const today = at.toDateString() === new Date().toDateString();
  return at.toLocaleString('en-GB', today ? { timeStyle: 'medium' } : { dateStyle: 'medium', timeStyle: 'short' });
}

// ---- asking the program

async function call(method, path, { body, revision } = {}) {
  const headers = {};
  if (store.get()) { headers.authorization = `Bearer ${store.get()}`; }
  if (body !== undefined) { headers['content-type'] = 'application/json'; }
  if (revision !== undefined) { headers['if-match'] = `"${revision}"`; }
  const answer = await fetch(API + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store' });
  const json = await answer.json().catch(() => ({}));
  return { ok: answer.ok, code: answer.status, json };
}

// ---- listening

const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

/** Reads the stream of pictures for ever. fetch, because an EventSource cannot send a token. */
async function listen() {
  for (;;) {
    stream = new AbortController();
    skew = Infinity;
    try {
      const headers = store.get() ? { authorization: `Bearer ${store.get()}` } : {};
      const answer = await fetch(`${API}/events`, { headers, cache: 'no-store', signal: stream.signal });
      if (!answer.ok) {
        const refusal = await answer.json().catch(() => ({}));
        tellWho(answer.status === 401 ? 'Looking needs a token here.' : refusal.detail ?? `The program answers ${answer.status}.`);
        await Promise.race([pause(answer.status === 503 ? 5000 : 15_000), aborted(stream.signal)]);
        continue;
      }
      await read(answer.body.getReader());
    } catch { /* Out of reach or cut off: the age of the picture says so. */ }
    await pause(500);
  }
}

const aborted = (signal) => new Promise((resolve) => { signal.addEventListener('abort', resolve); });

async function read(reader) {
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) { return; }
    text += decoder.decode(value, { stream: true });
    const events = text.split('\n\n');
    text = events.pop();
    const last = events.at(-1)?.split('\n').find((line) => line.startsWith('data: '));
    if (last) { show(JSON.parse(last.slice(6))); }
  }
}

/** Each second: how old the picture is. A clock that differs from the program's is no reason for an alarm. */
function tellAge() {
  if (!picture) { return; }
  const old = Date.now() - takenAt;
  const late = old > LATE;
  id('age').className = late ? 'age late' : 'age';
  say(id('age'), late ? `${Math.round(old / 1000)} s old: the program is out of reach` : `Live, ${Math.max(0, old / 1000).toFixed(0)} s old`);
}

function show(next) {
  picture = next;
  const seen = Date.now() - Date.parse(next.updated_at);
  skew = Math.min(skew, seen);
  takenAt = Date.now() - (seen - skew);
  say(id('stage'), next.stage === 'serving' ? '' : next.stage);
  showAlarms();
  showRooms();
  showFacts();
  showOverrides();
  tellAge();
}

// ---- what is wrong

function alarms({ portal, store: disk, configuration, certificates, rooms, leak_guard: leaks }) {
  const found = [];
  if (!portal.healthy) { found.push('The portal does not answer. Nobody is admitted, and session clocks stand still.'); }
  if (disk !== 'works') { found.push(disk === 'full' ? 'The store cannot write: the disk is full or read-only.' : 'The store does not answer.'); }
  for (const room of rooms) {
    if (room.leak_guard !== 'open') { found.push(`The leak guard has ${room.leak_guard === 'stopped' ? 'stopped' : 'only begun to reopen'} ${room.name}.`); }
    if (room.login_healthy === false) { found.push(`The login provider of ${room.name} does not answer.`); }
    if (room.nodes_disagreeing > 0) { found.push(`${room.nodes_disagreeing} nodes define ${room.name} otherwise.`); }
  }
  if (canary(leaks.edge).bad) { found.push('The edge canary found that something in front of this program keeps personal pages.'); }
  const reload = configuration.last_reload;
  if (reload && (reload.result === 'refused' || reload.result === 'needs_restart')) { found.push(`The last reload did not come into force (${reload.details.join('; ')}).`); }
  for (const { name, days_left: days } of certificates) {
    if (days < 14) { found.push(days < 0 ? `The certificate of ${name} has expired.` : `The certificate of ${name} expires in ${days} days.`); }
  }
  return found;
}

/** What the canary says of whatever stands in front. */
function canary(edge) {
  if (!edge?.last_round) { return { text: 'not asked yet', bad: false }; }
  const bad = edge.keeps_personal_pages === true || edge.stops_admissions === true;
  return { text: bad ? 'personal pages are kept' : edge.last_round.replaceAll('_', ' '), bad };
}

function showAlarms() {
  const found = alarms(picture);
  const box = id('alarms');
  if ([...box.children].map((child) => child.textContent).join('\n') === found.join('\n')) { return; }
  box.replaceChildren(...found.map((text) => make('p', { className: 'alarm', textContent: text })));
}

// ---- rooms

const cards = new Map();

/** A list of terms and their figures that is filled again each second. */
function figures(className, terms) {
  const fields = {};
  const entries = Object.entries(terms).map(([name, term]) => {
    const [main, note] = [make('span'), make('small')];
    fields[name] = { main, note };
    return make('div', {}, make('dt', { textContent: term }), make('dd', {}, main, note));
  });
  const put = (name, main, note = '', bad = false) => {
    say(fields[name].main, main);
    say(fields[name].note, note);
    fields[name].main.className = bad ? 'bad' : '';
  };
  return { element: make('dl', { className }, ...entries), put };
}

const action = (text, press) => make('button', { type: 'button', textContent: text, className: 'act', onclick: press });

function roomCard(name) {
  const title = make('h2', { id: `room-${name}` });
  const large = figures('figures', { entries: 'Entries, last 10 s', waiting: 'In line', seats: 'Seats taken', borne: 'Borne so far' });
  const message = make('p');
  const lanes = make('div');
  const hold = action('Hold', () => holdOrRelease(name));
  const freeze = action('Freeze', () => freezeOrThaw(name));
  const charts = make('div', { className: 'charts' });
  const details = make('details', {}, make('summary', { textContent: 'Charts of the last hours' }), spanChoice(name), charts);
  details.addEventListener('toggle', () => { if (details.open) { readHistory(); } });
  const actions = make('div', { className: 'actions' },
    action('Rate', () => askRate(name)), hold, action('Message', () => askMessage(name)), freeze,
    action('Undo the last change', () => propose({ title: `Undo the last change of ${name}`, path: `/rooms/${name}/undo`, body: {}, room: name })));
  const element = make('article', { className: 'room' }, title, large.element, message, actions, lanes, details);
  element.setAttribute('aria-labelledby', title.id);
  return { element, title, large, message, lanes, hold, freeze, details, charts, perLane: new Map() };
}

function spanChoice(name) {
  const select = make('select', { id: `span-${name}` }, ...[[900, '15 minutes'], [3600, '1 hour'], [21_600, '6 hours']].map(([value, text]) => make('option', { value, textContent: text, selected: value === chartSpan })));
  select.addEventListener('change', () => { chartSpan = Number(select.value); readHistory(); });
  return make('p', {}, make('label', { htmlFor: select.id, textContent: 'Show the last' }), select);
}

function showRooms() {
  const box = id('rooms');
  for (const [name, card] of cards) {
    if (!picture.rooms.some((room) => room.name === name)) { card.element.remove(); cards.delete(name); }
  }
  for (const room of picture.rooms) {
    if (!cards.has(room.name)) {
      cards.set(room.name, roomCard(room.name));
      box.append(cards.get(room.name).element);
      allow();
    }
    showRoom(cards.get(room.name), room);
  }
}

function showRoom(card, room) {
  const tags = [room.state, room.frozen ? 'frozen' : null, room.configured ? null : 'draining', room.opens_at ? `opens ${hour(room.opens_at)}` : null].filter(Boolean);
  const words = `${room.name} ${tags.join(' ')}`;
  if (card.title.dataset.words !== words) {
    card.title.dataset.words = words;
    card.title.replaceChildren(room.name, ...tags.flatMap((tag) => [' ', make('span', { className: tag === 'open' ? 'tag' : 'tag bad', textContent: tag })]));
  }
  const sum = (field) => room.lanes.reduce((total, lane) => total + lane[field], 0);
  const off = room.admission_rate > 0 && room.entries_per_second > 1.1 * room.admission_rate + 1;
  card.large.put('entries', perTime(room.entries_per_second), `of ${perTime(room.admission_rate)} in force, ${room.rate} written`, off);
  card.large.put('waiting', whole(sum('waiting')), `${whole(sum('called'))} called, ${whole(sum('at_gate'))} at the gate`);
  const limit = room.max_active_sessions;
  card.large.put('seats', whole(room.active_sessions), limit ? `of ${whole(limit)}` : 'no limit', Boolean(limit) && room.active_sessions >= limit);
  card.large.put('borne', perTime(room.highest_rate_borne), 'best minute of a well portal');
  say(card.message, room.message ? `Message: ${room.messages.map(([language, text]) => (language ? `${language}: ${text}` : text)).join(' · ')}` : 'No message is shown.');
  say(card.hold, room.state === 'hold' ? 'Release' : 'Hold');
  say(card.freeze, room.frozen ? 'Thaw' : 'Freeze');
  for (const [name, lane] of card.perLane) {
    if (!room.lanes.some(({ class: own }) => own === name)) { lane.element.remove(); card.perLane.delete(name); }
  }
  for (const lane of room.lanes) {
    if (!card.perLane.has(lane.class)) {
      const made = laneCard(lane.class);
      card.perLane.set(lane.class, made);
      card.lanes.append(made.element);
    }
    showLane(card.perLane.get(lane.class), lane);
  }
}

function laneCard(name) {
  const still = make('p');
  const list = figures('facts', { present: 'In line', entries: 'Entries', joins: 'Joins', shown: 'Wait shown', real: 'Wait real', gate: 'Gate', gone: 'Gone', seats: 'Seats', serving: 'Now serving', hours: 'Hours' });
  const title = name.charAt(0).toUpperCase() + name.slice(1);
  return { element: make('section', { className: 'lane' }, make('h3', { textContent: `${title} lane` }), still, list.element), still, list };
}

function showLane({ still, list }, lane) {
  const stands = lane.standstill;
  say(still, stands ? `Stands still: ${REASONS[stands.reason] ?? stands.reason}, since ${hour(stands.since)} (${span(stands.seconds)})` : '');
  still.className = 'warning';
  still.hidden = !stands;
  list.put('present', whole(lane.waiting), `${whole(lane.tickets)} tickets so far`);
  list.put('entries', perTime(lane.entries_per_second), `${whole(lane.entries)} so far`);
  list.put('joins', perTime(lane.joins_per_second));
  list.put('shown', waitRange(lane.wait_seconds_low, lane.wait_seconds_high), 'to whoever joins now');
  list.put('real', lane.wait_seconds_real === null ? '–' : span(lane.wait_seconds_real), 'mean of the last minute');
  list.put('gate', whole(lane.at_gate), `${whole(lane.called)} called`);
  list.put('gone', whole(lane.gone), `${whole(lane.no_shows)} no-shows, ${whole(lane.returns)} back`);
  list.put('seats', whole(lane.active_sessions));
  list.put('serving', whole(lane.now_serving));
  const { open, opens_at: opens, closes_at: closes } = lane.window;
  list.put('hours', open ? 'open' : 'closed', open ? (closes ? `until ${hour(closes)}` : '') : (opens ? `from ${hour(opens)}` : ''), !open);
}

// ---- the whole

const facts = figures('facts', {
  portal: 'Portal', latency: 'Latency, median', flight: 'Requests in flight', errors: 'Errors', guard: 'Leak guard', breaker: 'Breaker', canary: 'Edge canary',
  store: 'Store', nodes: 'Nodes', certificates: 'Certificates', configuration: 'Configuration', reload: 'Last reload', revision: 'Revision of changes', audit: 'Audit log',
});

function showFacts() {
  const { portal, leak_guard: leaks, certificates, configuration, rooms, store: disk, audit } = picture;
  const { put } = facts;
  put('portal', portal.healthy ? 'well' : 'does not answer', `${perTime(portal.answers_per_second)} answers`, !portal.healthy);
  put('latency', `${fine(portal.latency_p50_ms)} ms`, `95 of 100 within ${fine(portal.latency_p95_ms)} ms`);
  put('flight', whole(portal.in_flight), `of ${whole(portal.max_in_flight)}`, portal.in_flight >= portal.max_in_flight);
  put('errors', `${fine(portal.errors_percent)} %`, '', portal.errors_percent >= 1);
  put('guard', `${whole(leaks.blocked)} stopped`, `${whole(leaks.alarmed)} reported, mode ${leaks.mode}${leaks.last ? `, last ${hour(leaks.last)}` : ''}`, leaks.blocked > 0);
  const stopped = rooms.filter((room) => room.leak_guard !== 'open').map((room) => `${room.name} ${room.leak_guard}`);
  put('breaker', stopped.length ? stopped.join(', ') : 'closed, all let in', '', stopped.length > 0);
  put('canary', canary(leaks.edge).text, '', canary(leaks.edge).bad);
  put('store', disk, '', disk !== 'works');
  const nodes = Math.max(1, ...rooms.map((room) => room.nodes));
  const leads = rooms.filter((room) => room.leads).length;
  put('nodes', whole(nodes), nodes > 1 ? `this one leads ${leads} of ${rooms.length} rooms` : 'this one alone');
  const first = certificates.toSorted((one, other) => one.days_left - other.days_left)[0];
  put('certificates', first ? `${first.days_left} days left` : 'none', first ? `${first.name}, until ${hour(first.expires_at)}` : 'TLS does not end here', Boolean(first) && first.days_left < 14);
  put('configuration', configuration.revision || '–', configuration.in_force_since ? `since ${hour(configuration.in_force_since)}` : '');
  const reload = configuration.last_reload;
  put('reload', reload ? reload.result.replaceAll('_', ' ') : 'none since the start', reload ? [hour(reload.at), ...reload.details].join('; ') : '', reload?.result === 'refused');
  put('revision', String(picture.revision));
  put('audit', audit?.lines === undefined ? '–' : `${whole(audit.lines)} lines`);
}

const SUBJECTS = { rate: 'rate', state: 'state', message: 'message', freeze: 'clocks' };

function wishText(wish) {
  if (wish === 'freeze') { return 'frozen'; }
  if (Array.isArray(wish.message)) { return wish.message.length ? wish.message.map(({ language, text }) => (language ? `${language}: ${text}` : text)).join(' · ') : 'none'; }
  return String(wish.rate ?? wish.state ?? '');
}

const sayingText = (saying) => (saying ? wishText(saying.wish) : 'what the file says');

function showOverrides() {
  const lines = picture.overrides.map(({ room, subject, value }) => `${room}, ${SUBJECTS[subject] ?? subject}: ${wishText(value.wish)} (by ${value.by} since ${hour(value.since)}, ${value.until ? `until ${hour(value.until)}` : 'until taken back'})`);
  const shown = lines.length ? lines : ['Nothing: the configuration file is in force as it is.'];
  const list = id('overrides');
  if ([...list.children].map((child) => child.textContent).join('\n') !== shown.join('\n')) {
    list.replaceChildren(...shown.map((text) => make('li', { textContent: text })));
  }
}

// ---- what is handed out: invitation codes and staff passes

const MOST_ROWS = 100;
const WORTH = { good: 'good', revoked: 'taken back', expired: 'expired', used_up: 'used up', no_class: 'no class takes it', no_room: 'its room is gone' };

const KINDS = {
  codes: {
    one: 'code', whose: ({ identity }) => identity, facts: ({ class: name, used, uses }) => `class ${name}, used ${whole(used)} of ${whole(uses)}`,
    wanted: ({ identity, class: name, uses, expires_at: end }) => `A code of class ${name} for ${identity}, for ${whole(uses)} ${uses === 1 ? 'ticket' : 'tickets'}, good until ${hour(end)}.`,
    after: 'Tickets that were drawn with it stay.', ask: askCode,
  },
  passes: {
    one: 'pass', whose: ({ name }) => name, facts: ({ room }) => `room ${room}`,
    wanted: ({ name, room, expires_at: end }) => `A pass for ${name} through ${room}, good until ${hour(end)}. It opens the room in every state, without a seat.`,
    after: 'Whoever holds it waits like everybody, within seconds.', ask: askPass,
  },
};

const boxes = new Map();

function handoutBox(kind) {
  const { one, ask } = KINDS[kind];
  const hint = make('p', { className: 'hint', textContent: `Only a token that may administer sees and makes ${kind}.` });
  const find = make('input', { id: `find-${kind}`, type: 'search', autocomplete: 'off', spellcheck: false });
  const [rows, note, broken] = [make('ul', { className: 'handouts' }), make('p', { className: 'hint' }), make('div')];
  const details = make('details', {}, make('summary', { textContent: `Show ${kind}` }), field(`Find a ${one}`, find), rows, note, broken, make('button', { type: 'button', textContent: 'Read them again', onclick: () => readHandouts(kind) }));
  const made = action(`Make a ${one}`, ask);
  made.dataset.needs = 'administer';
  find.addEventListener('input', () => showHandouts(kind));
  details.addEventListener('toggle', () => { if (details.open) { readHandouts(kind); } });
  id(kind).append(hint, make('div', { className: 'actions' }, made), details);
  boxes.set(kind, { hint, find, rows, note, broken, details, list: null });
}

/** Shows the lists to whoever may see them, and forgets them otherwise. */
function allowHandouts() {
  const may = role === 'administer';
  for (const [kind, box] of boxes) {
    [box.hint.hidden, box.details.hidden] = [may, !may];
    if (!may) { box.list = null; showHandouts(kind); }
    if (may && box.details.open) { readHandouts(kind); }
  }
}

async function readHandouts(kind) {
  const { ok, json } = await call('GET', `/${kind}`).catch(outOfReach);
  const box = boxes.get(kind);
  if (ok) { box.list = json; }
  showHandouts(kind);
  if (!ok) { say(box.note, json.detail ?? 'They cannot be read now.'); }
}

/** The newest first, and no more than can be looked through. */
function showHandouts(kind) {
  const { list, find, rows, note, broken } = boxes.get(kind);
  const wanted = find.value.trim().toLowerCase();
  const all = (list?.[kind] ?? []).filter((row) => [KINDS[kind].whose(row), KINDS[kind].facts(row), row.id, WORTH[row.state]].some((text) => text?.toLowerCase().includes(wanted))).reverse();
  rows.replaceChildren(...all.slice(0, MOST_ROWS).map((row) => handoutRow(kind, row)));
  say(note, all.length > MOST_ROWS ? `${whole(all.length - MOST_ROWS)} older ones are not shown: find them by name or id.` : all.length ? '' : list ? 'None.' : '');
  broken.replaceChildren(...(list?.broken ?? []).map((text) => paragraph(text, 'warning')));
  allow();
}

function handoutRow(kind, row) {
  const { one, whose, facts: told } = KINDS[kind];
  const text = make('span', {}, make('strong', { textContent: whose(row) }), ' ', make('span', { className: row.state === 'good' ? 'tag' : 'tag bad', textContent: WORTH[row.state] ?? row.state }),
    make('small', { textContent: `${told(row)}, until ${hour(row.expires_at)}, id ${row.id}` }));
  if (row.state === 'revoked') { return make('li', {}, text); }
  const back = action('Take back', () => propose({ title: `Take back the ${one} of ${whose(row)}`, path: `/${kind}/${encodeURIComponent(row.id)}/revoke`, body: {}, list: kind }));
  back.dataset.needs = 'administer';
  back.setAttribute('aria-label', `Take back the ${one} of ${whose(row)}, id ${row.id}`);
  return make('li', {}, text, back);
}

const lastDay = (days) => field('Last day (optional)', make('input', { id: 'last-day', type: 'date' }), `By the server's clock. Without it: good for ${days} days.`);

async function askCode() {
  const title = 'Make a code';
  const { ok, code, json } = await call('GET', '/codes').catch(outOfReach);
  if (!ok) { refuse({ title }, { code, json }); return; }
  if (!json.classes.length) {
    openDialog(title, paragraph('No class takes codes: give one a proof of kind "invitation_code" in the configuration file, and reload.', 'warning'), make('div', { className: 'actions' }, closeButton('Close')));
    return;
  }
  const choice = make('select', { id: 'code-class' }, ...json.classes.map((name) => make('option', { value: name, textContent: name })));
  const identity = make('input', { id: 'code-identity', maxLength: 200, required: true, autocomplete: 'off' });
  const uses = make('input', { id: 'code-uses', type: 'number', min: 1, max: 4_294_967_295, step: 1, value: 1, required: true });
  wishForm(title, [field('To whom', identity, 'Such as office 123: it stands in the list, and quotas go by it.'), field('Class', choice), field('Tickets', uses, 'So many may be drawn with it.'), lastDay(90)],
    () => ({ title, path: '/codes', body: { class: choice.value, identity: identity.value, uses: Number(uses.value), expires: id('last-day').value || null }, list: 'codes' }));
}

function askPass() {
  const title = 'Make a pass';
  const choice = make('select', { id: 'pass-room' }, ...(picture?.rooms ?? []).filter((room) => room.configured).map(({ name }) => make('option', { value: name, textContent: name })));
  const name = make('input', { id: 'pass-name', maxLength: 64, required: true, autocomplete: 'off' });
  wishForm(title, [field('For what, or whom', name, 'Such as uptime probe: its requests are counted under this name.'), field('Room', choice), lastDay(30)],
    () => ({ title, path: '/passes', body: { room: choice.value, name: name.value, expires: id('last-day').value || null }, list: 'passes' }));
}

/** What a preview or its outcome says of something handed out or taken back. */
function handedOut({ list }, { result, code, pass, link, facts: told }) {
  const { one, whose, wanted, after } = KINDS[list];
  if (told.expires_at) { return [paragraph(wanted(told)), ...(code ? [secret('The code', code)] : []), ...(pass ? [secret(link.startsWith('/') ? "The link, behind the portal's address" : 'The link', link), secret('The same as a header', `Waiting-Room-Staff: ${pass}`)] : [])]; }
  return [paragraph(result === 'unchanged' ? `The ${one} of ${whose(told)} was taken back before: nothing changes.` : `Taken back, the ${one} of ${whose(told)} (id ${told.id}) is good for nothing. ${after}`)];
}

/** Something that is shown once. */
function secret(label, text) {
  const copy = make('button', { type: 'button', textContent: 'Copy', onclick: () => navigator.clipboard.writeText(text).then(() => say(copy, 'Copied'), () => say(copy, 'Select it and copy it')) });
  copy.setAttribute('aria-label', `Copy: ${label}`);
  return make('div', { className: 'field' }, make('strong', { textContent: label }), make('code', { className: 'secret', textContent: text }), navigator.clipboard ? copy : null);
}

const handoutText = ({ what, at, facts: told }) => `${what.replaceAll('_', ' ')}: ${told.identity ?? told.name}, id ${told.id} (${told.by}, ${hour(at)})`;

// ---- charts

async function readHistory() {
  if (![...cards.values()].some((card) => card.details.open)) { return; }
  const { ok, json } = await call('GET', `/history?seconds=${chartSpan}`).catch(() => ({ ok: false }));
  if (!ok) { return; }
  past = new Map(json.rooms.map((room) => [room.name, room]));
  for (const [name, card] of cards) { if (card.details.open && past.has(name)) { showCharts(card, past.get(name)); } }
}

function showCharts(card, room) {
  const openTables = new Set([...card.charts.querySelectorAll('details[open]')].map((details) => details.dataset.name));
  const { lanes } = room;
  const charts = [
    ...lanes.map((lane) => chart(`In line, ${lane.class}`, lane.at, [['in line', lane.waiting]], whole)),
    ...lanes.map((lane) => chart(`Entries and joins, ${lane.class}`, lane.at, [['entries', lane.entries_per_second], ['joins', lane.joins_per_second]], perTime)),
    ...lanes.map((lane) => chart(`Wait shown, ${lane.class}`, lane.at, [['wait', lane.wait_seconds]], span)),
    chart('Rate in force', room.at, [['rate', room.admission_rate]], perTime),
    chart('Seats taken', room.at, [['seats', room.active_sessions]], whole),
    chart('Portal, 95 of 100 within (ms)', room.at, [['milliseconds', room.portal_latency_p95_ms]], fine),
    chart('Portal errors (%)', room.at, [['percent', room.portal_errors_percent]], fine),
  ];
  for (const one of charts) { if (openTables.has(one.dataset.name)) { one.querySelector('details').open = true; } }
  card.charts.replaceChildren(...charts);
}

let drawn = 0;

/** One chart: lines over time, the same as a sentence, and as a table. */
function chart(title, at, series, format) {
  const [width, height, left, bottom, top] = [320, 130, 58, 20, 8];
  drawn += 1;
  const [titleId, descId] = [`chart-${drawn}`, `chart-desc-${drawn}`];
  const values = series.flatMap(([, column]) => column.filter((value) => value !== null));
  const caption = make('figcaption', { textContent: title });
  if (at.length < 2 || values.length < 2) { return figureOf(title, caption, make('p', { className: 'hint', textContent: 'No samples yet: there is one each ten seconds.' })); }
  const most = Math.max(...values) || 1;
  const [from, to] = [at[0], at.at(-1)];
  const x = (time) => left + ((time - from) / (to - from)) * (width - left - 4);
  const y = (value) => height - bottom - (value / most) * (height - bottom - top);
  const clock = (time) => new Date(time * 1000).toLocaleTimeString('en-GB', { timeStyle: 'short' });
  const told = series.map(([name, column]) => `${name}: now ${format(column.at(-1))}, highest ${format(Math.max(...column.filter((value) => value !== null), 0))}`).join('; ');
  const svg = draw('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-labelledby': `${titleId} ${descId}` });
  svg.append(
    draw('title', { id: titleId }, title), draw('desc', { id: descId }, `${clock(from)} to ${clock(to)}. ${told}.`),
    draw('line', { class: 'axis', x1: left, x2: width - 4, y1: height - bottom, y2: height - bottom }),
    draw('text', { x: left - 4, y: top + 8, 'text-anchor': 'end' }, format(most)), draw('text', { x: left - 4, y: height - bottom, 'text-anchor': 'end' }, '0'),
    draw('text', { x: left, y: height - 4 }, clock(from)), draw('text', { x: width - 4, y: height - 4, 'text-anchor': 'end' }, clock(to)),
  );
  series.forEach(([, column], number) => {
    for (const points of pieces(at, column)) {
      svg.append(draw('polyline', { class: number ? 'second' : 'first', points: points.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(' ') }));
    }
  });
  const key = series.length > 1 ? make('p', { className: 'key' }, make('span', { className: 'first', textContent: `— ${series[0][0]}` }), '  ', make('span', { className: 'second-name', textContent: `- - ${series[1][0]}` })) : null;
  return figureOf(title, caption, svg, key, table(title, at, series, format, clock));
}

function figureOf(title, ...children) {
  const figure = make('figure', {}, ...children);
  figure.dataset.name = title;
  return figure;
}

/** A line breaks where a sample is missing. */
function pieces(at, column) {
  const found = [[]];
  column.forEach((value, index) => {
    const gap = index > 0 && at[index] - at[index - 1] > 60;
    if (value === null || gap) { found.push([]); }
    if (value !== null) { found.at(-1).push([at[index], value]); }
  });
  return found.filter((points) => points.length > 1);
}

function table(title, at, series, format, clock) {
  const step = Math.max(1, Math.ceil(at.length / 30));
  const rows = at.map((time, index) => [time, index]).filter(([, index]) => (at.length - 1 - index) % step === 0).reverse();
  const head = make('tr', {}, ...['Time', ...series.map(([name]) => name)].map((text) => make('th', { scope: 'col', textContent: text })));
  const body = rows.map(([time, index]) => make('tr', {}, make('th', { scope: 'row', textContent: clock(time) }), ...series.map(([, column]) => make('td', { textContent: column[index] === null ? '–' : format(column[index]) }))));
  const scroll = make('div', { className: 'scroll', tabIndex: 0, role: 'region' }, make('table', {}, make('thead', {}, head), make('tbody', {}, ...body)));
  scroll.setAttribute('aria-label', `${title}, as a table`);
  const details = make('details', {}, make('summary', { textContent: 'As a table' }), scroll);
  details.dataset.name = title;
  return details;
}

// ---- the token

function tellWho(text) { say(id('who'), text); }

/** Buttons that the role does not allow are off; the program decides all the same. */
function allow() {
  const may = role === 'operate' || role === 'administer';
  for (const button of document.querySelectorAll('button.act')) { button.disabled = button.dataset.needs === 'administer' ? role !== 'administer' : !may; }
  const [entry, forget] = [id('token-entry'), id('forget')];
  const hadFocus = entry.contains(document.activeElement) || document.activeElement === forget;
  [entry.hidden, forget.hidden] = [Boolean(store.get()), !store.get()];
  if (hadFocus) { (store.get() ? forget : id('token')).focus(); }
}

async function learnWho() {
  role = null;
  if (store.get()) {
    const { ok, code, json } = await call('GET', '/me').catch(() => ({ ok: false, code: 0, json: {} }));
    if (ok) {
      role = json.role;
      tellWho(`${json.name}, may ${role}`);
      const view = await call('GET', '/config').catch(() => null);
      languages = view?.ok ? view.json.languages : null;
    } else {
      if (code === 401) { store.forget(); }
      tellWho(json.detail ?? 'The program is out of reach.');
    }
  } else { tellWho('Looking only. Changes need a token.'); }
  allow();
  allowHandouts();
}

function useToken(event) {
  event.preventDefault();
  const token = id('token').value.trim();
  id('token').value = '';
  if (!token) { return; }
  store.set(token);
  stream?.abort();
  learnWho();
}

function forgetToken() {
  store.forget();
  stream?.abort();
  learnWho();
}

// ---- changing: a wish, what it would do, a confirmation, what came of it

const roomOf = (name) => picture.rooms.find((room) => room.name === name);

let home = null;         // what the open dialogue came from

function openDialog(title, ...children) {
  if (!id('dialog').open) { home = document.activeElement?.closest('section, article'); }
  id('dialog-title').textContent = title;
  id('dialog-body').replaceChildren(...children.filter(Boolean));
  if (!id('dialog').open) { id('dialog').showModal(); }
  (id('dialog-body').querySelector('input, textarea, button.primary') ?? id('dialog-body').querySelector('button'))?.focus();
}

const closeButton = (text = 'Cancel') => make('button', { type: 'button', textContent: text, onclick: () => id('dialog').close() });
const paragraph = (text, className = '') => make('p', { textContent: text, className });
const listOf = (lines) => make('ul', {}, ...lines.map((text) => make('li', { textContent: text })));

function field(label, input, hint) {
  const note = hint ? make('p', { className: 'hint', id: `${input.id}-hint`, textContent: hint }) : null;
  if (note) { input.setAttribute('aria-describedby', note.id); }
  return make('div', { className: 'field' }, make('label', { htmlFor: input.id, textContent: label }), input, note);
}

const untilField = () => field('Until (optional)', make('input', { id: 'until', type: 'datetime-local' }), "On this computer's clock. Without it the change holds until it is taken back.");
const until = () => (id('until')?.value ? { until: new Date(id('until').value).toISOString() } : {});

/** A form whose only way on is the preview. */
function wishForm(title, fields, wish) {
  const form = make('form', {}, ...fields, make('div', { className: 'actions' }, make('button', { type: 'submit', className: 'primary', textContent: 'Preview' }), closeButton()));
  form.addEventListener('submit', (event) => { event.preventDefault(); propose(wish()); });
  openDialog(title, form);
}

function askRate(name) {
  const input = make('input', { id: 'rate', value: roomOf(name).rate, autocomplete: 'off', spellcheck: false });
  const title = `Rate of ${name}`;
  wishForm(title, [field('Entries', input, 'Such as 20/s or 90/min. Empty: what the configuration file says.'), untilField()],
    () => ({ title, path: `/rooms/${name}/rate`, body: { rate: input.value.trim() || null, ...until() }, room: name }));
}

function askMessage(name) {
  const title = `Message of ${name}`;
  const now = roomOf(name).messages;
  const codes = languages ?? ['it', 'en', 'de', 'fr', 'sl', 'es', 'ro', 'sq', 'uk', 'ar', 'zh'];
  const rows = make('div');
  let made = 0;
  const addRow = (language, text) => {
    made += 1;
    const choice = make('select', { id: `language-${made}` }, make('option', { value: '', textContent: 'every language' }), ...codes.map((code) => make('option', { value: code, textContent: code })));
    choice.value = language ?? '';
    const area = make('textarea', { id: `text-${made}`, value: text, maxLength: 2000 });
    rows.append(make('div', { className: 'field text' }, make('label', { htmlFor: choice.id, textContent: `Language of text ${made}` }), choice, make('label', { htmlFor: area.id, textContent: `Text ${made}` }), area));
    return area;
  };
  if (now.length) { now.forEach(([language, text]) => addRow(language, text)); } else { addRow(null, ''); }
  const texts = () => [...rows.children].map((row) => ({ language: row.querySelector('select').value || null, text: row.querySelector('textarea').value.trim() })).filter(({ text }) => text);
  const file = make('button', { type: 'button', textContent: "Preview the file's message", onclick: () => propose({ title, path: `/rooms/${name}/message`, body: { message: null }, room: name }) });
  wishForm(title, [paragraph('The first text also serves every language that has none of its own. No text at all: no message is shown.', 'hint'), rows,
    make('button', { type: 'button', textContent: 'Another language', onclick: () => addRow(codes.find((code) => !texts().some(({ language }) => language === code)), '').focus() }), untilField(), make('p', {}, file)],
  () => ({ title, path: `/rooms/${name}/message`, body: { message: texts(), ...until() }, room: name }));
}

function holdOrRelease(name) {
  const holds = roomOf(name).state === 'hold';
  propose({ title: `${holds ? 'Release' : 'Hold'} ${name}`, path: `/rooms/${name}/state`, body: { state: holds ? 'open' : 'hold' }, room: name });
}

function freezeOrThaw(name) {
  const frozen = roomOf(name).frozen;
  propose({ title: `${frozen ? 'Thaw' : 'Freeze'} ${name}`, path: `/rooms/${name}/${frozen ? 'thaw' : 'freeze'}`, body: {}, room: name });
}

const outOfReach = () => ({ ok: false, code: 0, json: { detail: 'The program is out of reach. If you had confirmed, look at the audit log before you try again.' } });

/** Asks what a wish would do, and shows it with the one button that does it, which is not the first where nothing takes it back. The revision is read first: what changes later refuses it. */
async function propose(wish) {
  openDialog(wish.title, paragraph('Asking what it would do …'));
  const seen = await call('GET', wish.list ? `/${wish.list}` : '/status').catch(outOfReach);
  if (!seen.ok) { refuse(wish, seen); return; }
  const revision = wish.room || wish.list ? seen.json.revision : undefined;
  const preview = await call('POST', `${wish.path}?dry_run=true`, { body: wish.body, revision }).catch(outOfReach);
  if (!preview.ok) { refuse(wish, preview); return; }
  const confirm = make('button', { type: 'button', className: wish.forGood ? '' : 'primary', textContent: 'Confirm', onclick: () => { confirm.disabled = true; carryOut(wish, revision); } });
  openDialog(`${wish.title}: preview`, paragraph('Nothing is changed yet.'), ...effectOf(wish, preview.json), make('div', { className: 'actions' }, ...(wish.forGood ? [closeButton(), confirm] : [confirm, closeButton()])));
}

const differenceText = ({ subject, from, to }) => `Changes ${SUBJECTS[subject] ?? subject}: ${sayingText(from)} → ${sayingText(to)}`;

function changeText({ room, subject, from, to, by, how, at }) {
  const who = `${by || 'the program'}, ${hour(at)}`;
  if (how === 'reloaded') { return `The configuration was reloaded (${who})`; }
  return `${room ?? ''} ${SUBJECTS[subject] ?? subject ?? ''}: ${sayingText(from)} → ${sayingText(to)} (${how}, ${who})`.trim();
}

function effectOf(wish, answer) {
  if (answer.rooms_let_in_again) { return [paragraph(answer.rooms_let_in_again.length ? `Visitors are let in again: ${answer.rooms_let_in_again.join(', ')}.` : 'No room is stopped.')]; }
  if (wish.list) { return handedOut(wish, answer); }
  if (answer.waiting !== undefined) {
    return [paragraph(`${whole(answer.waiting)} wait in line, ${whole(answer.inside)} are inside. Places and passes are kept, and what is under way ends; nobody is served until the program is started again on its machine.`),
      paragraph('Warning: this cannot be undone from here.', 'warning')];
  }
  const { change, state, frozen, rate, effects = [], warnings = [], message } = answer;
  return [
    paragraph(change ? differenceText(change) : 'This is so already: nothing changes.'),
    paragraph(`With it ${wish.room} is ${state}${frozen ? ', frozen' : ''}, at ${rate}.`),
    effects.length ? make('h3', { textContent: 'What it does to those who wait' }) : null,
    effects.length ? listOf(effects.map(({ text }) => text)) : null,
    ...warnings.map((text) => paragraph(`Warning: ${text}`, 'warning')),
    message ? make('h3', { textContent: 'How the pages say it' }) : null,
    message ? make('ul', {}, ...message.map(({ page, text, language, preview }) => {
      const said = make('span', { textContent: text ?? 'nothing' });
      if (text) { said.lang = language ?? page; said.dir = 'auto'; }
      return make('li', {}, make('a', { href: preview, target: '_blank', rel: 'noopener', textContent: `Page in ${page}` }), ': ', said);
    })) : null,
  ].filter(Boolean);
}

async function carryOut(wish, revision) {
  const done = await call('POST', wish.path, { body: wish.body, revision }).catch(outOfReach);
  if (!done.ok) { refuse(wish, done); return; }
  const undo = wish.room && done.json.result === 'applied'
    ? make('button', { type: 'button', textContent: 'Undo it', onclick: () => propose({ title: `Undo in ${wish.room}`, path: `/rooms/${wish.room}/undo`, body: done.json.change?.subject ? { what: done.json.change.subject } : {}, room: wish.room }) })
    : null;
  const outcome = {
    applied: 'Done, and written down: it is in force.', unchanged: 'It was so already: nothing was changed.', reset: 'Done: visitors are let in again.', revoked: 'Done, and written down.',
    created: 'Done, and written down. The secret is shown only now: copy it before you close this.', draining: 'Done, and written down: the program ends what is under way, and stops.',
  };
  const close = closeButton('Close');
  close.className = 'primary';
  if (wish.list) { readHandouts(wish.list); }
  openDialog(`${wish.title}: done`, paragraph(outcome[done.json.result] ?? done.json.result), ...(wish.room || wish.list ? effectOf(wish, done.json) : []), make('div', { className: 'actions' }, close, undo));
}

function refuse(wish, { code, json }) {
  const again = make('button', { type: 'button', className: 'primary', textContent: 'Preview it anew', onclick: () => propose(wish) });
  if (code === 412) {
    openDialog(`${wish.title}: not done`, paragraph('Something was changed since your preview. Nothing of yours was done.', 'warning'), listOf((json.changes ?? []).map(wish.list ? handoutText : changeText)), make('div', { className: 'actions' }, again, closeButton('Close')));
    return;
  }
  openDialog(`${wish.title}: not done`, paragraph(json.detail ?? `The program answers ${code}.`, 'warning'), make('div', { className: 'actions' }, closeButton('Close')));
}

// ---- beginning

id('facts').replaceWith(facts.element);
const reset = action('Reset the leak guard', () => propose({ title: 'Reset the leak guard', path: '/leak-guard/reset', body: {} }));
reset.dataset.needs = 'administer';
const drain = action('Drain and stop', () => propose({ title: 'Drain and stop the program', path: '/drain', body: {}, forGood: true }));
drain.dataset.needs = 'administer';
id('whole-actions').append(reset, drain);
Object.keys(KINDS).forEach(handoutBox);
id('dialog').addEventListener('close', () => {
  // What was shown once is gone with its dialogue; the button that opened it may be, too.
  id('dialog-body').replaceChildren();
  if (document.activeElement === document.body) { (home?.querySelector('summary') ?? home?.querySelector('button:enabled'))?.focus(); }
});
id('token-form').addEventListener('submit', useToken);
id('forget').addEventListener('click', forgetToken);
setInterval(tellAge, 500);
setInterval(readHistory, CHARTS_EVERY);
learnWho();
listen();
