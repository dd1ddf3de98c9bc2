/* The waiting page's script: joins the line, shows the visitor's place, enters when it is the turn. Plain ES5. */
(function () {
  'use strict';

  /* Without these the page stays what it is without script: a form and a button. */
  if (!window.JSON || !document.addEventListener || !('onload' in new XMLHttpRequest())) { return; }

  var settings = JSON.parse(document.getElementById('settings').textContent);
  var text = settings.text;
  var shown = null;          // the queue object on the page
  var shownAt = 0;           // when it came, by the clock of this device
  var latest = null;         // the newest queue object; another one than is shown while updates are paused
  var lane = null;           // the class of the lane, to find it on the board
  var mine = '';             // what the visitor has, as far as is known: nothing, a place in the line, or a pass
  var over = false;          // nothing is asked any more until the visitor wishes it
  var leaving = false;       // the visitor left, and the server does not know it yet
  var paused = false;
  var offline = false;
  var rejoined = false;      // joined again after the place was gone; only a good answer to a poll forgets it
  var remark = '';           // what there is to say besides, until the state changes or the visitor asks for news
  var asked = false;         // the visitor asked for news by hand
  var called = false;        // the visitor was told of the turn
  var failures = 0;
  var joinedAt = 0;
  var currentJoin = null;    // the id of the join that is under way
  var asks = {};             // what is asked of a join, and what was found
  var worker = null;         // finds it
  var pollTimer = null;
  var wentAt = 0;            // when this page set off to enter
  var boardTimer = null;
  var pending = null;        // the request that is under way
  var pendingSince = 0;
  var lastAsked = 0;
  var announcedAhead = Infinity;
  var saying = [];           // what screen readers are about to hear
  var audio = null;
  var tab = storageOrNothing('sessionStorage');      // outlasts a reload of this tab
  var shared = storageOrNothing('localStorage');     // for all tabs

  /* ---- the page ---- */

  function element(id) { return document.getElementById(id); }

  function on(id, event, action) { if (element(id)) { element(id).addEventListener(event, action); } }

  function write(id, words) {
    var target = element(id);
    var value = words === null || words === undefined ? '' : String(words);
    if (target && target.textContent !== value) { target.textContent = value; }
  }

  /* Whoever stood on what goes away is taken to the heading, not to the top of the page. */
  function show(id, visible) {
    var target = element(id);
    if (!target) { return; }
    if (!visible && target.contains(document.activeElement)) { element('heading').focus(); }
    target.hidden = !visible;
  }

  function showPlace(visible) {
    show('place', visible);
    show('actions', visible);
    if (!visible) { writeRow('reference', ''); writeRow('recovery_code', ''); }
  }

  /* A row of figures is there only when there is something to say. */
  function writeRow(id, words) {
    write(id, words);
    element(id).parentNode.hidden = !words;
  }

  function note(id, words) {
    write(id, words);
    show(id, !!words);
  }

  /* What is said at the same moment is heard as one text. */
  function announce(words) {
    if (!words || saying.indexOf(words) >= 0) { return; }
    if (!saying.length) { window.setTimeout(say, 100); }
    saying.push(words);
  }

  /* The same text a second time must differ from the first, or nobody hears it. */
  function say() {
    var words = saying.join('. ').replace(/([.\u3002])\. /g, '$1 ');
    saying = [];
    write('announcement', words + (element('announcement').textContent === words ? '\u00a0' : ''));
  }

  function headline(heading, lead) {
    if (!heading) { return; }
    if (document.title !== heading) { document.title = heading; announce(heading); }
    write('heading', heading);
    write('lead', lead);
  }

  function clock(instant) { return instant ? instant.substr(11, 5) : ''; }

  /* ---- what the server said ---- */

  function render(queue) {
    var place = isPlace(queue.state);
    var turn = queue.state === 'your_turn';
    var waits = place && !turn;
    var stopped = turn && standsStill(queue);
    var closed = stopped && queue.reason.code === 'outside_hours';
    var late = queue.closing && queue.closing.reach === 'unlikely';
    var changed = !shown || shown.state !== queue.state;
    shown = queue;
    shownAt = Date.now();
    if (settings.kind === 'form' && !mayEnter(queue)) {
      headline(settings.form.heading, settings.form.lead);
    } else if (settings.kind === 'form') {
      headline(queue.text.heading, settings.form.turn);
    } else {
      headline(queue.text.heading, queue.text.lead);
    }
    showPlace(place);
    show('kept', queue.reference);
    show('leave', queue.reference);
    show('receipt', queue.reference);
    show('why', queue.state === 'waiting' && !standsStill(queue));
    show('enter', mayEnter(queue));
    show('extend', turn && !stopped);
    show('turn_kept', turn && !stopped);
    show('again', queue.state === 'left');
    show('progress', waits && queue.progress !== null);
    if (queue.progress !== null) { element('progress').value = queue.progress; }
    writeRow('ahead', waits && queue.text.ahead);
    writeRow('wait', waits && (queue.text.wait || !late && queue.state === 'waiting' && text.unknown));
    writeRow('expected_at', waits && queue.text.expected_at);
    writeRow('opens_at', (waits || closed) && queue.text.opens_at);
    writeRow('closes_at', waits && queue.text.closes_at);
    writeRow('enter_by', turn && !stopped && clock(queue.enter_by));
    writeRow('reference', queue.reference);
    writeRow('recovery_code', queue.recovery_code);
    write('updated_at', queue.text.updated_at);
    countDown();
    if (element('message').textContent !== (queue.message || '')) { announce(queue.message); }
    note('message', queue.message);
    show('message-box', !!queue.message);
    tell('closing', queue.text.closing || '');
    if (settings.kind === 'form' && /^(maintenance|ended)$/.test(queue.state)) {
      explain(queue.text.heading);
    } else {
      showReason(closed || saysAll(queue) ? null : queue.text.reason);
    }
    announceThresholds(queue, changed);
    if (turn && mayEnter(queue)) { call(queue.text.heading); } else if (!turn) { called = false; }
  }

  function isPlace(state) { return /^(waiting|held|before_opening|closed_hours|your_turn)$/.test(state); }

  /* Outside the hours the heading is the reason. */
  function saysAll(queue) { return /^(before_opening|closed_hours)$/.test(queue.state); }

  function showReason(words) { explain(words ? text.longer + ': ' + words : ''); }

  function explain(sentence) { tell('reason', sentence); }

  function tell(id, words) {
    if (element(id).textContent !== words) { announce(words); }
    note(id, words);
  }

  /* Screen readers hear of the place when it halves, or when the visitor asked, not at every step. */
  function announceThresholds(queue, changed) {
    var counts = queue.state === 'waiting' && queue.ahead !== null;
    var words = counts ? queue.text.ahead : queue.text.reason || document.title;
    if (counts && queue.text.wait) { words += '. ' + text.wait + ': ' + queue.text.wait; }
    if (asked) { announce(words + '. ' + queue.text.updated_at); }
    else if (counts && (changed || queue.ahead <= announcedAhead / 2)) { announce(words); }
    else { return; }
    asked = false;
    if (counts) { announcedAhead = queue.ahead; }
  }

  /* The server's clock counts, not this device's: the two only have to run at the same speed. */
  function countDown() {
    var opens = shown && shown.state === 'before_opening' && shown.window.opens_at;
    var left = opens ? Math.max(0, Math.round((Date.parse(opens) - Date.parse(shown.updated_at) - Date.now() + shownAt) / 1000)) : 0;
    writeRow('opens_in', opens && !isNaN(left) ? Math.floor(left / 3600) + ':' + twoDigits(left / 60) + ':' + twoDigits(left) : '');
  }

  function twoDigits(count) { return ('0' + Math.floor(count) % 60).slice(-2); }

  function trouble(words) { tell('trouble', words); }

  /* ---- asking ---- */

  function ownAddress(name) {
    return settings.own_path + '/' + name + '?room=' + settings.room + '&' + 'lang=' + settings.language;
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

  function stopAsking() {
    window.clearTimeout(pollTimer);
    if (pending) { pending.abort(); }
    pending = null;
  }

  function ask(name, body) {
    stopAsking();
    pendingSince = lastAsked = Date.now();
    pending = request('POST', ownAddress(name), body, function (status, xhr) {
      var answer = parsed(xhr);
      pending = null;
      if (status === 200 && answer && answer.queue) { answered(name, answer.queue); }
      else if (/^(code|recover)$/.test(name)) { codeFailed(name, status); }
      else if (status === 429 && name === 'extend') { remark = text.no_more_time; trouble(remark); retry('status', 5); }
      else if (status === 429 || (status === 503 && answer && answer.queue)) { refused(name, answer, xhr); }
      else if (status === 404 && settings.kind === 'waiting' && mayReload()) { location.reload(); }
      else if (status === 403 || status === 404) { byHand(); retry(name, 30); }
      else { failed(name); }
    });
  }

  /* Only of a code that was looked at it is said that it is not accepted. */
  function codeFailed(name, status) {
    note(name + '-answer', status === 422 ? text.code_refused : status === 429 ? settings.too_many : text.offline);
    if (!over) { retry('status', 2); }
  }

  function join() {
    if (!navigator.cookieEnabled) { giveUp(text.cookies); return; }
    ask('join', { join_id: joinId(), to: location.pathname + location.search, challenge: asks.text, ending: asks.ending });
  }

  function poll() {
    window.clearTimeout(pollTimer);
    if (Date.now() - wentAt < 30000) { pollTimer = window.setTimeout(poll, 2000); return; }
    if (leaving) { giveUpPlace(); return; }
    if (latest && latest.state === 'before_opening' && !latest.reference) { join(); return; }
    ask('status', { shown_ahead: shown && shown.ahead, now: +asked || null });
  }

  function answered(name, queue) {
    var wasByHand = !element('plain').hidden;
    failures = 0;
    if (name === 'status' && latest && latest.state !== queue.state) { remark = ''; }
    trouble(remark);
    show('plain', false);
    if (offline) { offline = false; announce(text.online); }
    latest = queue;
    lane = queue['class'] || lane;
    if (name === 'leave') { leftHere(); return; }
    if (queue.state === 'none' || queue.state === 'expired') { placeGone(name); return; }
    if (queue.state !== 'maintenance') { mine = queue.reference ? 'place' : queue.state === 'inside' ? 'pass' : ''; }
    if (/^(join|code|recover)$/.test(name)) { over = leaving = false; joinedAt = Date.now(); }
    if (name === 'status') { rejoined = false; }
    if (/^(your_turn|inside)$/.test(queue.state)) { forgetJoin(); }
    if (!paused || asked || !shown || wasByHand || queue.state === 'your_turn') { render(queue); }
    if (queue.state === 'left') { over = true; return; }
    pollTimer = window.setTimeout(poll, queue.refresh_seconds * 1000);
    enterIfTurn();
  }

  /* Too many questions, or no place can be given just now: the server says why and when to ask again. */
  function refused(name, answer, xhr) {
    var queue = answer && answer.queue;
    if (queue && isPlace(queue.state)) { mine = 'place'; render(queue); }
    else if (queue && queue.text.reason) { noPlaceYet(queue); }
    else { trouble(settings.too_many); }
    if (answer && answer.challenge) { work(answer.challenge); }
    retry(name, parseInt(xhr.getResponseHeader('Retry-After'), 10) || 30);
  }

  /* Too many join from here: a little work is asked for. Without workers the wait is enough. */
  function work(challenge) {
    asks = challenge;
    if (!window.Worker) { return; }
    if (worker) { worker.terminate(); }
    worker = new Worker(settings.own_path + '/solver.js');
    worker.onmessage = function (event) { asks.ending = event.data; if (!over && !mine) { join(); } };
    worker.postMessage(asks);
  }

  function noPlaceYet(queue) {
    if (settings.kind === 'waiting') { headline(settings.states.none.heading, ''); }
    showReason(queue.text.reason);
  }

  /* What is shown stays; the page says that it may be old and tries again, ever more slowly. */
  function failed(name) {
    failures += 1;
    if ((failures >= 2 || name === 'leave') && !offline) {
      offline = true;
      trouble(text.offline + (mine ? ' ' + text.place_kept : ''));
    }
    if (name === 'leave') { remember('left', '', shared); }
    retry(name, Math.min(30, Math.pow(2, failures)));
  }

  function retry(name, seconds) {
    window.clearTimeout(pollTimer);
    pollTimer = window.setTimeout(name === 'join' ? join : poll, seconds * (1 + Math.random() / 2) * 1000);
  }

  /* One attempt to get a place back, then words instead of a loop. Who left in another tab has left here too, and who
     entered and went out again does not stand in line unasked. */
  function placeGone(name) {
    if (recall('left', shared) > joinedAt) { leftHere(); return; }
    if (mine === 'pass' || recall('entered', shared) > joinedAt) { endOfPlace(latest.state); return; }
    if (rejoined || name === 'join') {
      giveUp(navigator.cookieEnabled && latest.state === 'expired' ? text.lost : text.cookies);
      return;
    }
    rejoined = true;
    if (mine) { remark = text.new_place; }
    mine = '';
    shown = latest = null;
    announcedAhead = Infinity;
    showPlace(false);
    forgetJoin();
    join();
  }

  function leftHere() {
    leaving = false;
    endOfPlace('left');
  }

  function giveUp(words) {
    endOfPlace('none');
    trouble(words);
  }

  function endOfPlace(state) {
    over = true;
    mine = remark = '';
    shown = latest = null;
    trouble('');
    showReason('');
    headline(settings.states[state].heading, settings.states[state].lead);
    show('why', false);
    showPlace(false);
    show('enter', false);
    show('extend', false);
    show('receipt', false);
    tell('closing', '');
    show('again', true);
  }

  /* Our script is not accepted, or the room is gone: the plain form still works, and the page goes on asking. */
  function byHand() {
    if (!mine && settings.kind === 'waiting') { headline(settings.states.none.heading, settings.states.none.lead); }
    trouble(text.by_hand);
    showPlace(false);
    show('enter', false);
    show('extend', false);
    show('plain', true);
  }

  /* ---- the turn ---- */

  /* Nobody enters while there is a reason; only a service that starts again, or is full, lets people in, slowly. */
  function standsStill(queue) { return !!queue.reason && !/^(ramping_up|room_full)$/.test(queue.reason.code); }

  function mayEnter(queue) {
    if (queue.state === 'inside') { return true; }
    return queue.state === 'your_turn' && !(queue.ahead_at_gate > 0) && !standsStill(queue);
  }

  /* Only for whoever wished it, or pressed the button a moment ago and was sent back to the gate. */
  function enterIfTurn() {
    var wished = element('auto') && element('auto').checked || Date.now() - recall('entering', tab) < 120000;
    if (!latest || !mayEnter(latest) || settings.kind !== 'waiting' || !wished || paused || document.hidden) { return; }
    if (over || leaving || Date.now() - wentAt < 120000) { return; }
    if (!mayReload()) { trouble(text.by_hand); return; }
    headline(text.entering, '');
    go();
  }

  /* A second press would break off the entry under way. Who did not want to send the form again may press soon. */
  function enter() {
    if (Date.now() - wentAt < (settings.kind === 'form' ? 3000 : 20000)) { return; }
    if (text.entering) { headline(text.entering, ''); }
    remember('entering', Date.now(), tab);
    go();
  }

  /* On the way: entering once more would break off the request that is entering just now. Whoever stopped it, or did
     not want to send the form again, is still here, and hears news again after a while. */
  function go() {
    wentAt = Date.now();
    remember('entered', wentAt, shared);
    stopAsking();
    pollTimer = window.setTimeout(poll, 30000);
    location.reload();
  }

  /* The address may answer with this page again: at most five automatic attempts in two minutes. */
  function mayReload() {
    var now = Date.now();
    var recent = (recall('reloads', tab) || '').split(',').filter(function (time) { return time && now - time < 120000; });
    if (!tab || recent.length >= 5) { return false; }
    remember('reloads', recent.concat(now).join(','), tab);
    return true;
  }

  /* Sound and notification, each only for whoever asked for it. */
  function call(heading) {
    if (called) { return; }
    called = true;
    if (audio && element('sound').checked) { beep(); }
    if (element('notify') && element('notify').checked && document.hidden) { notify(heading, text.called); }
  }

  /* Some browsers (on Android) allow notifications, but none of a page itself: there they throw. */
  function notify(heading, words) {
    try {
      new Notification(heading, { body: words, tag: 'anticamera ' + words, lang: settings.language });
      return true;
    } catch (unavailable) { return false; }
  }

  function beep() {
    var i;
    var tone;
    if (audio.resume) { audio.resume(); }
    for (i = 0; i < 3; i += 1) {
      tone = audio.createOscillator();
      tone.frequency.value = 660;
      tone.connect(audio.destination);
      tone.start(audio.currentTime + i / 2);
      tone.stop(audio.currentTime + i / 2 + 0.25);
    }
  }

  /* Browsers let a page sound only after a visitor's own action: this is one. */
  function chooseSound() {
    var Audio = window.AudioContext || window.webkitAudioContext;
    if (element('sound').checked && !audio && Audio) { audio = new Audio(); beep(); }
  }

  /* Seen once at the choice, as the sound is heard: so it is known that it will work. */
  function chooseNotification() {
    var promise;
    var decided = false;
    function decide() {
      if (decided) { return; }
      decided = true;
      element('notify').checked = Notification.permission === 'granted' && notify(document.title, '');
      note('option-note', element('notify').checked ? '' : text.no_notification);
    }
    if (!element('notify').checked) { return; }
    try { promise = Notification.requestPermission(decide); } catch (refused) { decide(); }
    if (promise && promise.then) { promise.then(decide, decide); }
  }

  function chooseAutomatic() {
    remember('auto', element('auto').checked ? 1 : '', tab);
    enterIfTurn();
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

  /* Whoever is asked again soon has fresher news than the board, and only whoever waits has any use for it. */
  function isFarOff(queue) { return queue.state === 'waiting' && queue.refresh_seconds > settings.board_seconds; }

  function showBoard(board) {
    var own = board.lanes && board.lanes[lane];
    if (settings.kind === 'maintenance') {
      if (board.state !== 'closed' && mayReload()) { location.reload(); }
      return;
    }
    if (!shown || paused) { return; }
    writeRow('now_serving', shown.state === 'waiting' && own && own.now_serving ? grouped(own.now_serving) : '');
  }

  function grouped(count) { return String(count).replace(/\B(?=(\d{3})+$)/g, text.thousands); }

  /* ---- what outlasts a reload ---- */

  function storageOrNothing(name) {
    try {
      window[name].setItem('anticamera', '1');
      return window[name];
    } catch (blocked) { return null; }
  }

  function key(name) { return ['anticamera', name, settings.room].join('-'); }
  function remember(name, value, storage) { try { storage.setItem(key(name), value); } catch (full) { return; } }
  function recall(name, storage) { return storage && storage.getItem(key(name)); }

  /* The same id draws the same ticket, should the answer to a join be lost or two tabs join together. */
  function joinId() {
    var kept = (recall('join', shared) || '').split(':');
    if (!currentJoin && Date.now() - kept[1] < 45000) { currentJoin = kept[0]; }
    if (!currentJoin) {
      currentJoin = random();
      remember('join', currentJoin + ':' + Date.now(), shared);
    }
    return currentJoin;
  }

  function forgetJoin() {
    currentJoin = null;
    remember('join', '', shared);
  }

  function random() {
    var numbers = [];
    var i;
    if (window.crypto && window.crypto.getRandomValues) {
      numbers = window.crypto.getRandomValues(new Uint8Array(16));
    } else {
      for (i = 0; i < 16; i += 1) { numbers.push(Math.floor(Math.random() * 256)); }
    }
    return Array.prototype.map.call(numbers, function (n) { return (n + 256).toString(16).slice(1); }).join('');
  }

  /* ---- coming back: another tab, sleep, the back button, a new network ---- */

  function wake() {
    if (document.hidden || over) { return; }
    enterIfTurn();
    if (pending && Date.now() - pendingSince < 25000) { return; }
    if (Date.now() - lastAsked > 2000) { if (latest) { poll(); } else { join(); } }
  }

  /* A page in the back/forward cache keeps no request open; it asks anew when it is shown again. */
  function pageHidden() {
    stopAsking();
    lastAsked = 0;
  }

  /* ---- what the visitor does ---- */

  function togglePause() {
    paused = !paused;
    write('pause', paused ? text.resume : text.pause);
    if (!paused && latest) { render(latest); enterIfTurn(); }
  }

  function updateNow() {
    asked = true;
    remark = '';
    if (Date.now() - lastAsked > 1000) { poll(); }
  }

  function leave(event) {
    event.preventDefault();
    remark = '';
    giveUpPlace();
  }

  /* Without a connection it is tried again until it is done. */
  function giveUpPlace() {
    leaving = true;
    remember('left', Date.now(), shared);
    forgetJoin();
    ask('leave');
  }

  function sendCode(event) {
    var name = event.target.id;
    event.preventDefault();
    note(name + '-answer', '');
    ask(name, { code: element(name + '-field').value });
  }

  function startAgain() {
    trouble('');
    show('again', false);
    over = rejoined = false;
    announcedAhead = Infinity;
    forgetJoin();
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

  /* An operator looks at a state with made-up figures: nothing is asked or sent. */
  function preview(made_up) {
    if (made_up.queue && /^(none|expired|left)$/.test(made_up.queue.state)) { endOfPlace(made_up.queue.state); }
    else if (made_up.queue) { render(made_up.queue); }
    if (made_up.given_up) { giveUp(made_up.given_up); }
    if (made_up.trouble) { trouble(made_up.trouble); }
    if (made_up.by_hand) { byHand(); }
    window.setInterval(countDown, 1000);
  }

  if (settings.preview && settings.preview.plain) { return; }
  if (element('service')) { write('service', location.host); }
  if (settings.kind !== 'maintenance') { show('plain', false); }
  if (!window.Notification && element('notify')) { element('notify').parentNode.hidden = true; }
  if (settings.kind === 'waiting') { headline(text.joining, text.joining_lead); }
  if (settings.preview) { preview(settings.preview); return; }
  on('languages', 'click', chooseLanguage);
  boardTimer = window.setTimeout(readBoard, settings.board_seconds * 1000);
  if (settings.kind === 'maintenance') { return; }
  on('enter', 'click', enter);
  on('extend', 'click', function () { ask('extend'); });
  on('again', 'click', startAgain);
  on('update', 'click', updateNow);
  on('pause', 'click', togglePause);
  on('auto', 'change', chooseAutomatic);
  on('sound', 'change', chooseSound);
  on('notify', 'change', chooseNotification);
  on('leave', 'submit', leave);
  on('code', 'submit', sendCode);
  on('recover', 'submit', sendCode);
  document.addEventListener('visibilitychange', wake);
  window.addEventListener('pageshow', function (event) { if (event.persisted) { wentAt = 0; } wake(); });
  window.addEventListener('pagehide', pageHidden);
  window.addEventListener('online', wake);
  window.setInterval(function () { if (!paused) { countDown(); } }, 1000);
  if (element('auto')) { element('auto').checked = !!recall('auto', tab); }
  join();
}());
