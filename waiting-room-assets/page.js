/* The waiting page's script: joins the line, shows the visitor's place, enters when it is the turn. Plain ES5. */
(function () {
  'use strict';

  var settings = JSON.parse(document.getElementById('settings').textContent);
  var text = settings.text;
  var storage = sessionStorageOrNothing();
  var shown = null;          // the queue object on the page
  var latest = null;         // the newest queue object; differs from `shown` while updates are paused
  var lane = null;           // the lane's class, to find it on the board
  var paused = false;
  var offline = false;
  var rejoined = false;      // joined again after the place was gone; only a good answer to a poll forgets it
  var failures = 0;
  var pollTimer = null;
  var boardTimer = null;
  var pending = null;        // the request for the visitor's place that is under way
  var pendingSince = 0;
  var lastAsked = 0;
  var announcedAhead = Infinity;

  /* ---- the page ---- */

  function element(id) { return document.getElementById(id); }

  function write(id, words) {
    var target = element(id);
    var value = words === null || words === undefined ? '' : String(words);
    if (target && target.textContent !== value) { target.textContent = value; }
  }

  function show(id, visible) { element(id).hidden = !visible; }

  /* A row of figures is there only when there is something to say. */
  function writeRow(id, words) {
    write(id, words);
    element(id).parentNode.hidden = !words;
  }

  function announce(words) { write('announcement', words); }

  function headline(heading, lead) {
    if (document.title !== heading) { document.title = heading; announce(heading); }
    write('heading', heading);
    write('lead', lead);
  }

  function clock(instant) { return instant ? instant.substr(11, 5) : ''; }

  /* ---- what the server said ---- */

  function render(queue) {
    var place = /^(waiting|held|before_opening|closed_hours|your_turn)$/.test(queue.state);
    var turn = queue.state === 'your_turn';
    var stopped = turn && standsStill(queue);
    var state = settings.states[stopped ? 'held' : queue.state];
    var changed = !shown || shown.state !== queue.state;
    shown = queue;
    if (settings.kind === 'form' && !mayEnter(queue)) {
      headline(settings.form.heading, settings.form.lead);
    } else if (settings.kind === 'form') {
      headline(state.heading, settings.form.turn);
    } else {
      headline(state.heading, turn && !stopped && queue.text.ahead || state.lead);
    }
    show('place', place);
    show('why', place && !turn);
    show('enter', mayEnter(queue));
    show('again', queue.state === 'left');
    show('progress', place && !turn && queue.progress !== null);
    writeRow('ahead', turn ? '' : queue.text.ahead);
    write('wait', queue.text.wait || text.unknown);
    write('expected_at', queue.text.expected_at || text.unknown);
    element('wait').parentNode.hidden = turn;
    element('expected_at').parentNode.hidden = turn;
    writeRow('enter_by', turn && !stopped ? clock(queue.enter_by) : '');
    write('updated_at', queue.text.updated_at);
    writeRow('reference', queue.reference);
    if (queue.progress !== null) { element('progress').value = queue.progress; }
    showMessage(queue.message);
    showReason(queue.text.reason);
    announceThresholds(queue, changed);
  }

  function showMessage(message) {
    write('message', message);
    show('message-box', !!message);
  }

  function showReason(words) {
    var sentence = words ? text.longer + ': ' + words : '';
    if (element('reason').textContent !== sentence && sentence) { announce(sentence); }
    write('reason', sentence);
    show('reason', !!sentence);
  }

  /* Screen readers hear of the place when it halves, not at every step. */
  function announceThresholds(queue, changed) {
    if (queue.state !== 'waiting' || queue.ahead === null) { return; }
    if (!changed && queue.ahead > announcedAhead / 2) { return; }
    announcedAhead = queue.ahead;
    announce(queue.text.ahead + (queue.text.wait ? '. ' + text.wait + ': ' + queue.text.wait : ''));
  }

  function trouble(words) {
    write('trouble', words);
    show('trouble', !!words);
    if (words) { announce(words); }
  }

  /* ---- asking ---- */

  function ownAddress(name) {
    return settings.own_path + '/' + name + '?' + ['room=' + settings.room, 'lang=' + settings.language].join('&');
  }

  function request(method, address, body, done) {
    var xhr = new XMLHttpRequest();
    xhr.open(method, address, true);
    xhr.timeout = 40000;
    xhr.setRequestHeader('Accept', 'application/json');
    if (body) { xhr.setRequestHeader('Content-Type', 'application/json'); }
    xhr.onload = function () { done(xhr.status, xhr); };
    xhr.onerror = xhr.ontimeout = function () { done(0, xhr); };
    xhr.send(body ? JSON.stringify(body) : null);
    return xhr;
  }

  function parsed(xhr) {
    try { return JSON.parse(xhr.responseText); } catch (broken) { return null; }
  }

  function ask(name, body) {
    window.clearTimeout(pollTimer);
    if (pending) { pending.abort(); }
    pendingSince = lastAsked = Date.now();
    pending = request('POST', ownAddress(name), body, function (status, xhr) {
      var answer = parsed(xhr);
      pending = null;
      if (status === 200 && answer && answer.queue) { answered(name, answer.queue); }
      else if (status === 429 || (status === 503 && answer && answer.queue)) { refused(name, answer, xhr); }
      else if (status === 404 && mayReload()) { location.reload(); }
      else if (status === 403 || status === 404) { byHand(); }
      else { failed(name); }
    });
  }

  function join() {
    if (!navigator.cookieEnabled) { giveUp(text.cookies); return; }
    ask('join', { join_id: joinId(), to: location.pathname + location.search });
  }

  function poll() {
    ask('status', shown && shown.ahead !== null ? { shown_ahead: shown.ahead } : {});
  }

  function answered(name, queue) {
    failures = 0;
    trouble('');
    if (offline) { offline = false; announce(text.online); }
    latest = queue;
    lane = queue['class'] || lane;
    if (queue.state === 'none' || queue.state === 'expired') { placeGone(name); return; }
    if (name === 'status') { rejoined = false; }
    if (!paused || !shown || queue.state === 'your_turn') { render(queue); }
    if (queue.state === 'left') { return; }
    pollTimer = window.setTimeout(poll, queue.refresh_seconds * 1000);
    enterIfTurn();
  }

  /* Too many questions, or no place can be given just now: the server says why and when to ask again. */
  function refused(name, answer, xhr) {
    var wait = parseInt(xhr.getResponseHeader('Retry-After'), 10) || 30;
    if (answer && answer.queue && answer.queue.state !== 'none') { render(answer.queue); }
    else if (answer && answer.queue && answer.queue.text.reason) { noPlaceYet(answer.queue); }
    else { trouble(settings.too_many); }
    retry(name, wait);
  }

  function noPlaceYet(queue) {
    if (settings.kind === 'waiting') { headline(settings.states.none.heading, ''); }
    showReason(queue.text.reason);
  }

  /* What is shown stays; the page says that it may be old and tries again, ever more slowly. */
  function failed(name) {
    failures += 1;
    if (failures >= 2 && !offline) { offline = true; trouble(text.offline); }
    retry(name, Math.min(30, Math.pow(2, failures)));
  }

  function retry(name, seconds) {
    window.clearTimeout(pollTimer);
    pollTimer = window.setTimeout(name === 'join' ? join : poll, seconds * (1 + Math.random() / 2) * 1000);
  }

  /* One attempt to get a place back, then words instead of a loop. */
  function placeGone(name) {
    if (rejoined || name === 'join') {
      giveUp(navigator.cookieEnabled && latest.state === 'expired' ? text.lost : text.cookies);
      return;
    }
    rejoined = true;
    forget('anticamera-join-' + settings.room);
    join();
  }

  function giveUp(words) {
    headline(settings.states.none.heading, settings.states.none.lead);
    trouble(words);
    show('place', false);
    show('enter', false);
    show('again', true);
  }

  /* Our script is not accepted, or the room is gone: the plain form still works. */
  function byHand() {
    trouble(text.by_hand);
    show('place', false);
    show('plain', true);
  }

  /* ---- entering ---- */

  /* Nobody enters while there is a reason; only a service that starts again lets people in, slowly. */
  function standsStill(queue) { return !!queue.reason && queue.reason.code !== 'ramping_up'; }

  function mayEnter(queue) {
    if (queue.state === 'inside') { return true; }
    return queue.state === 'your_turn' && !(queue.ahead_at_gate > 0) && !standsStill(queue);
  }

  function enterIfTurn() {
    if (!latest || !mayEnter(latest) || settings.kind === 'form' || paused || document.hidden) { return; }
    if (!mayReload()) { trouble(text.by_hand); return; }
    headline(text.entering, '');
    location.reload();
  }

  /* The address may answer with this page again: at most five automatic attempts in two minutes. */
  function mayReload() {
    var now = Date.now();
    var key = 'anticamera-reloads-' + settings.room;
    var recent = (recall(key) || '').split(',').filter(function (time) { return time && now - time < 120000; });
    if (!storage || recent.length >= 5) { return false; }
    remember(key, recent.concat(now).join(','));
    return true;
  }

  /* ---- the board, read in between ---- */

  function readBoard() {
    window.clearTimeout(boardTimer);
    boardTimer = window.setTimeout(readBoard, settings.board_seconds * (1 + Math.random()) * 1000);
    if (document.hidden || paused || offline || (latest && !isFarOff(latest))) { return; }
    request('GET', settings.own_path + '/board/' + settings.room, null, function (status, xhr) {
      var board = status === 200 && parsed(xhr);
      if (board) { showBoard(board); }
    });
  }

  /* Whoever is asked again soon has fresher news than the board. */
  function isFarOff(queue) { return queue.state !== 'left' && queue.refresh_seconds > settings.board_seconds; }

  function showBoard(board) {
    var mine = board.lanes && board.lanes[lane];
    if (settings.kind === 'maintenance') {
      if (board.state !== 'closed' && mayReload()) { location.reload(); }
      return;
    }
    if (!shown || paused) { return; }
    showMessage(board.message);
    writeRow('now_serving', shown.state === 'waiting' && mine && mine.now_serving ? mine.now_serving : '');
  }

  /* ---- what survives a reload of this tab ---- */

  function sessionStorageOrNothing() {
    try {
      window.sessionStorage.setItem('anticamera', '1');
      return window.sessionStorage;
    } catch (blocked) { return null; }
  }

  function remember(key, value) { try { storage.setItem(key, value); } catch (full) { return; } }
  function recall(key) { return storage && storage.getItem(key); }
  function forget(key) { if (storage) { storage.removeItem(key); } }

  /* The same id draws the same ticket, should the answer to a join be lost. */
  function joinId() {
    var key = 'anticamera-join-' + settings.room;
    var id = recall(key) || random();
    remember(key, id);
    return id;
  }

  function random() {
    var numbers = [];
    var i;
    if (window.crypto && window.crypto.getRandomValues && window.Uint8Array) {
      numbers = window.crypto.getRandomValues(new Uint8Array(16));
    } else {
      for (i = 0; i < 16; i += 1) { numbers.push(Math.floor(Math.random() * 256)); }
    }
    return Array.prototype.map.call(numbers, function (n) { return (n + 256).toString(16).slice(1); }).join('');
  }

  /* ---- coming back: another tab, sleep, the back button, a new network ---- */

  function wake() {
    if (document.hidden || (latest && latest.state === 'left')) { return; }
    enterIfTurn();
    if (pending && Date.now() - pendingSince < 25000) { return; }
    if (Date.now() - lastAsked > 2000) { if (latest) { poll(); } else { join(); } }
  }

  function togglePause() {
    paused = !paused;
    write('pause', paused ? text.resume : text.pause);
    if (!paused && latest) { render(latest); enterIfTurn(); }
  }

  function startAgain() {
    trouble('');
    show('again', false);
    rejoined = false;
    forget('anticamera-join-' + settings.room);
    join();
  }

  /* Links to other languages keep the address: the choice goes into a cookie. */
  function chooseLanguage(event) {
    var code = event.target.getAttribute && event.target.getAttribute('hreflang');
    if (!code || !navigator.cookieEnabled || settings.kind === 'form') { return; }
    document.cookie = settings.language_cookie + '=' + code + '; Path=/; Max-Age=31536000; SameSite=Lax';
    event.preventDefault();
    location.reload();
  }

  if (element('service')) { write('service', location.host); }
  if (element('languages')) { element('languages').addEventListener('click', chooseLanguage); }
  if (settings.kind === 'maintenance') {
    boardTimer = window.setTimeout(readBoard, settings.board_seconds * 1000);
    return;
  }
  element('enter').addEventListener('click', function () { location.reload(); });
  element('again').addEventListener('click', startAgain);
  element('pause').addEventListener('click', togglePause);
  document.addEventListener('visibilitychange', wake);
  window.addEventListener('pageshow', wake);
  window.addEventListener('online', wake);
  show('plain', false);
  if (settings.kind === 'waiting') { headline(text.joining, text.joining_lead); }
  join();
  boardTimer = window.setTimeout(readBoard, settings.board_seconds * 1000);
}());
