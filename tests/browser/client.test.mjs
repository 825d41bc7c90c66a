// The client module against a socket and a clock of the test's own.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  START,
  StreamFault,
  checkFollows,
  closeName,
  connect,
  formatPosition,
  markGap,
  nextAction,
  parsePosition,
  reduceRun,
  restoreRun,
  runIdsOf,
} from "../../core/js/trunkline.js";

/** A clock that moves only when told. */
class FakeClock {
  time = 0;
  timers = new Map();
  next = 1;
  now = () => this.time;
  setTimeout = (run, ms) => {
    this.timers.set(this.next, { run, at: this.time + ms });
    return this.next++;
  };
  clearTimeout = (id) => this.timers.delete(id);

  /** Lets time pass; each due timer fires at its own moment. */
  async pass(ms) {
    const until = this.time + ms;
    for (;;) {
      await settle();
      const due = [...this.timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = due[1].at;
      due[1].run();
    }
    this.time = until;
    await settle();
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A client with everything around it that it asks for. `random` is 1, so that delays are the upper bounds. */
async function world(options = {}) {
  const clock = new FakeClock();
  const sockets = [];
  class FakeSocket {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, sent: [], closed: null });
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code, reason) {
      this.closed = { code, reason };
    }
    receive(frame) {
      this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    }
    drop(code = 1006, reason = "") {
      this.onclose({ code, reason });
    }
  }
  const seen = { states: [], events: [], resets: [] };
  const client = connect({
    url: "ws://test/ws",
    token: "T1",
    position: START,
    random: () => 1,
    WebSocket: FakeSocket,
    ...clock,
    onState: (state) => seen.states.push(state),
    onEvent: (event) => seen.events.push(event),
    onReset: (reset) => seen.resets.push(reset),
    ...options,
  });
  await settle();
  const made = { client, clock, sockets, ...seen, socket: () => sockets.at(-1), state: () => seen.states.at(-1) };
  /** Opens the newest socket and welcomes it at a position. */
  made.welcome = (eventId = "7-0", entry = {}, more = {}) => {
    made.socket().onopen({});
    const stream = { stream: "user", event_id: eventId, head: eventId, mode: "live", ...entry };
    made.socket().receive({ type: "welcome", session_id: "s1", heartbeat: { interval: 25, timeout: 10 }, streams: [stream], ...more });
  };
  return made;
}

/** What is thrown where nobody catches it. */
function reported(t) {
  const errors = [];
  t.mock.method(globalThis, "queueMicrotask", (run) => {
    try {
      run();
    } catch (error) {
      errors.push(error.message);
    }
  });
  return errors;
}

/** A stream's entry in a welcome. */
const live = (stream, eventId) => ({ stream, event_id: eventId, head: eventId, mode: "live" });
const event = (seq, more = {}) => ({ type: "custom", event_id: `7-${seq}`, seq, name: "x", ...more });

test("the token travels as a subprotocol and hello asks for everything kept", async () => {
  const { socket, welcome, states, client } = await world();
  assert.deepEqual(socket().protocols, ["trunkline.v1", "bearer.T1"]);
  welcome();
  assert.equal(socket().sent[0].type, "hello");
  assert.deepEqual(socket().sent[0].resume, { user: "0-0" });
  assert.equal("session_id" in socket().sent[0], false);
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live"]);
  assert.equal(client.position, "7-0");
  assert.equal(client.sessionId, "s1");
});

test("a client without a position asks for no resume", async () => {
  const { socket, welcome } = await world({ position: undefined });
  welcome("7-5");
  assert.equal("resume" in socket().sent[0], false);
});

test("a client that watches some threads names them in every hello", async () => {
  const { socket, welcome, clock } = await world({ threads: ["t-1", "t-2"] });
  welcome();
  assert.deepEqual(socket().sent[0].threads, ["t-1", "t-2"]);
  socket().drop();
  await clock.pass(500);
  welcome();
  assert.deepEqual(socket().sent[0].threads, ["t-1", "t-2"]);
  const { socket: other, welcome: welcomeOther } = await world();
  welcomeOther();
  assert.equal("threads" in other().sent[0], false);
});

test("after a loss the client resumes its session from its last position", async () => {
  const { socket, sockets, welcome, clock, events, state } = await world();
  welcome();
  socket().receive(event(1));
  socket().receive(event(4, { prev: 1 }));
  socket().drop();
  assert.deepEqual({ ...state() }, { state: "offline", reason: "connection_lost", code: 1006, retryAt: 500 });
  await clock.pass(500);
  assert.equal(sockets.length, 2);
  welcome("7-4");
  assert.deepEqual(socket().sent[0].resume, { user: "7-4" });
  assert.equal(socket().sent[0].session_id, "s1");
  assert.deepEqual(events.map(({ seq }) => seq), [1, 4]);
});

test("frames of a socket that was left behind are not heard", async () => {
  const { sockets, welcome, clock, events } = await world();
  welcome();
  sockets[0].drop();
  await clock.pass(500);
  welcome();
  sockets[0].receive(event(1));
  sockets[0].drop(4400);
  assert.equal(events.length, 0);
  assert.equal(sockets[1].closed, null);
});

test("a gap, a repetition, another epoch or a wrong seq close with 4000 and resume", async () => {
  for (const bad of [event(3), event(1), { ...event(2), event_id: "8-2" }, { ...event(2), seq: 3 }, event(9, { prev: 3 }), event(1, { prev: 1 }), "[]", "{"]) {
    const { socket, welcome, clock, events, client, sockets } = await world();
    welcome();
    socket().receive(event(1));
    socket().receive(bad);
    assert.equal(sockets[0].closed.code, 4000, JSON.stringify(bad));
    assert.equal(events.length, 1);
    assert.equal(client.position, "7-1");
    await clock.pass(500);
    welcome("7-1");
    assert.deepEqual(socket().sent[0].resume, { user: "7-1" });
  }
});

test("a second fault at the same position starts from the beginning", async () => {
  const { socket, welcome, clock } = await world();
  welcome();
  socket().receive(event(1));
  socket().receive(event(3));
  await clock.pass(500);
  welcome("7-1");
  socket().receive(event(3));
  await clock.pass(1_000);
  socket().onopen({});
  assert.deepEqual(socket().sent[0].resume, { user: "0-0" });
});

test("a receiver's fault keeps the position in front of the event", async () => {
  const onEvent = ({ seq }) => {
    if (seq === 2) throw new StreamFault("a hole");
  };
  const { socket, welcome, client } = await world({ onEvent });
  welcome();
  socket().receive(event(1));
  socket().receive(event(2));
  assert.equal(client.position, "7-1");
  assert.equal(socket().closed.code, 4000);
});

test("a position frame moves the client past what it may not see", async () => {
  const { socket, welcome, client, events } = await world();
  welcome();
  socket().receive({ type: "position", stream: "user", prev: 0, event_id: "7-9" });
  assert.equal(client.position, "7-9");
  socket().receive(event(10));
  assert.equal(events.length, 1);
});

test("an ephemeral frame has no position and is passed on", async () => {
  const { socket, welcome, client, events } = await world();
  welcome();
  socket().receive({ type: "typing" });
  assert.equal(events.length, 1);
  assert.equal(client.position, "7-0");
});

test("a frame before the welcome is a fault", async () => {
  const { socket, sockets } = await world();
  socket().onopen({});
  socket().receive(event(1));
  assert.equal(sockets[0].closed.code, 4000);
});

test("a reset says what is lost and whether to start afresh", async () => {
  const first = await world();
  first.welcome("7-40", { mode: "reset", lost: { from: "7-0", to: "7-40" } });
  assert.deepEqual(first.resets, [{ lost: { from: "7-0", to: "7-40" }, afresh: true }]);

  const later = await world();
  later.welcome();
  later.socket().receive(event(1));
  later.socket().drop();
  await later.clock.pass(500);
  later.welcome("7-40", { mode: "reset", lost: { from: "7-1", to: "7-40" } });
  assert.deepEqual(later.resets, [{ lost: { from: "7-1", to: "7-40" }, afresh: false }]);

  later.socket().drop();
  await later.clock.pass(1_000);
  later.welcome("8-0", { mode: "reset" });
  assert.deepEqual(later.resets[1], { lost: null, afresh: true });
});

test("a snapshot moves the position only once it is whole", async () => {
  const { socket, welcome, client } = await world();
  welcome("7-30", { mode: "snapshot", head: "7-31" });
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-30", part: 1, of: 2, runs: [] });
  assert.equal(client.position, "0-0");
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-30", part: 2, of: 2, runs: [] });
  assert.equal(client.caughtUp, false);
  socket().receive(event(31));
  assert.equal(client.caughtUp, true);
});

test("a snapshot that no welcome announced says what is lost", async () => {
  const resets = [];
  const { socket, welcome } = await world({ onReset: (reset) => resets.push(reset) });
  welcome("7-3");
  resets.length = 0;
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-30", part: 1, of: 1, runs: [] });
  assert.deepEqual(resets, [{ lost: { from: "7-3", to: "7-30" }, afresh: true }]);
  resets.length = 0;
  const lost = { from: "7-30", to: "7-44" };
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-44", part: 1, of: 1, lost, runs: [] });
  assert.deepEqual(resets, [{ lost, afresh: true }], "as the server says it");
  resets.length = 0;
  const topic = { stream: "topic:news", lost: { from: "7-1", to: "7-2" } };
  socket().receive({ type: "snapshot", ...topic, event_id: "7-2", part: 1, of: 1, runs: [] });
  assert.deepEqual(resets, [], "what a topic has lost is nothing of the user's own stream");
});

test("a large call comes in two pieces and is one call", () => {
  const head = { run_id: "run_1", status: "running", run_seq: 9 };
  const call = { tool_call_id: "c", tool_name: "sum" };
  const pieces = [
    { ...head, tools: [{ ...call, parameters: [2, 2] }] },
    { ...head, tools: [{ ...call, results: 4, success: true }] },
  ];
  const { tools, steps } = pieces.reduce((run, piece) => restoreRun(run, piece), undefined);
  assert.deepEqual([tools.length, steps.length], [1, 1]);
  assert.deepEqual([tools[0].parameters, tools[0].results, tools[0].success], [[2, 2], 4, true]);
});

test("a run is restored from the pieces of a snapshot and goes on from there", () => {
  const head = { run_id: "run_1", thread_id: "t", agent_name: "a", status: "running", run_seq: 9 };
  const pieces = [
    { ...head, thoughts: ["hm"], tools: [], parts: [] },
    { ...head, thoughts: [], tools: [{ tool_call_id: "c", tool_name: "sum", results: 4, success: true }], parts: [] },
    { ...head, thoughts: [], tools: [], parts: [{ part_id: "p", offset: 0, text: "né🙂" }] },
    { ...head, thoughts: [], tools: [], parts: [{ part_id: "p", offset: 3, text: " and" }] },
  ];
  const restored = pieces.reduce((run, piece) => restoreRun(run, piece), undefined);
  assert.equal(restored.status, "running");
  assert.deepEqual(restored.tools.map((tool) => [tool.name, tool.results, tool.success]), [["sum", 4, true]]);
  const after = reduceRun(restored, { type: "agent_delta", run_id: "run_1", part_id: "p", offset: 7, text: "!" });
  assert.equal(after.parts[0].text, "né🙂 and!");
});

test("back-off doubles to a cap of 30 s, with full jitter, and resets only after 10 s of being live", async () => {
  const { socket, welcome, clock, state } = await world();
  const delays = [];
  for (let i = 0; i < 9; i += 1) {
    welcome();
    await clock.pass(9_000);
    socket().drop();
    delays.push(state().retryAt - clock.time);
    await clock.pass(delays.at(-1));
  }
  assert.deepEqual(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  welcome();
  await clock.pass(10_000);
  socket().drop();
  assert.equal(state().retryAt - clock.time, 500);

  const lucky = await world({ random: () => 0 });
  lucky.socket().drop();
  assert.equal(lucky.state().retryAt, 0);
});

test("retryNow does not wait for the end of the back-off, and does nothing while live", async () => {
  const { client, socket, sockets, welcome } = await world();
  socket().drop();
  client.retryNow();
  await settle();
  assert.equal(sockets.length, 2);
  welcome();
  client.retryNow();
  await settle();
  assert.equal(sockets.length, 2);
});

test("close codes: the range is the next action", () => {
  const table = {
    stop: [1000, 1002, 1003, 1007, 1009, 4400, 4403, 4409, 4410, 4499],
    retry: [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4040, 4099, 4500],
    later: [4100, 4199],
    token: [4200, 4201, 4299],
    afresh: [4300, 4399],
  };
  for (const [action, codes] of Object.entries(table)) for (const code of codes) assert.equal(nextAction(code), action, `${code}`);
});

test("4400 stops and fails what waits", async () => {
  const { client, socket, state, clock, sockets } = await world();
  const sent = assert.rejects(client.send("t", "hi"), { code: "stopped" });
  socket().onopen({});
  socket().drop(4400, "bad_credentials");
  await sent;
  assert.deepEqual({ ...state() }, { state: "stopped", reason: "bad_credentials", code: 4400, retryAt: null });
  await clock.pass(120_000);
  assert.equal(sockets.length, 1);
  await assert.rejects(client.send("t", "hi"), { code: "stopped" });
});

test("4200 fetches a new token at once, and with back-off if that is refused too", async () => {
  let made = 1;
  const { socket, sockets, welcome, clock, state } = await world({ getToken: async () => `T${(made += 1)}` });
  welcome();
  socket().drop(4200, "token_expired");
  await settle();
  assert.equal(sockets.length, 2);
  assert.equal(socket().protocols[1], "bearer.T2");
  socket().drop(4201, "token_revoked");
  assert.equal(state().state, "offline");
  await clock.pass(1_000);
  assert.equal(socket().protocols[1], "bearer.T3");
});

test("4200 stops where no token is to be had, and retries where one cannot be had yet", async () => {
  const fixed = await world();
  fixed.socket().drop(4200, "token_expired");
  assert.equal(fixed.state().state, "stopped");

  for (const [code, reason] of [[4200, "token_expired"], [4201, "token_revoked"]]) {
    const none = await world({ getToken: async () => null });
    none.socket().drop(code, reason);
    await settle();
    assert.deepEqual({ ...none.state() }, { state: "stopped", reason, code, retryAt: null });
  }

  const away = await world({ getToken: () => Promise.reject(new TypeError("network")) });
  away.socket().drop(4200, "token_expired");
  await settle();
  assert.deepEqual([away.state().state, away.state().reason], ["offline", "token_unavailable"]);
});

test("a token that comes after the end opens nothing", async () => {
  let give;
  const token = new Promise((resolve) => (give = resolve));
  const { client, sockets, state } = await world({ token: undefined, getToken: () => token });
  client.close();
  give("T1");
  await settle();
  assert.equal(sockets.length, 0);
  assert.equal(state().state, "stopped");
});

test("4300 forgets the position, 4100 waits longer", async () => {
  const { socket, welcome, clock, state } = await world();
  welcome();
  socket().receive(event(1));
  socket().drop(4300, "session_reset");
  await clock.pass(500);
  socket().onopen({});
  assert.deepEqual(socket().sent[0].resume, { user: "0-0" });
  socket().drop(4100, "evicted_for_capacity");
  assert.equal(state().retryAt - clock.time, 16_000);
});

test("going_away names the wait before the next try, once", async () => {
  const { socket, welcome, clock, state } = await world();
  welcome();
  socket().receive({ type: "going_away", deadline: 30, reconnect_after: 4 });
  await clock.pass(1_000);
  socket().drop(1001);
  assert.equal(state().retryAt, 5_000);
  await clock.pass(4_000);
  socket().drop();
  assert.equal(state().retryAt, 6_000);
});

test("no server keeps a client away for more than two minutes, and one that names no wait gets the back-off", async () => {
  // The bound is also what a timer of the platform can hold: beyond 2^31 ms it would fire at once.
  for (const [asked, expected] of [[1e9, 120_000], [119, 119_000], [undefined, 500], [-1, 500], ["4", 500]]) {
    const { socket, welcome, state } = await world();
    welcome();
    socket().receive({ type: "going_away", deadline: 30, reconnect_after: asked });
    socket().drop(1012);
    assert.equal(state().retryAt, expected, `${asked}`);
  }
});

test("a message is sent again after a reconnect, with the same key, and resolves to its run", async () => {
  const { client, socket, sockets, welcome, clock } = await world();
  const sent = client.send("t1", "hello");
  assert.equal(socket().sent.length, 0);
  welcome();
  const [, first] = socket().sent;
  assert.deepEqual([first.type, first.thread_id, first.content], ["user_message", "t1", "hello"]);
  assert.match(first.key, /^[0-9a-f]{32}$/);
  sockets[0].drop();
  await clock.pass(500);
  welcome();
  const [, again] = socket().sent;
  assert.equal(again.key, first.key);
  socket().receive({ type: "reply", id: again.id, ok: true, run_id: "r1" });
  assert.equal(await sent, "r1");
  socket().drop();
  await clock.pass(1_000);
  welcome();
  assert.equal(socket().sent.length, 1);
});

test("a refusal says its code and whether it is temporary", async () => {
  const { client, socket, welcome } = await world();
  welcome();
  const refused = assert.rejects(client.cancel("r1"), { name: "RequestError", code: "not_found", temporary: false });
  const { id, type, run_id: runId } = socket().sent.at(-1);
  assert.deepEqual([type, runId], ["cancel_run", "r1"]);
  socket().receive({ type: "reply", id, ok: false, error: { code: "not_found", message: "no", temporary: false } });
  await refused;
});

test("a message over the server's limit is refused without a word to the server", async () => {
  const { client, socket } = await world();
  const early = assert.rejects(client.send("t", "é".repeat(600)), { code: "too_big" });
  socket().onopen({});
  socket().receive({ type: "welcome", limits: { message_bytes: 1_024 }, streams: [] });
  await early;
  await assert.rejects(client.send("t", "é".repeat(600)), { code: "too_big" });
  assert.deepEqual(socket().sent.map(({ type }) => type), ["hello"]);
});

test("a silent line is asked once and then given up", async () => {
  const { socket, sockets, welcome, clock, state } = await world();
  welcome();
  await clock.pass(34_999);
  assert.equal(socket().sent.length, 1);
  await clock.pass(1);
  assert.deepEqual(socket().sent.at(-1), { type: "ping" });
  socket().receive({ type: "pong" });
  await clock.pass(35_000);
  assert.equal(socket().sent.filter(({ type }) => type === "ping").length, 2);
  await clock.pass(9_999);
  assert.equal(state().state, "live");
  await clock.pass(1);
  assert.equal(sockets[0].closed.code, 4000);
  assert.deepEqual([state().state, state().reason], ["offline", "heartbeat_timeout"]);
});

test("a server that never welcomes is given up", async () => {
  const { sockets, clock } = await world();
  sockets[0].onopen({});
  await clock.pass(15_000);
  assert.equal(sockets[0].closed.code, 4000);
});

test("auth_expiring is answered with a new token", async () => {
  const { socket, welcome } = await world({ getToken: async () => "T2" });
  welcome();
  socket().receive({ type: "auth_expiring", expires_in: 60 });
  await settle();
  const { type, token } = socket().sent.at(-1);
  assert.deepEqual([type, token], ["refresh", "T2"]);
});

/** A line that nothing need be heard of for long. */
const SILENT = { interval: 1e6, timeout: 1e6 };
const refreshesOf = (socket) => socket.sent.filter(({ type }) => type === "refresh");

test("a token is asked for by the client's own clock should the notice be missed, and once where it is not", async () => {
  for (const noticed of [false, true]) {
    const asked = [];
    const { socket, welcome, clock } = await world({ getToken: async () => (asked.push(clock.now()), "T2") });
    welcome("7-0", {}, { expires_in: 600, heartbeat: SILENT });
    await clock.pass(540_000);
    if (noticed) socket().receive({ type: "auth_expiring", expires_in: 60 });
    await clock.pass(15_000);
    assert.deepEqual(asked, [noticed ? 540_000 : 555_000]);
    const [refresh] = refreshesOf(socket());
    socket().receive({ type: "reply", id: refresh.id, ok: true, expires_in: 600 });
    socket().receive({ type: "pong" });
    await clock.pass(554_000);
    assert.equal(asked.length, 1, "the new token lives");
  }
});

test("every retry comes while the token lives, of whatever life", async () => {
  for (const life of [1, 1.7, 10, 59, 60, 61, 119, 3_600, 86_400]) {
    for (const notice of [null, 0.5, 0.01]) {
      const asked = [];
      const getToken = async () => {
        asked.push(clock.now());
        throw new Error("not now");
      };
      const { socket, welcome, clock, state } = await world({ getToken });
      const first = clock.now();
      welcome("7-0", {}, { expires_in: life, heartbeat: SILENT });
      const end = first + life * 1_000;
      if (notice !== null) {
        await clock.pass(life * 1_000 * (1 - notice));
        socket().receive({ type: "auth_expiring", expires_in: life * notice });
      }
      await clock.pass(end - clock.now());
      assert.ok(asked.length >= 3, `${life} s: ${asked}`);
      asked.reduce((before, at) => {
        assert.ok(at - before < end - before, `${life} s: ${asked}`);
        return at;
      });
      assert.ok(asked[0] >= first + life * 500 - 1 && asked.at(-1) < end, `${life} s: ${asked}`);
      const tries = asked.length;
      await clock.pass(10_000);
      assert.deepEqual([asked.length, state().state], [tries, "live"], "past its end there is the close by the server");
    }
  }
});

test("one getToken and one refresh at a time; after a success all is as if none had failed", async () => {
  let answer;
  let asked = 0;
  const getToken = () => {
    asked += 1;
    return new Promise((...settlers) => (answer = settlers));
  };
  const { socket, sockets, welcome, clock } = await world({ getToken });
  welcome("7-0", {}, { expires_in: 60, heartbeat: SILENT });
  socket().receive({ type: "auth_expiring", expires_in: 30 });
  await clock.pass(20_000);
  assert.equal(asked, 1, "it is still waited for");
  answer[1](new Error("not now"));
  await clock.pass(5_000);
  assert.equal(asked, 2);
  answer[0]("T2");
  await settle();
  assert.equal(refreshesOf(socket()).length, 1);
  // Refused: neither for the next socket.
  socket().receive({ type: "reply", id: refreshesOf(socket())[0].id, ok: false, error: { code: "refresh_refused" } });
  await clock.pass(3_000);
  answer[0]("T3");
  await settle();
  socket().receive({ type: "reply", id: refreshesOf(socket())[1].id, ok: true, expires_in: 60 });
  const [before, began] = [asked, clock.now()];
  await clock.pass(35_999);
  assert.equal(asked, before);
  await clock.pass(1);
  assert.deepEqual([asked, clock.now() - began], [before + 1, 36_000]);
  // What comes for a socket that is gone is the next one's.
  socket().drop();
  answer[0]("T4");
  await clock.pass(600);
  assert.equal(sockets.length, 2);
  assert.ok(sockets[1].protocols.includes("bearer.T4"), `${sockets[1].protocols}`);
  assert.deepEqual(refreshesOf(sockets[1]), []);
});

test("a refused token is not the next socket's, and 4200 asks for another", async () => {
  const tokens = ["bad", "good"];
  const { socket, sockets, welcome, clock } = await world({ getToken: async () => tokens.shift() });
  welcome("7-0", {}, { expires_in: 60 });
  socket().receive({ type: "auth_expiring", expires_in: 30 });
  await settle();
  socket().receive({ type: "reply", id: refreshesOf(socket())[0].id, ok: false, error: { code: "refresh_refused" } });
  socket().drop();
  await clock.pass(600);
  assert.ok(sockets[1].protocols.includes("bearer.T1"), `${sockets[1].protocols}`);
  socket().drop(4200, "token_expired");
  await clock.pass(2_000);
  assert.ok(sockets[2].protocols.includes("bearer.good"), `${sockets[2].protocols}`);
});

test("the same token once more makes the client ask no more often, up to the end and beyond", async () => {
  let asked = 0;
  const { socket, welcome, clock, state } = await world({ getToken: async () => ((asked += 1), "T1") });
  welcome("7-0", {}, { expires_in: 60, heartbeat: SILENT });
  const end = clock.now() + 60_000;
  let answered = 0;
  while (clock.now() < end + 5_000) {
    await clock.pass(20);
    for (const { id } of refreshesOf(socket()).slice(answered)) {
      answered += 1;
      socket().receive({ type: "reply", id, ok: true, expires_in: Math.max(0, end - clock.now()) / 1_000 });
    }
  }
  assert.equal(state().state, "live");
  assert.ok(asked >= 3 && asked <= 12, `${asked}`);
});

test("a revoked session is not named again, and the position is", async () => {
  const { socket, sockets, welcome } = await world({ getToken: async () => "T2" });
  welcome("7-3");
  socket().drop(4201, "token_revoked");
  await settle();
  assert.equal(sockets.length, 2);
  socket().onopen({});
  const [hello] = socket().sent;
  assert.deepEqual([hello.type, "session_id" in hello, hello.resume], ["hello", false, { user: "7-3" }]);
});

test("a ticket is asked for ahead of every connection, and no token goes along", async () => {
  let asked = 0;
  const getTicket = async () => `ticket-${(asked += 1)}`;
  const { socket, sockets, welcome, clock } = await world({ token: undefined, getTicket, url: "ws://test/ws?a=b" });
  assert.deepEqual([socket().url, socket().protocols], ["ws://test/ws?a=b&ticket=ticket-1", ["trunkline.v1"]]);
  welcome("7-0", {}, { expires_in: 60, heartbeat: SILENT });
  await clock.pass(59_000);
  assert.equal(asked, 1, "there is no token to renew");
  socket().drop(4200, "token_expired");
  await settle();
  assert.equal(sockets[1].url, "ws://test/ws?a=b&ticket=ticket-2");
  assert.throws(() => connect({ url: "ws://test/ws", token: "T1", getTicket }), TypeError);
});

test("a client without a ticket stops, and one that gets none now tries again", async () => {
  const { state } = await world({ token: undefined, getTicket: async () => null });
  assert.deepEqual([state().state, state().reason], ["stopped", "no_token"]);
  const { state: later } = await world({ token: undefined, getTicket: () => Promise.reject(new Error("not now")) });
  assert.deepEqual([later().state, later().reason], ["offline", "token_unavailable"]);
});

test("an operator asks and acts by one frame each, and gets what the answer says", async () => {
  const { client, socket, welcome } = await world();
  welcome();
  const server = { version: "0.1.0", metrics: [] };
  const user = { user_id: "ann", connections: [], runs: [] };
  const table = [
    [() => client.inspect(), { type: "inspect" }, { server }, server],
    [() => client.inspect("ann"), { type: "inspect", user_id: "ann" }, { user }, user],
    [() => client.disconnect("ann"), { type: "disconnect", user_id: "ann" }, { closed: 2 }, 2],
    [() => client.disconnect("ann", "conn_1"), { type: "disconnect", user_id: "ann", connection_id: "conn_1" }, { closed: 1 }, 1],
    [() => client.revoke("ann", { sessionId: "s" }), { type: "revoke", user_id: "ann", session_id: "s" }, { closed: 1 }, 1],
    [() => client.revoke("ann", { tokenId: "t", expires: 9 }), { type: "revoke", user_id: "ann", token_id: "t", expires: 9 }, { closed: 0 }, 0],
    [() => client.revoke("ann", { all: true }), { type: "revoke", user_id: "ann", all: true }, { closed: 3 }, 3],
    [() => client.drain(), { type: "drain" }, {}, undefined],
  ];
  for (const [act, frame, answer, result] of table) {
    const outcome = act();
    const { id, ...sent } = socket().sent.at(-1);
    assert.deepEqual(sent, frame);
    socket().receive({ type: "reply", id, ok: true, ...answer });
    assert.deepEqual(await outcome, result);
  }
  await assert.rejects(client.disconnect("ann", undefined), TypeError);
  const refused = client.drain();
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: false, error: { code: "not_found", message: "not this token's" } });
  await assert.rejects(refused, { code: "not_found", temporary: false });
});

test("what an operator asks is never sent twice, and never over a later connection", async () => {
  const { client, socket, welcome, clock } = await world();
  await assert.rejects(client.drain(), { code: "not_connected", temporary: true });
  welcome();
  const asked = [client.inspect(), client.disconnect("ann"), client.revoke("ann", { all: true }), client.drain()];
  const outcomes = Promise.allSettled(asked);
  socket().drop();
  assert.deepEqual((await outcomes).map(({ reason }) => reason.code), Array(4).fill("unanswered"));
  await clock.pass(500);
  welcome();
  assert.deepEqual(socket().sent.map(({ type }) => type), ["hello"]);
  client.close();
  await assert.rejects(client.inspect(), { code: "stopped" });
});

test("closes have the names of the protocol", () => {
  const protocol = readFileSync(new URL("../../core/PROTOCOL.md", import.meta.url), "utf8");
  const [, table] = /\n## Close codes\n([\s\S]*?)\n## /.exec(protocol);
  const named = [...table.matchAll(/^\| (\d{4}) \| `(\w+)` \|/gm)];
  assert.ok(named.length >= 20);
  for (const [, code, name] of named) assert.equal(closeName(Number(code)), name);
  assert.deepEqual([closeName(4005), closeName(4999)], ["disconnected", "closed_4999"]);
});

test("close ends everything, also from within a listener", async () => {
  const { client, socket, welcome, clock, state, sockets } = await world();
  welcome();
  client.close();
  assert.equal(socket().closed.code, 1000);
  assert.equal(state().state, "stopped");
  await clock.pass(120_000);
  assert.equal(sockets.length, 1);
  assert.equal(clock.timers.size, 0);

  const eager = await world({ onState: ({ state: now }) => now === "live" && eager.client.close() });
  eager.welcome();
  assert.equal(eager.client.state, "stopped");
  assert.equal(eager.clock.timers.size, 0);
});

test("a position is one pair, which is parsed and compared whole", () => {
  assert.deepEqual(parsePosition("7-12"), { epoch: "7", seq: 12 });
  for (const bad of ["", "7", "7-", "-1", "07-1", "7-01", "7-1.5", "7-9007199254740992", undefined, null]) assert.throws(() => parsePosition(bad), StreamFault);
  assert.deepEqual(checkFollows({ epoch: "7", seq: 3 }, { event_id: "7-8", prev: 3 }), { epoch: "7", seq: 8 });
  assert.throws(() => checkFollows({ epoch: "7", seq: 3 }, { event_id: "7-3", prev: 3 }), StreamFault);
});

// --- the reducer

const on = (type, more = {}) => ({ type, run_id: "r", thread_id: "t", agent_name: "assistant", ...more });
const fold = (events, run) => events.reduce((state, one) => reduceRun(state, one), run);
const delta = (offset, text, partId = "p") => on("agent_delta", { part_id: partId, offset, text });

test("a run unfolds: thoughts, tools, text, end", () => {
  const run = fold([
    on("agent_started"),
    on("agent_thinking", { thought: "hm", step: 1 }),
    on("tool_executing", { tool_call_id: "a", tool_name: "calculate", parameters: { x: 1 } }),
    on("tool_executing", { tool_call_id: "b", tool_name: "search" }),
    on("tool_completed", { tool_call_id: "b", tool_name: "search", results: null, success: false, error: "none" }),
    on("tool_completed", { tool_call_id: "a", tool_name: "calculate", results: 14, success: true, duration_ms: 3 }),
    delta(0, "four"),
    delta(4, "teen"),
    on("agent_completed", { final_response: "fourteen", duration_ms: 20 }),
  ]);
  assert.equal(run.status, "completed");
  assert.deepEqual(run.steps, [["thought", 0], ["tool", 0], ["tool", 1]]);
  assert.equal(run.thoughts[0].thought, "hm");
  assert.deepEqual(run.tools[0], { toolCallId: "a", name: "calculate", parameters: { x: 1 }, results: 14, success: true, error: null, durationMs: 3 });
  assert.deepEqual([run.tools[1].success, run.tools[1].error], [false, "none"]);
  assert.equal(run.parts[0].text, "fourteen");
  assert.deepEqual([run.terminal.finalResponse, run.terminal.durationMs], ["fourteen", 20]);
  assert.equal(reduceRun(run, delta(8, "!")), run);
});

test("the reducer changes nothing that it was given", () => {
  const freeze = (value) => {
    if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  let run;
  for (const one of [on("agent_started"), on("tool_executing", { tool_call_id: "a", tool_name: "x" }), delta(0, "a"), delta(1, "b"), on("agent_failed")]) {
    run = freeze(reduceRun(run, one));
  }
  assert.equal(run.status, "failed");
});

test("deltas are idempotent: repetitions and overlaps are dropped, by Unicode scalar values", () => {
  const run = fold([on("agent_started"), delta(0, "a🦊b"), delta(0, "a🦊b"), delta(1, "🦊bç"), delta(3, "çd"), delta(0, "a🦊")]);
  assert.equal(run.parts[0].text, "a🦊bçd");
  assert.equal(run.parts[0].end, 5);
});

test("however a text is cut, it comes out the same", () => {
  const text = Array.from("naïve 🦊 fox, 👩‍👩‍👧 and e\u0301");
  const slice = (from, to) => delta(from, text.slice(from, to).join(""));
  for (let size = 1; size <= text.length; size += 1) {
    let run = reduceRun(undefined, on("agent_started"));
    for (let at = 0; at < text.length; at += size) {
      run = reduceRun(run, slice(Math.max(0, at - 3), at + size));
      run = reduceRun(run, slice(0, Math.min(at, 2)));
    }
    assert.equal(run.parts[0].text, text.join(""));
  }
});

test("a hole is a fault in a run that is known whole, and a visible loss in one that is not", () => {
  const whole = fold([on("agent_started"), delta(0, "abc")]);
  assert.throws(() => reduceRun(whole, delta(5, "f")), StreamFault);
  const partial = reduceRun(markGap(whole), delta(5, "f"));
  assert.deepEqual(partial.parts[0], { partId: "p", text: "abc…f", end: 6, lost: 2 });
  const late = reduceRun(undefined, delta(5, "f"));
  assert.deepEqual(late.parts[0], { partId: "p", text: "…f", end: 6, lost: 5 });
});

test("a merged window reaches each of its runs", () => {
  const parts = [
    { run_id: "r", part_id: "p", offset: 0, text: "ab" },
    { run_id: "q", part_id: "p", offset: 0, text: "xy" },
    { run_id: "r", part_id: "p", offset: 2, text: "cd" },
  ];
  const window = { type: "agent_deltas", event_id: "7-9", prev: 1, parts };
  assert.deepEqual(runIdsOf(window), ["r", "q"]);
  const run = reduceRun(reduceRun(undefined, on("agent_started")), window);
  assert.equal(run.parts[0].text, "abcd");
  assert.equal(reduceRun(undefined, window, "q").parts[0].text, "xy");
});

test("failure and cancellation close the open tools", () => {
  const open = fold([on("agent_started"), on("tool_executing", { tool_call_id: "a", tool_name: "x" })]);
  const cancelled = reduceRun(open, on("agent_cancelled", { by: "ann", reason: "enough" }));
  assert.deepEqual([cancelled.status, cancelled.tools[0].success, cancelled.terminal.by], ["cancelled", false, "ann"]);
  const failed = reduceRun(open, on("agent_failed", { reason: "producer_lost", error: "gone" }));
  assert.deepEqual([failed.status, failed.terminal.reason], ["failed", "producer_lost"]);
});

test("what comes all the same while a run waits does not end its waiting", () => {
  const waiting = fold([on("agent_started"), on("agent_suspended", { approval_id: "x", question: "sure?" })]);
  const late = [
    on("agent_thinking", { thought: "hm", flaw: "it waits" }),
    on("tool_executing", { tool_call_id: "c", tool_name: "t", flaw: "it waits" }),
    delta(0, "a"),
    { type: "agent_deltas", parts: [{ run_id: waiting.runId, part_id: "p", offset: 1, text: "b" }] },
  ];
  const run = fold(late, waiting);
  assert.deepEqual([run.status, run.approval.approvalId, run.parts[0].text], ["suspended", "x", "ab"]);
  assert.equal(reduceRun(run, on("agent_resumed", { approval_id: "x" })).status, "running");
});

test("a suspended run waits and goes on", () => {
  const waiting = fold([on("agent_started"), on("agent_suspended", { approval_id: "x", question: "sure?" })]);
  assert.deepEqual([waiting.status, waiting.approval.question], ["suspended", "sure?"]);
  assert.equal(reduceRun(waiting, on("agent_resumed", { decision: "yes" })).status, "running");
});

test("a snapshot's run keeps what it waits for, whatever piece says it", () => {
  const head = { run_id: "r", status: "suspended", run_seq: 4 };
  const asks = { ...head, approval_id: "x", question: "sure?" };
  for (const pieces of [[asks, head], [head, asks], [head, asks, head]]) {
    const run = pieces.reduce(restoreRun, undefined);
    assert.deepEqual([run.status, run.approval], ["suspended", { approvalId: "x", question: "sure?" }]);
    const resumed = reduceRun(run, on("agent_resumed", { approval_id: "x", decision: "approve" }));
    assert.deepEqual([resumed.status, resumed.approval], ["running", null]);
  }
});

test("a decision is sent once and its answer says whether it counted", async () => {
  const { client, socket, welcome } = await world();
  welcome();
  const counted = client.approve("x", "approve", { limit: 5 });
  const frame = socket().sent.at(-1);
  assert.deepEqual(
    [frame.type, frame.approval_id, frame.decision, frame.data],
    ["approve", "x", "approve", { limit: 5 }],
  );
  socket().receive({ type: "reply", id: frame.id, ok: true });
  await counted;
  const late = client.approve("x", "decline");
  const error = { code: "already_decided", message: "another decision came first", temporary: false };
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: false, error });
  await assert.rejects(late, { code: "already_decided", temporary: false });
});

test("an unknown type changes nothing, whatever its name", () => {
  const run = reduceRun(undefined, on("agent_started"));
  for (const type of ["agent_sings", "constructor", "toString"]) assert.equal(reduceRun(run, on(type)), run);
});

// --- one way forward

/** Numbers in [0, 1) that follow from `seed` alone (mulberry32). */
function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const LOSSES = [1001, 1006, 1012, 4000, 4001, 4100, 4200, 4201, 4300];

/** Plays a random order of everything that can befall a client, and looks at what it holds after each step. */
async function playLosses(seed) {
  const random = seeded(seed);
  const chance = (share) => random() < share;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const said = [];
  const tokens = [];
  const lost = new Set();
  const getToken = () => {
    if (chance(0.5)) return Promise.resolve("T");
    return new Promise((resolve, reject) => tokens.push({ resolve, reject }));
  };
  const meddle = ({ state }) => {
    said.push(state);
    if (made && open().length > 1) throw new Error(`two sockets, seed ${seed}: ${said}`);
    // Listeners call back, also in the middle of a change.
    if (state === "offline" && chance(0.2)) made?.client.retryNow();
    if (state === "live" && chance(0.1)) made?.client.retryNow();
    if (chance(0.005)) made?.client.close();
  };
  let made;
  const open = () => made.sockets.filter((socket) => !socket.closed && !lost.has(socket));
  made = await world({ token: undefined, getToken, random, onState: meddle });
  const { client, clock, sockets } = made;
  const steps = {
    lose: () => {
      const [socket] = open();
      if (!socket) return;
      lost.add(socket);
      socket.drop(pick(LOSSES));
    },
    // A socket that was left behind still has its say.
    echo: () => {
      const socket = pick(sockets);
      if (!socket || open().includes(socket)) return;
      pick([() => socket.onopen({}), () => socket.receive(event(1)), () => socket.drop(pick(LOSSES))])();
    },
    welcome: () => open().includes(made.socket()) && client.state === "connecting" && made.welcome(),
    fault: () => open()[0]?.receive("{"),
    leave: () => client.state === "live" && open()[0].receive({ type: "going_away", deadline: 1, reconnect_after: random() * 9 }),
    token: () => {
      const [asked] = tokens.splice(Math.floor(random() * tokens.length), 1);
      if (chance(0.3)) asked?.reject(new Error("not now"));
      else asked?.resolve("T");
    },
    retryNow: () => client.retryNow(),
    start: () => client.start(),
    next: () => clock.pass(Math.max(0, Math.min(...[...clock.timers.values()].map(({ at }) => at), clock.time + 60_000) - clock.time)),
    pass: () => clock.pass(random() * 40_000),
  };
  let over = false;
  const look = (after) => {
    const ways = {
      socket: open().length,
      timer: client.state === "offline" ? clock.timers.size : 0,
      token: client.state === "connecting" ? tokens.length : 0,
    };
    const where = `seed ${seed}, after ${after}: ${client.state} ${JSON.stringify(ways)}`;
    if (over || client.state === "stopped") {
      over = true;
      assert.deepEqual([client.state, open().length, clock.timers.size], ["stopped", 0, 0], where);
    }
    if (!over) assert.equal(ways.socket + ways.timer + ways.token, 1, where);
  };
  const names = Object.keys(steps);
  const played = [];
  for (let step = 0; step < 80; step += 1) {
    const name = pick(names);
    played.push(name);
    await steps[name]();
    await settle();
    look(played.slice(-6).join(", "));
  }
  // Left alone, it has a socket again no later than its longest wait.
  tokens.splice(0).forEach(({ resolve }) => resolve("T"));
  await settle();
  for (let tries = 0; client.state === "offline" && tries < 100; tries += 1) {
    await clock.pass(30_000);
    tokens.splice(0).forEach(({ resolve }) => resolve("T"));
    await settle();
  }
  if (client.state !== "stopped") assert.equal(open().length, 1, `seed ${seed}: ${client.state}`);
  return { sockets: sockets.length, stopped: client.state === "stopped" };
}

test("whatever the order of losses, timers, tokens and retryNow: one way forward, never two sockets", async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  let sockets = 0;
  for (let round = 0; round < 300; round += 1) sockets += (await playLosses(seed + round)).sockets;
  assert.ok(sockets > 1_000, `only ${sockets} sockets in all: the orders are too tame`);
});

/** Acks that the newest socket was given. */
const acksOf = (socket) => socket.sent.filter(({ type }) => type === "ack").map((ack) => ack.event_id);
const runEnd = (seq) => event(seq, { type: "agent_completed", run_id: "r1", run_seq: 1 });

test("the client acknowledges 64 events at once, and no fewer", async () => {
  const { socket, welcome } = await world();
  welcome("7-3");
  for (let seq = 4; seq < 67; seq += 1) socket().receive(event(seq));
  assert.deepEqual(acksOf(socket()), []);
  socket().receive(event(67));
  assert.deepEqual(acksOf(socket()), ["7-67"]);
  assert.deepEqual(socket().sent.at(-1), { type: "ack", event_id: "7-67" });
});

test("a run's end is acknowledged, and not soon after another ack", async () => {
  const { socket, welcome, clock } = await world();
  welcome("7-0");
  socket().receive(runEnd(1));
  assert.deepEqual(acksOf(socket()), ["7-1"]);
  await clock.pass(1_000);
  socket().receive(runEnd(2));
  socket().receive(event(3));
  await clock.pass(3_999);
  assert.deepEqual(acksOf(socket()), ["7-1"]);
  await clock.pass(1);
  assert.deepEqual(acksOf(socket()), ["7-1", "7-3"], "where it is by now");
  await clock.pass(20_000);
  assert.equal(acksOf(socket()).length, 2, "nothing more is to be told");
});

test("an ack is not sent for topics, nor after the end, nor left over for the next connection", async () => {
  const { client, socket, sockets, welcome, clock, events } = await world({ topics: ["news"] });
  welcome("7-0", {}, { streams: [live("user", "7-0"), live("topic:news", "9-0")] });
  socket().receive(event(1, { event_id: "9-1", stream: "topic:news" }));
  socket().receive(runEnd(1));
  socket().receive(runEnd(2));
  socket().drop();
  await clock.pass(600);
  assert.equal(sockets.length, 2);
  welcome("7-2", {}, { streams: [live("user", "7-2"), live("topic:news", "9-1")] });
  for (let seq = 2; seq <= 71; seq += 1) socket().receive(event(seq, { event_id: `9-${seq}`, stream: "topic:news" }));
  assert.equal(events.length, 73);
  await clock.pass(10_000);
  assert.deepEqual(acksOf(socket()), [], "the resume has told of it");
  socket().receive(runEnd(3));
  socket().receive(runEnd(4));
  client.close();
  assert.equal(clock.timers.size, 0);
  assert.deepEqual(acksOf(socket()), ["7-3"]);
});

test("a snapshot is acknowledged by its position", async () => {
  const { socket, welcome } = await world();
  welcome("7-0", { head: "7-90", mode: "snapshot" });
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-90", part: 1, of: 2, runs: [] });
  assert.deepEqual(acksOf(socket()), []);
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-90", part: 2, of: 2, runs: [] });
  assert.deepEqual(acksOf(socket()), ["7-90"]);
});

test("a topic is followed from the start, and from where it was after a loss", async () => {
  const topics = [];
  const { socket, welcome, clock, events, client } = await world({ topics: ["news"], onTopic: (topic) => topics.push(topic) });
  welcome("7-0", {}, { streams: [live("user", "7-0"), live("topic:news", "9-4")] });
  assert.deepEqual(socket().sent[0].topics, ["news"]);
  assert.deepEqual(socket().sent[0].resume, { user: "0-0" });
  socket().receive(event(5, { event_id: "9-5", stream: "topic:news" }));
  socket().receive(event(1));
  socket().drop();
  await clock.pass(500);
  const lost = { from: "9-5", to: "9-8" };
  welcome("7-1", {}, { streams: [live("user", "7-1"), { ...live("topic:news", "9-8"), mode: "reset", lost }] });
  assert.equal("topics" in socket().sent[0], false);
  assert.deepEqual(socket().sent[0].resume, { user: "7-1", "topic:news": "9-5" });
  socket().receive(event(9, { event_id: "9-9", stream: "topic:news" }));
  assert.deepEqual(events.map(({ event_id: id }) => id), ["9-5", "7-1", "9-9"]);
  assert.deepEqual(topics, [{ topic: "news", lost: null, afresh: false }, { topic: "news", lost, afresh: false }]);
  assert.equal(client.position, "7-1");
});

test("a topic that the server does not give is left, and said to be", async () => {
  const topics = [];
  const { socket, welcome, clock } = await world({ topics: ["news", "ops"], onTopic: (topic) => topics.push(topic) });
  welcome("7-0", {}, { streams: [live("user", "7-0"), live("topic:news", "9-0")] });
  assert.deepEqual(topics, [{ topic: "ops", left: true }, { topic: "news", lost: null, afresh: false }]);
  socket().drop();
  await clock.pass(500);
  welcome("7-0", {}, { streams: [live("user", "7-0"), live("topic:news", "9-0")] });
  assert.deepEqual(socket().sent[0].resume, { user: "7-0", "topic:news": "9-0" });
});

test("subscribe follows from the answer on, and unsubscribe leaves at once", async () => {
  const { socket, welcome, events, client, clock } = await world();
  const followed = client.subscribe("news", { position: "9-2" });
  welcome();
  const asked = socket().sent[1];
  assert.deepEqual([asked.type, asked.topic, asked.resume], ["subscribe", "news", "9-2"]);
  socket().receive(event(3, { event_id: "9-3", stream: "topic:news" }));
  socket().receive({ type: "reply", id: asked.id, ok: true, stream: "topic:news", event_id: "9-2", head: "9-4", mode: "replay" });
  socket().receive(event(3, { event_id: "9-3", stream: "topic:news" }));
  await followed;
  assert.equal(events.length, 1, "nothing comes before the answer");
  await client.subscribe("news");
  const left = client.unsubscribe("news");
  socket().receive(event(4, { event_id: "9-4", stream: "topic:news" }));
  assert.equal(events.length, 1);
  const leaving = socket().sent.at(-1);
  assert.deepEqual([leaving.type, leaving.topic], ["unsubscribe", "news"]);
  socket().receive({ type: "reply", id: leaving.id, ok: true });
  await left;
  await client.unsubscribe("news");
  socket().drop();
  await clock.pass(500);
  welcome();
  assert.deepEqual(socket().sent[0].resume, { user: "7-0" });
  const refused = client.subscribe("ops");
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: false, error: { code: "not_found", message: "no such topic" } });
  await assert.rejects(refused, { name: "RequestError", code: "not_found" });
});

test("a hole in a topic is that topic's, and a second one there starts it from the beginning", async () => {
  const { socket, welcome, clock } = await world({ topics: ["news"] });
  const streams = [live("user", "7-0"), live("topic:news", "9-1")];
  for (const ms of [500, 1_000]) {
    welcome("7-0", {}, { streams });
    socket().receive(event(3, { event_id: "9-3", stream: "topic:news" }));
    await clock.pass(ms);
  }
  socket().onopen({});
  assert.deepEqual(socket().sent[0].resume, { user: "7-0", "topic:news": "0-0" });
});

test("a client that is behind says so until it is not", async () => {
  const { socket, welcome, states, client } = await world();
  welcome();
  socket().receive({ type: "lag", stream: "topic:news", behind: 600, merging: true });
  socket().receive({ type: "lag", stream: "user", behind: 600, merging: true });
  socket().receive({ type: "lag", stream: "user", behind: 700, merging: true });
  assert.equal(client.state, "lagging");
  const sent = client.send("t", "still heard");
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: true, run_id: "run_1" });
  assert.equal(await sent, "run_1");
  socket().receive({ type: "lag", stream: "user", behind: 0, merging: false });
  socket().receive({ type: "lag", stream: "user", behind: 600, merging: true });
  socket().drop();
  assert.deepEqual(states.map(({ state }) => state), ["connecting", "live", "lagging", "live", "lagging", "offline"]);
  assert.equal(client.state, "offline");
});

test("events can be iterated over, from there on, to the end of the client", async () => {
  const { socket, welcome, client } = await world();
  welcome();
  socket().receive(event(1));
  const seen = [];
  const all = (async () => {
    for await (const { seq } of client.events()) seen.push(seq);
  })();
  const some = client.events();
  socket().receive(event(2));
  socket().receive(event(3));
  assert.equal((await some.next()).value.seq, 2);
  await some.return();
  socket().receive(event(4));
  assert.deepEqual(await some.next(), { value: undefined, done: true });
  client.close();
  await all;
  assert.deepEqual(seen, [2, 3, 4]);
  assert.equal((await client.events().next()).done, true, "a client that has stopped has none");
});

test("whoever takes events too slowly is told, and nobody else is concerned", async () => {
  const { socket, welcome, client, events } = await world();
  welcome();
  const slow = client.events();
  for (let seq = 1; seq <= 10_050; seq += 1) socket().receive(event(seq));
  assert.equal(events.length, 10_050);
  for (let seq = 1; seq <= 10_000; seq += 1) assert.equal((await slow.next()).value.seq, seq);
  await assert.rejects(slow.next(), { name: "RequestError", code: "overrun" });
  assert.equal((await slow.next()).done, true);
});

test("listeners come beside the options, and one that throws holds nothing up", async (t) => {
  const { socket, welcome, client, events } = await world();
  const faults = reported(t);
  const heard = [];
  client.on("event", () => {
    throw new Error("mine");
  });
  const stop = client.on("event", ({ seq }) => heard.push(seq));
  client.on("notice", ({ type }) => heard.push(type));
  client.on("state", ({ state }) => heard.push(state));
  welcome();
  socket().receive(event(1));
  socket().receive({ type: "service_level", level: "normal" });
  stop();
  socket().receive(event(2));
  assert.deepEqual(heard, ["live", 1, "service_level"]);
  assert.deepEqual([events.length, faults], [2, ["mine", "mine"]]);
});

test("a command is answered by the application, and comes again under its key", async () => {
  const { socket, welcome, client, clock } = await world();
  const answer = client.command("rename", { to: "b" }, { key: "k" });
  welcome();
  const first = socket().sent[1];
  assert.deepEqual([first.type, first.name, first.args, first.key], ["command", "rename", { to: "b" }, "k"]);
  socket().drop();
  await clock.pass(500);
  welcome();
  const again = socket().sent[1];
  assert.deepEqual(again, first);
  socket().receive({ type: "reply", id: again.id, ok: true, result: { renamed: true } });
  assert.deepEqual(await answer, { renamed: true });
});

test("no more than a thousand requests wait", async () => {
  const { client } = await world();
  const waiting = Array.from({ length: 1_000 }, (_, n) => client.send("t", `${n}`));
  await assert.rejects(client.send("t", "one more"), { code: "too_many_waiting", temporary: true });
  client.close();
  const outcomes = await Promise.allSettled(waiting);
  assert.ok(outcomes.every(({ reason }) => reason.code === "stopped"));
});

const news = (eventId) => [live("user", "7-0"), live("topic:news", eventId)];
const headline = (seq) => event(seq, { event_id: `9-${seq}`, stream: "topic:news" });

test("a client that a listener closes during the welcome stays closed", async () => {
  for (const name of ["welcome", "topic", "reset", "state"]) {
    const { socket, sockets, welcome, client, clock, states } = await world({ topics: ["news"] });
    client.on(name, ({ state }) => (state ?? "live") === "live" && client.close());
    welcome("7-9", { mode: "reset" }, { streams: [{ ...live("user", "7-9"), mode: "reset" }, live("topic:news", "9-0")] });
    await clock.pass(200_000);
    assert.equal(client.state, "stopped", name);
    assert.equal(states.at(-1).state, "stopped");
    assert.deepEqual([sockets.length, clock.timers.size], [1, 0], name);
    assert.equal(socket().sent.length, 1);
  }
});

test("a topic that was left does not come back, whoever leaves it and when", async () => {
  const ways = {
    event: (client) => client.on("event", () => client.unsubscribe("news")),
    topic: (client) => client.on("topic", () => client.unsubscribe("news")),
    between: () => {},
  };
  for (const [way, arm] of Object.entries(ways)) {
    const { client, socket, welcome, clock } = await world({ topics: ["news"] });
    arm(client);
    if (way === "between") {
      socket().onopen({});
      await client.unsubscribe("news");
      socket().receive({ type: "welcome", session_id: "s1", streams: news("9-0") });
      assert.deepEqual(socket().sent.filter(({ type }) => type === "unsubscribe").map(({ topic }) => topic), ["news"]);
    } else welcome("7-0", {}, { streams: news("9-0") });
    socket().receive(headline(1));
    socket().receive({ type: "snapshot", stream: "topic:news", event_id: "9-7", part: 1, of: 1, runs: [] });
    socket().drop();
    await clock.pass(500);
    socket().onopen({});
    assert.deepEqual([socket().sent[0].resume, "topics" in socket().sent[0]], [{ user: "7-0" }, false], way);
  }
});

test("a topic is asked for once, and leaving it while it is asked for leaves it", async () => {
  const { client, socket, welcome, events, clock } = await world();
  welcome();
  const both = Promise.all([client.subscribe("news"), client.subscribe("news", { position: "9-0" })]);
  const asked = socket().sent.filter(({ type }) => type === "subscribe");
  assert.equal(asked.length, 1);
  const left = client.unsubscribe("news");
  const leaving = socket().sent.at(-1);
  socket().receive({ type: "reply", id: asked[0].id, ok: true, stream: "topic:news", event_id: "9-2", head: "9-2", mode: "live" });
  socket().receive(headline(3));
  socket().receive({ type: "reply", id: leaving.id, ok: false, error: { code: "not_found" } });
  await both;
  await left;
  assert.equal(events.length, 0);
  const again = client.subscribe("ops");
  const never = client.unsubscribe("ops");
  socket().drop();
  await Promise.all([again, never]);
  await clock.pass(500);
  welcome();
  assert.deepEqual(socket().sent.map(({ type }) => type), ["hello"]);
});

test("a listener's mistake hides nothing from the others and stops nothing", async (t) => {
  const faults = reported(t);
  const fail = () => {
    throw new Error("mine");
  };
  const { client, socket, welcome, clock } = await world({ topics: ["news"], onEvent: fail, onTopic: fail, onState: fail, onWelcome: fail });
  const seen = [];
  client.on("event", ({ seq }) => seen.push(seq));
  welcome("7-0", {}, { streams: news("9-0") });
  socket().receive(event(1));
  assert.deepEqual([seen, client.position, client.state], [[1], "7-1", "live"]);
  const waits = client.send("t", "x");
  client.close();
  await assert.rejects(waits, { code: "stopped" });
  assert.deepEqual([new Set(faults).size, clock.timers.size], [1, 0]);
});

test("what waits goes out once and in order, before what a listener asks for", async () => {
  const { client, socket, welcome } = await world();
  client.send("t", "first");
  client.on("state", ({ state }) => state === "live" && client.send("t", "second"));
  welcome();
  assert.deepEqual(socket().sent.slice(1).map(({ content }) => content), ["first", "second"]);
});

test("requests go out as fast as the server takes them, in order", async () => {
  const { client, socket, welcome, clock } = await world();
  for (let n = 0; n < 100; n += 1) client.send("t", `${n}`);
  welcome("7-0", {}, { limits: { message_bytes: 65_536, messages_per_second: 30, message_burst: 60 } });
  const sent = () => socket().sent.slice(1).map(({ content }) => Number(content));
  assert.equal(sent().length, 45);
  await clock.pass(1_000);
  assert.ok(sent().length >= 65 && sent().length <= 68, `${sent().length}`);
  client.send("t", "100");
  await clock.pass(3_000);
  assert.deepEqual(sent(), Array.from({ length: 101 }, (_, n) => n));
});

test("a topic that has fallen out of its log says what is lost, and is no snapshot of runs", async () => {
  const told = [];
  const { socket, welcome, client, clock } = await world({ topics: ["news"] });
  for (const name of ["topic", "reset", "snapshot"]) client.on(name, (value) => told.push([name, value]));
  welcome("7-0", {}, { streams: news("9-0") });
  told.length = 0;
  socket().receive({ type: "snapshot", stream: "topic:news", event_id: "9-40", part: 1, of: 1, runs: [] });
  assert.deepEqual(told, [["topic", { topic: "news", lost: { from: "9-0", to: "9-40" }, afresh: true }]]);
  socket().receive(headline(41));
  socket().drop(4300);
  await clock.pass(500);
  told.length = 0;
  welcome("7-0", {}, { streams: [live("user", "7-0"), { ...live("topic:news", "9-0"), mode: "reset" }] });
  assert.deepEqual(socket().sent[0].resume, { "topic:news": "0-0", user: "0-0" });
  assert.deepEqual(told, [["topic", { topic: "news", lost: null, afresh: true }]]);
});

test("no more topics and threads than a server takes", async () => {
  const names = Array.from({ length: 101 }, (_, n) => `n${n}`);
  await assert.rejects(world({ topics: names }), RangeError);
  await assert.rejects(world({ threads: names }), RangeError);
  const { client } = await world({ topics: names.slice(1) });
  await assert.rejects(client.subscribe("one more"), { code: "too_many_subscriptions" });
  await client.subscribe("n1");
});

test("a place in a stream that is none, or another than this client's, is that stream's fault", async () => {
  for (const entry of [{ ...live("topic:news", "9-4"), mode: "replay" }, live("topic:news", "nine")]) {
    const { socket, sockets, welcome, clock } = await world({ topics: ["news"] });
    welcome("7-0", {}, { streams: news("9-1") });
    socket().receive(event(1));
    socket().drop();
    await clock.pass(500);
    for (const _ of ["first", "second"]) {
      welcome("7-1", {}, { streams: [live("user", "7-1"), entry] });
      assert.equal(sockets.at(-1).closed.code, 4000);
      await clock.pass(4_000);
    }
    socket().onopen({});
    assert.deepEqual(socket().sent[0].resume, { user: "7-1", "topic:news": "0-0" });
  }
  const { client, socket, welcome } = await world();
  welcome();
  const asked = client.subscribe("news");
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: true, stream: "topic:news", event_id: "nine", mode: "live" });
  await assert.rejects(asked, { code: "bad_answer" });
});

test("an event for now only of a topic that was left is nobody's", async () => {
  const { client, socket, welcome, events } = await world({ topics: ["news"] });
  welcome("7-0", {}, { streams: news("9-0") });
  client.unsubscribe("news");
  socket().receive({ type: "custom", name: "typing", stream: "topic:news", data: 1 });
  assert.equal(events.length, 0);
});

test("a long reason is cut to what a close frame takes", async () => {
  const onEvent = () => {
    throw new StreamFault("я".repeat(100));
  };
  const { socket, sockets, welcome } = await world({ onEvent });
  welcome();
  socket().receive(event(1));
  assert.equal(sockets[0].closed.reason, "я".repeat(61));
});

test("an iterator that is over stays over, and large events count", async () => {
  const { client, socket, welcome } = await world();
  welcome();
  const first = client.events();
  client.on("event", () => first.return());
  const large = client.events();
  socket().receive(event(1, { data: "x".repeat(17 << 20) }));
  assert.deepEqual(await first.next(), { value: undefined, done: true });
  assert.equal((await large.next()).value.seq, 1);
  await assert.rejects(large.next(), { code: "overrun" });
  const late = client.events();
  for (let seq = 2; seq <= 10_002; seq += 1) socket().receive(event(seq));
  await late.return();
  assert.equal((await late.next()).done, true);
  assert.throws(() => client.on("events", () => {}), TypeError);
});

test("what is no JSON is refused, and what is asked is what it was then", async () => {
  const { client, socket, welcome, states } = await world();
  await assert.rejects(client.send("t", "bad", { metadata: { n: 1n } }), TypeError);
  const metadata = { n: 1 };
  client.send("t", "good", { metadata });
  metadata.n = 2;
  welcome();
  assert.deepEqual(socket().sent.slice(1).map(({ content, metadata: { n } }) => [content, n]), [["good", 1]]);
  assert.equal(states.at(-1).state, "live");
});

test("a clock that goes back holds requests up for a second at most", async () => {
  const { client, clock, socket, welcome } = await world();
  welcome("7-0", {}, { limits: { messages_per_second: 30, message_burst: 1 } });
  client.send("t", "1");
  clock.time = 3_600_000;
  client.send("t", "2");
  clock.time = 1_000;
  client.send("t", "3");
  await clock.pass(1_100);
  assert.equal(socket().sent.length, 4);
});

test("everybody hears of the states in their order, whoever changes them", async () => {
  const made = await world({ onState: ({ state }) => state === "live" && made?.client.close() });
  const heard = [];
  made.client.on("state", ({ state }) => heard.push(state));
  made.welcome();
  assert.deepEqual(heard, ["live", "stopped"]);
});

test("topics that were left go at the server's rate, ahead of what waits", async () => {
  const names = Array.from({ length: 80 }, (_, n) => `n${n}`);
  const { client, socket, clock, welcome } = await world({ topics: names });
  client.on("welcome", () => names.forEach((name) => client.unsubscribe(name)));
  client.subscribe("later");
  const streams = [live("user", "7-0"), ...names.map((name) => live(`topic:${name}`, "9-0"))];
  welcome("7-0", {}, { streams, limits: { messages_per_second: 30, message_burst: 60 } });
  assert.equal(socket().sent.length, 46);
  await clock.pass(3_000);
  assert.deepEqual(socket().sent.slice(1).map(({ topic }) => topic), [...names, "later"]);
});

test("a frame that cannot be used is a fault, and no answer without a name is anybody's", async (t) => {
  const faults = reported(t);
  const { client, socket, sockets, welcome, clock } = await world();
  welcome("7-0", {}, { streams: [null] });
  assert.equal(sockets[0].closed.code, 4000);
  assert.equal(faults.length, 1);
  await clock.pass(500);
  welcome("7-0", {}, { limits: null });
  assert.equal(client.state, "live");
  socket().receive({ type: "reply", ok: false });
  socket().receive({ type: "reply", ok: true });
  assert.equal(client.state, "live");
  const asked = client.subscribe("news");
  socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: true, stream: "topic:news", event_id: "x", mode: "live" });
  await assert.rejects(asked, { code: "bad_answer" });
  await clock.pass(1_000);
  socket().onopen({});
  assert.equal("topics" in socket().sent[0], false);
});

test("a snapshot that breaks off is started afresh, also where the next connection goes on without one", async () => {
  const { socket, welcome, clock, resets } = await world({ position: undefined });
  welcome("7-4", { mode: "snapshot" });
  socket().receive({ type: "snapshot", stream: "user", event_id: "7-4", part: 1, of: 2, runs: [] });
  socket().drop();
  await clock.pass(500);
  welcome("7-9");
  assert.deepEqual(resets, [{ lost: null, afresh: true }, { lost: null, afresh: true }]);
});

test("the types name what the module exports", async () => {
  const types = readFileSync(new URL("../../core/js/trunkline.d.ts", import.meta.url), "utf8");
  const named = [...types.matchAll(/^export (?:const|function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(await import("../../core/js/trunkline.js")).sort());
});

// --- what the client in Rust is held to as well

const vectors = JSON.parse(readFileSync(new URL("../../core/js/vectors.json", import.meta.url), "utf8"));

test("vectors: closes, positions and what follows what", () => {
  for (const { code, action } of vectors.closes) assert.equal(nextAction(code), action, `${code}`);
  for (const { text, ok } of vectors.positions) {
    if (ok) assert.equal(formatPosition(parsePosition(text)), text);
    else assert.throws(() => parsePosition(text), StreamFault, text);
  }
  for (const { at, frame, follows } of vectors.follows) {
    const follow = () => formatPosition(checkFollows(parsePosition(at), frame));
    if (follows) assert.equal(follow(), frame.event_id);
    else assert.throws(follow, StreamFault, `${at} ${JSON.stringify(frame)}`);
  }
});

/** The runs after a vector's frames, as the vector has them. */
function runsAfter(frames) {
  const runs = new Map();
  const take = (id, run) => runs.set(id, run);
  for (const frame of frames) {
    if (frame.type === "snapshot") frame.runs.forEach((piece) => take(piece.run_id, restoreRun(runs.get(piece.run_id), piece)));
    else if (!["user_message", "custom"].includes(frame.type)) runIdsOf(frame).forEach((id) => take(id, reduceRun(runs.get(id), frame, id)));
  }
  return Object.fromEntries([...runs].map(([id, run]) => [id, plain(run)]));
}

function plain({ status, threadId, agentName, parentRunId, thoughts, tools, parts, approval, terminal }) {
  const { finalResponse, error, reason } = terminal ?? {};
  const outcomes = { completed: finalResponse, failed: error, cancelled: reason };
  // For people a call that a run's end has closed has failed; nobody has said so.
  const closed = (tool) => terminal && tool.results === undefined;
  return {
    status,
    thread: threadId,
    agent: agentName,
    parent: parentRunId,
    thoughts: thoughts.map(({ thought }) => thought),
    tools: Object.fromEntries(
      tools.map((tool) => {
        const { name, parameters = null, results = null } = tool;
        const [success, said] = closed(tool) ? [null, null] : [tool.success, tool.error];
        return [tool.toolCallId, { name, parameters, results, success, error: said }];
      }),
    ),
    parts: Object.fromEntries(parts.map(({ partId, text, lost }) => [partId, { lost, text }])),
    approval: approval ? { id: approval.approvalId, question: approval.question } : null,
    outcome: outcomes[status] ?? null,
  };
}

test("vectors: runs", () => {
  for (const { name, frames, runs } of vectors.runs) assert.deepEqual(runsAfter(frames), runs, name);
});
