// The client module: what is asked of the server, once or until it is answered.

import assert from "node:assert/strict";
import { test } from "node:test";
import { world } from "./client-world.mjs";

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

test("a run that is to be cancelled may have ended before", async () => {
  const { client, socket, welcome } = await world();
  welcome();
  for (const state of ["requested", "ended"]) {
    const asked = client.cancel("r1");
    socket().receive({ type: "reply", id: socket().sent.at(-1).id, ok: true, run_id: "r1", state });
    assert.equal(await asked, state);
  }
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
