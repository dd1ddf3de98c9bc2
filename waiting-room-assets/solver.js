/* Finds the ending that a join over the limit is asked for: SHA-256 (FIPS 180-4) of the challenge's 48 characters and the
   ending begins with so many zero bits. Runs in a worker, away from the page. Plain ES5. */
(function () {
  'use strict';

  var DIGITS = '0123456789abcdefghijklmnopqrstuvwxyz';
  var K = [];
  var START = [];
  var words = new Int32Array(64);

  function fraction(root) { return ((root - Math.floor(root)) * 4294967296) | 0; }

  /* The constants are the fractions of the roots of the first primes. */
  function constants() {
    var candidate;
    var divisor;
    for (candidate = 2; K.length < 64; candidate += 1) {
      for (divisor = 2; divisor * divisor <= candidate && candidate % divisor; divisor += 1) { /* the next one */ }
      if (divisor * divisor > candidate) {
        if (START.length < 8) { START.push(fraction(Math.sqrt(candidate))); }
        K.push(fraction(Math.pow(candidate, 1 / 3)));
      }
    }
    K = new Int32Array(K);
    START = new Int32Array(START);
  }

  /* One block: the words 0 to 15 hold the message, its end and its length. */
  function hash(w) {
    var a = START[0], b = START[1], c = START[2], d = START[3], e = START[4], f = START[5], g = START[6], h = START[7];
    var i, x, y, t;
    for (i = 16; i < 64; i += 1) {
      x = w[i - 15];
      y = w[i - 2];
      x = (x >>> 7 | x << 25) ^ (x >>> 18 | x << 14) ^ x >>> 3;
      y = (y >>> 17 | y << 15) ^ (y >>> 19 | y << 13) ^ y >>> 10;
      w[i] = ((w[i - 16] + w[i - 7] | 0) + x | 0) + y | 0;
    }
    for (i = 0; i < 64; i += 1) {
      t = (h + ((e >>> 6 | e << 26) ^ (e >>> 11 | e << 21) ^ (e >>> 25 | e << 7)) | 0) + (g ^ e & (f ^ g)) | 0;
      t = (t + K[i] | 0) + w[i] | 0;
      x = ((a >>> 2 | a << 30) ^ (a >>> 13 | a << 19) ^ (a >>> 22 | a << 10)) + (a & b | c & (a | b)) | 0;
      h = g; g = f; f = e; e = (d + t) | 0; d = c; c = b; b = a; a = (t + x) | 0;
    }
    return (a + START[0]) | 0;
  }

  function ending(count) {
    var text = '';
    do {
      text = DIGITS.charAt(count % 36) + text;
      count = Math.floor(count / 36);
    } while (count);
    return text;
  }

  /* The words from this one on: the text, and the bit that ends a message. */
  function put(text, word) {
    var i;
    for (i = word; i < 15; i += 1) { words[i] = 0; }
    for (i = 0; i <= text.length; i += 1) {
      words[word + (i >> 2)] |= (i < text.length ? text.charCodeAt(i) : 128) << (24 - i % 4 * 8);
    }
  }

  function solve(text, bits) {
    var count = 0;
    var end;
    put(text, 0);
    do {
      end = ending(count);
      put(end, 12);
      words[15] = (text.length + end.length) * 8;
      count += 1;
    } while (hash(words) >>> (32 - bits));
    return end;
  }

  constants();
  self.onmessage = function (event) { self.postMessage(solve(event.data.text, event.data.bits)); };
}());
