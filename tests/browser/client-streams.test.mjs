// The client module: positions, faults, resets, snapshots, acknowledgements and topics.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, live, reported, world } from "./client-world.mjs";
import { StreamFault, checkFollows, parsePosition } from "../../core/js/trunkline.js";

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

test("a position is one pair, which is parsed and compared whole", () => {
  assert.deepEqual(parsePosition("7-12"), { epoch: "7", seq: 12 });
  for (const bad of ["", "7", "7-", "-1", "07-1", "7-01", "7-1.5", "7-9007199254740992", undefined, null]) assert.throws(() => parsePosition(bad), StreamFault);
  assert.deepEqual(checkFollows({ epoch: "7", seq: 3 }, { event_id: "7-8", prev: 3 }), { epoch: "7", seq: 8 });
  assert.throws(() => checkFollows({ epoch: "7", seq: 3 }, { event_id: "7-3", prev: 3 }), StreamFault);
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

const news = (eventId) => [live("user", "7-0"), live("topic:news", eventId)];
const headline = (seq) => event(seq, { event_id: `9-${seq}`, stream: "topic:news" });

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
