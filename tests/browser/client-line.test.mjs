// The client module: how it comes in, stays, comes back and ends, and who hears of it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { event, live, reported, settle, world } from "./client-world.mjs";
import { StreamFault, closeName, nextAction } from "../../core/js/trunkline.js";

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

test("a frame before the welcome is a fault", async () => {
  const { socket, sockets } = await world();
  socket().onopen({});
  socket().receive(event(1));
  assert.equal(sockets[0].closed.code, 4000);
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

test("by itself a client is not back before the time that the server has asked for; a person may be", async () => {
  const { client, clock, socket, sockets, welcome, state } = await world();
  welcome();
  socket().receive({ type: "going_away", deadline: 5, reconnect_after: 60 });
  socket().drop(1012);
  client.wake();
  await clock.pass(59_999);
  client.wake();
  await settle();
  assert.deepEqual([sockets.length, state().retryAt], [1, 60_000]);
  // A person's try that fails does not make it any later, or earlier.
  client.retryNow();
  await settle();
  assert.equal(sockets.length, 2);
  socket().drop();
  client.wake();
  await settle();
  assert.equal(sockets.length, 2);
  await clock.pass(1);
  client.wake();
  await settle();
  assert.equal(sockets.length, 3);
  // One that nobody has asked to wait comes at once.
  welcome();
  socket().drop();
  client.wake();
  await settle();
  assert.equal(sockets.length, 4);
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

test("everybody hears of the states in their order, whoever changes them", async () => {
  const made = await world({ onState: ({ state }) => state === "live" && made?.client.close() });
  const heard = [];
  made.client.on("state", ({ state }) => heard.push(state));
  made.welcome();
  assert.deepEqual(heard, ["live", "stopped"]);
});

test("the types name what the module exports", async () => {
  const types = readFileSync(new URL("../../core/js/trunkline.d.ts", import.meta.url), "utf8");
  const named = [...types.matchAll(/^export (?:const|function|class) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(named.sort(), Object.keys(await import("../../core/js/trunkline.js")).sort());
});
