// The client module: tokens and tickets, ahead of a connection and ahead of their end.

import assert from "node:assert/strict";
import { test } from "node:test";
import { settle, world } from "./client-world.mjs";
import { Trunkline, connect } from "../../core/js/trunkline.js";

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

test("what lets in is waited for 20 s; the next try asks again, and an answer that comes late counts no more", async () => {
  for (const option of ["getToken", "getTicket"]) {
    const asked = [];
    const ask = () => new Promise((resolve) => asked.push(resolve));
    const { client, clock, sockets, socket, state } = await world({ token: undefined, [option]: ask });
    await clock.pass(19_999);
    assert.deepEqual([state().state, asked.length], ["connecting", 1]);
    await clock.pass(1);
    assert.deepEqual([state().state, state().reason, state().retryAt], ["offline", "token_unavailable", 20_500]);
    asked[0]("late");
    await clock.pass(500);
    assert.deepEqual([state().state, asked.length, sockets.length], ["connecting", 2, 0]);
    await clock.pass(20_000);
    assert.equal(state().retryAt - clock.time, 1_000);
    client.retryNow();
    await settle();
    asked[2]("T3");
    await settle();
    assert.match(`${socket().url} ${socket().protocols}`, /T3/);
    client.close();
    assert.equal(clock.timers.size, 0);
  }
});

test("a token ahead of the end that never comes is asked for again, and holds up no next connection", async () => {
  const asked = [];
  const getToken = () => new Promise((resolve) => asked.push(resolve));
  const { client, clock, socket, sockets, welcome } = await world({ getToken });
  welcome("7-0", {}, { expires_in: 120, heartbeat: SILENT });
  // Of 120 s 45 are left; half of that later it is tried again.
  await clock.pass(75_000);
  assert.equal(asked.length, 1);
  await clock.pass(22_500);
  assert.equal(asked.length, 2);
  asked[0]("late");
  await settle();
  assert.deepEqual(refreshesOf(socket()), []);
  socket().drop(4200, "token_expired");
  await clock.pass(20_000);
  assert.deepEqual([client.state, asked.length], ["offline", 2]);
  await clock.pass(1_000);
  assert.equal(asked.length, 3);
  asked[2]("T4");
  await settle();
  assert.equal(sockets.length, 2);
  client.close();
  await settle();
  assert.equal(clock.timers.size, 0);
});

test("a client that is closed while it waits for a token keeps no timer", async () => {
  const { client, clock } = await world({ token: undefined, getToken: () => new Promise(() => {}) });
  client.close();
  assert.equal(clock.timers.size, 0);
  let calls = 0;
  const early = new Trunkline({ url: "ws://test/ws", getToken: () => (calls += 1), ...clock, onState: () => early.close() });
  early.start();
  await settle();
  assert.deepEqual([early.state, calls, clock.timers.size], ["stopped", 0, 0]);
});
