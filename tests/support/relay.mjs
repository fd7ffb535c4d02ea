// relay.mjs: a network that fails on purpose, between a client and one store
//
//   node relay.mjs HOST PORT [raw]  prints "relay 127.0.0.1 PORT", then obeys lines on its input,
//                                   each answered by a line on its output ("ok" unless told);
//                                   raw: bytes of any protocol, without answer, hold and requests
//   pass                            carries everything; what was stalled goes on
//   cut                             resets all connections and refuses new ones
//   reset                           resets all connections, once; new ones are carried
//   stall                           keeps connections, carries nothing
//   delay MS                        bytes from the store come so much later
//   up N MODE, down N MODE          after N more bytes to, from the store: cut, reset or stall
//   word TEXT                       instead of the next bytes to the store with this word: reset
//   answer N STATUS METHOD PATTERN FILE   the next N requests whose method and path match are
//                                   answered with the file's bytes instead, N 0: all from now on
//   hold METHOD PATTERN             the next such request waits; prints "held" when it came
//   release                         and then goes on, as all that wait
//   requests                        prints a JSON array of "METHOD PATH" seen since the last time
//   forget                          drops the answers
//
// Bytes pass a socket relay, which fails as networks do, and then an HTTP proxy, which knows
// requests. Headers go on as they came, the Host as well, so signatures stay good.

import fs from 'fs';
import http from 'http';
import net from 'net';
import readline from 'readline';

const [host, port, raw] = process.argv.slice(2);
const pairs = new Set();
let mode = 'pass', delay = 0, limits = {}, fatal;
let answers = [], holds = [], held = [], seen = [];

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });

function forward(request, response) {
  const options = { host, port, method: request.method, path: request.url, headers: request.headers, agent };
  const onward = http.request(options, (reply) => {
    response.writeHead(reply.statusCode, reply.rawHeaders);
    reply.on('error', () => response.destroy()).on('aborted', () => response.destroy());
    reply.pipe(response);
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => { if (!response.writableEnded) onward.destroy(); });
  request.pipe(onward);
}

const matches = (rule, request) => rule.method === request.method && rule.path.test(request.url);

function handle(request, response) {
  seen.push(`${request.method} ${request.url}`);
  const rule = answers.find((a) => matches(a, request));
  if (rule) {
    if (rule.left > 0 && --rule.left === 0) answers = answers.filter((a) => a !== rule);
    request.resume().on('end', () => {
      response.writeHead(rule.status, { 'Content-Type': 'application/xml', 'Content-Length': rule.body.length });
      response.end(rule.body);
    });
    return;
  }
  const hold = holds.find((h) => matches(h, request));
  if (hold) {
    holds = holds.filter((h) => h !== hold);
    held.push(() => forward(request, response));
    console.log('held');
    return;
  }
  forward(request, response);
}

function apply(next) {
  mode = next;
  for (const pair of pairs) {
    for (const socket of pair) {
      if (mode === 'cut' || mode === 'reset') socket.resetAndDestroy();
      else if (mode === 'stall') socket.pause();
      else socket.resume();
    }
  }
  if (mode === 'cut' || mode === 'reset') pairs.clear();
  if (mode === 'reset') mode = 'pass';
}

function carry(from, to, way) {
  from.on('data', (bytes) => {
    const send = () => { if (!to.destroyed && !to.write(bytes)) { from.pause(); to.once('drain', () => mode === 'stall' || from.resume()); } };
    if (fatal && way === 'up' && bytes.includes(fatal)) {
      fatal = undefined;
      return apply('reset');
    }
    if (limits[way]) {
      limits[way].left -= bytes.length;
      if (limits[way].left <= 0) {
        const next = limits[way].mode;
        delete limits[way];
        return apply(next);
      }
    }
    if (way === 'down' && delay > 0) setTimeout(send, delay); else send();
  });
  from.on('end', () => setTimeout(() => to.end(), way === 'down' ? delay : 0));
  from.on('error', () => to.destroy());
  from.on('close', () => { if (from.errored) to.destroy(); });
}

const proxy = http.createServer({ keepAliveTimeout: 60000, requestTimeout: 0 }, handle);
proxy.on('checkContinue', (request, response) => { response.writeContinue(); handle(request, response); });
proxy.listen(0, '127.0.0.1', () => {
  const relay = net.createServer({ noDelay: true }, (client) => {
    if (mode === 'cut') return client.resetAndDestroy();
    const store = net.connect({ host: raw ? host : '127.0.0.1', port: raw ? port : proxy.address().port, noDelay: true });
    const pair = [client, store];
    pairs.add(pair);
    carry(client, store, 'up');
    carry(store, client, 'down');
    client.on('close', () => pairs.delete(pair));
    if (mode === 'stall') pair.forEach((socket) => socket.pause());
  });
  relay.listen(0, '127.0.0.1', () => console.log(`relay 127.0.0.1 ${relay.address().port}`));
});

readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, ...rest] = line.split(' ');
  if (word === 'requests') { console.log(JSON.stringify(seen)); seen = []; return; }
  if (word === 'word') fatal = rest[0];
  else if (word === 'delay') delay = Number(rest[0]);
  else if (word === 'up' || word === 'down') limits[word] = { left: Number(rest[0]), mode: rest[1] };
  else if (word === 'answer') {
    answers.push({ left: Number(rest[0]), status: Number(rest[1]), method: rest[2], path: new RegExp(rest[3]),
      body: fs.readFileSync(rest[4]) });
  } else if (word === 'hold') holds.push({ method: rest[0], path: new RegExp(rest[1]) });
  else if (word === 'release') { held.forEach((go) => go()); held = []; }
  else if (word === 'forget') answers = [];
  else { limits = {}; apply(word); }
  console.log('ok');
}).on('close', () => process.exit(0));
