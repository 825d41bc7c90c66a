// A foreign client checks a running server against the protocol: Node's `ws`.
//
//     TRUNKLINE_URL=ws://127.0.0.1:8787/ws TRUNKLINE_TOKEN_ANN=... TRUNKLINE_TOKEN_BOB=... node node_client.mjs
//
// TRUNKLINE_TOKEN_EXPIRED, where given, is a token of ann's that has expired or is about to. One line per check, then
// `N passed, N failed`; the exit status is 1 if a check failed. Every wait has a deadline.

import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import {
  Client, Failed, QUESTION, RUN_EVENTS, TERMINAL, brief, carried, dial, expect, isEnd, spell, within,
} from "./node_connection.mjs";

const { TRUNKLINE_TOKEN_ANN: ANN, TRUNKLINE_TOKEN_BOB: BOB, TRUNKLINE_TOKEN_EXPIRED: EXPIRED } = process.env;

const CHECK_MS = 30_000; // One check.
const LEEWAY_MS = 5_000; // The server's allowance for clocks that differ.
const MESSAGE_BYTES = 64 * 1024;
const ANSWER = "14";

/** The run automaton, from the viewer's side. */
function checkRun(events) {
  const kinds = events.map(({ type }) => type);
  const count = (matches) => kinds.filter(matches).length;
  expect(kinds[0] === "agent_started" && count((k) => k === "agent_started") === 1, `it starts wrongly: ${kinds}`);
  expect(kinds.at(-1) === "agent_completed", `it ends in ${brief(events.at(-1))}`);
  expect(count((kind) => TERMINAL.has(kind)) === 1, `it ends more than once: ${kinds}`);
  for (const kind of ["agent_thinking", "tool_executing", "tool_completed"]) {
    expect(kinds.includes(kind), `it has no ${kind}: ${kinds}`);
  }
  expect(kinds.includes("agent_delta") || kinds.includes("agent_deltas"), `it has no text: ${kinds}`);
  checkTools(events);
  const text = finalText(events);
  expect(text.includes(ANSWER), `the streamed answer is ${brief(text)}`);
  const response = events.at(-1).final_response ?? ANSWER;
  expect(response.includes(ANSWER), `the final response is ${brief(response)}`);
}

function checkTools(events) {
  const open = new Map();
  for (const event of events) {
    if (event.type === "tool_executing") {
      const whole = event.tool_name && "parameters" in event;
      expect(whole, `a tool without name or parameters: ${brief(event)}`);
      open.set(event.tool_call_id, event.tool_name);
    }
    if (event.type === "tool_completed") {
      expect(open.get(event.tool_call_id) === event.tool_name, `a tool ends that did not begin: ${brief(event)}`);
      expect("results" in event && event.success === true, `a tool without results: ${brief(event)}`);
      open.delete(event.tool_call_id);
    }
  }
  expect(open.size === 0, `tools left open: ${[...open.values()]}`);
}

/** The text of all parts; a piece lies at its offset, in Unicode scalar values. */
function finalText(events) {
  const texts = new Map();
  for (const event of events) {
    const pieces = event.type === "agent_deltas" ? event.parts : event.type === "agent_delta" ? [event] : [];
    for (const { part_id: part, offset, text } of pieces) {
      const soFar = [...(texts.get(part) ?? "")];
      expect(offset <= soFar.length, `a gap in the text before ${offset}`);
      texts.set(part, soFar.slice(0, offset).join("") + text);
    }
  }
  return [...texts.values()].join("");
}

/** What every device must see alike, whether text was merged for it or not. */
function lifecycle(events) {
  const same = events.filter(({ type }) => type !== "agent_delta" && type !== "agent_deltas");
  return same.map((event) => Object.fromEntries(Object.entries(event).filter(([key]) => key !== "prev")));
}

function expectSame(seen, whole, who) {
  expect(whole.length > 0, `${who}: there are no events`);
  expect(isDeepStrictEqual(lifecycle(seen), lifecycle(whole)), `${who} sees other events`);
  expect(finalText(seen) === finalText(whole), `${who} sees other text`);
}

async function goldenPath(carrier) {
  const client = await Client.open(ANN, { carrier });
  await client.caughtUp();
  const before = client.events.length;
  checkRun(await client.readRun(await client.ask()));
  const isOwn = ({ type, content }) => type === "user_message" && content === QUESTION;
  expect(client.events.slice(before).some(isOwn), "the user's own message is no event");
  await client.close();
}

async function sequenceOfEvents() {
  const client = await Client.open(ANN);
  const run = await client.readRun(await client.ask());
  const fields = ["timestamp", "user_id", "thread_id", "run_id", "run_seq", "agent_name"];
  for (const [at, event] of run.entries()) {
    expect(event.seq === run[0].seq + at, `seq does not rise by one: ${run.map(({ seq }) => seq)}`);
    expect(event.event_id === `${client.position.epoch}-${event.seq}`, "event_id is not epoch-seq");
    const missing = fields.filter((field) => !(field in event));
    expect(missing.length === 0 || event.type === "agent_deltas", `${event.type} has no ${missing}`);
  }
  await client.close();
}

async function twoDevices() {
  const [one, two] = [await Client.open(ANN), await Client.open(ANN, { carrier: "authorization" })];
  expect(one.welcome.user_id === two.welcome.user_id, "one user has two names");
  expect(one.welcome.connection_id !== two.welcome.connection_id, "two connections share an id");
  const run = await one.ask();
  const whole = await one.readRun(run);
  expectSame(await two.readRun(run), whole, "the other device");
  await one.close();
  await two.close();
}

async function otherUser() {
  const [ann, bob] = [await Client.open(ANN), await Client.open(BOB)];
  expect(ann.welcome.user_id !== bob.welcome.user_id, "two users have one name");
  await ann.caughtUp();
  await bob.caughtUp();
  for (const [sender, other] of [[ann, bob], [bob, ann]]) {
    const before = other.events.length;
    const run = await sender.ask(QUESTION, "t-shared");
    checkRun(await sender.readRun(run));
    await other.quiet();
    const who = other.welcome.user_id;
    expect(other.events.length === before, `${who} sees ${brief(other.events.at(-1))}`);
    const told = other.setAside.find((frame) => JSON.stringify(frame).includes(run));
    expect(told === undefined, `${who} sees ${brief(told)}`);
  }
  await ann.close();
  await bob.close();
}

async function dropAndResume() {
  const [witness, dropped] = [await Client.open(ANN), await Client.open(ANN)];
  const run = await dropped.ask();
  if (dropped.eventsOf(run).length === 0) {
    await dropped.waitFor((frame) => frame.run_id === run && RUN_EVENTS.has(frame.type), "event");
  }
  expect(!dropped.events.some((event) => isEnd(event, run)), "the run ended before the drop");
  dropped.drop();
  const whole = await witness.readRun(run);
  const resumed = await Client.open(ANN, { resume: spell(dropped.position) });
  expect(["live", "replay"].includes(resumed.stream.mode), `the stream goes on by ${resumed.stream.mode}`);
  expect(!("lost" in resumed.stream), `lost ${brief(resumed.stream.lost)}`);
  expect(isDeepStrictEqual(resumed.position, dropped.position), `resumed at ${spell(resumed.position)}`);
  await resumed.readRun(run);
  const seen = [...dropped.eventsOf(run), ...resumed.eventsOf(run)];
  const seqs = seen.map(({ seq }) => seq);
  expect(new Set(seqs).size === seqs.length, `an event came twice: ${seqs}`);
  expectSame(seen, whole, "the resumed device");
  checkRun(seen);
  await witness.close();
  await resumed.close();
}

/** A position from a welcome is as good as one from an event. */
async function resumeWithoutEvents() {
  const client = await Client.open(BOB);
  const resume = spell(client.position);
  client.drop();
  const sender = await Client.open(BOB);
  const run = await sender.ask();
  const whole = await sender.readRun(run);
  const resumed = await Client.open(BOB, { resume });
  expectSame(await resumed.readRun(run), whole, "the resumed device");
  await sender.close();
  await resumed.close();
}

/** The upgrade is accepted and the connection closed, before or after the first frame, and never welcomed. */
async function refusedByClose(expected, { token, carrier = "none", helloToken, first } = {}) {
  const client = await dial(carried(token, carrier));
  client.send(first ?? { type: "hello", token: helloToken });
  const { code, types } = await client.closed();
  expect(!types.includes("welcome"), "a welcome");
  expect(code === expected, `close code ${code}, not ${expected}`);
}

async function refusedByStatus(token) {
  let client;
  try {
    client = await dial(carried(token, "authorization"));
  } catch (error) {
    expect(error.status === 401, `${error.message}, not status 401`);
    return;
  }
  client.drop();
  throw new Failed("the upgrade was accepted");
}

function unsigned(token) {
  const header = Buffer.from('{"alg":"none","typ":"JWT"}').toString("base64url");
  return `${header}.${token.split(".")[1]}.`;
}

function withForeignSignature(token, other) {
  const [header, payload] = token.split(".");
  return `${header}.${payload}.${other.split(".")[2]}`;
}

async function refusesExpired() {
  const { exp } = JSON.parse(Buffer.from(EXPIRED.split(".")[1], "base64url").toString());
  const wait = exp * 1000 + LEEWAY_MS + 1500 - Date.now();
  expect(wait < CHECK_MS / 2, `TRUNKLINE_TOKEN_EXPIRED holds for ${wait} ms more`);
  await sleep(Math.max(wait, 0));
  await refusedByClose(4200, { token: EXPIRED, carrier: "subprotocol" });
  await refusedByClose(4200, { helloToken: EXPIRED });
  await refusedByStatus(EXPIRED);
}

async function answersError(raw, code) {
  const client = await Client.open(ANN);
  client.socket.send(raw);
  const frame = await client.waitFor(({ type }) => type === "error" || type === "reply", "error");
  expect(frame.type === "error" && frame.code === code, `not an error ${code}: ${brief(frame)}`);
  expect(typeof frame.message === "string", `an error without a message: ${brief(frame)}`);
  await client.pong();
  await client.close();
}

async function answersReplyError(frame, code) {
  const client = await Client.open(ANN);
  const { ok, error } = await client.request(frame);
  expect(ok === false && error?.code === code, `not refused as ${code}: ${brief(error)}`);
  expect(typeof error.temporary === "boolean", `an error that does not say whether it is temporary: ${brief(error)}`);
  await client.pong();
  await client.close();
}

async function closesFor(data, expected) {
  const [witness, client] = [await Client.open(ANN), await Client.open(ANN)];
  client.socket.send(data);
  const { code } = await client.closed();
  expect(code === expected, `close code ${code}, not ${expected}`);
  await witness.pong();
  await witness.close();
}

function pingOfBytes(size) {
  const frame = JSON.stringify({ type: "ping", id: "big", pad: "" });
  return `${frame.slice(0, -2)}${"x".repeat(size - frame.length)}"}`;
}

async function largestMessage() {
  const client = await Client.open(ANN);
  client.socket.send(pingOfBytes(MESSAGE_BYTES));
  await client.waitFor(({ type, id }) => type === "pong" && id === "big", "pong");
  await client.close();
}

async function fragmentedMessage() {
  const client = await Client.open(ANN);
  client.socket.send('{"type":"pi', { fin: false });
  client.socket.ping("between");
  client.socket.send('ng","id":"frag', { fin: false });
  client.socket.send('ments"}', { fin: true });
  await client.waitFor(({ type, id }) => type === "pong" && id === "fragments", "pong");
  await client.until(() => client.pongs.includes("between") || undefined, "WebSocket pong");
  await client.close();
}

async function webSocketPing() {
  const client = await Client.open(ANN);
  for (const payload of ["", "are you there", "x".repeat(125)]) {
    client.socket.ping(payload);
    await client.until(() => client.pongs.includes(payload) || undefined, "WebSocket pong");
  }
  await client.close();
}

async function echoesClose(code) {
  const client = await Client.open(ANN);
  const answer = await client.close(code, "enough");
  expect(answer === code, `closed with ${code}, answered with ${answer}`);
}

const disagreeing = { token: ANN, carrier: "subprotocol", helloToken: BOB };
const early = { token: ANN, carrier: "subprotocol", first: { type: "ping", id: "early" } };
const foreignUser = { type: "user_message", thread_id: "t", content: "hi", user_id: "mallory" };
const CHECKS = [
  ["golden path, token in the subprotocol", () => goldenPath("subprotocol")],
  ["golden path, token in Authorization", () => goldenPath("authorization")],
  ["golden path, token in hello", () => goldenPath("hello")],
  ["seq rises by one and every field of an event is there", sequenceOfEvents],
  ["two devices of one user see the same", twoDevices],
  ["another user sees nothing of it", otherUser],
  ["a device that drops mid-run and resumes has every event once", dropAndResume],
  ["a device that had no event yet can resume", resumeWithoutEvents],
  ["no token: 4400", () => refusedByClose(4400)],
  ["garbage in the subprotocol: 4400", () => refusedByClose(4400, { token: "garbage", carrier: "subprotocol" })],
  ["garbage in hello: 4400", () => refusedByClose(4400, { helloToken: "garbage" })],
  ["garbage in Authorization: 401", () => refusedByStatus("garbage")],
  ["unsigned token: 4400", () => refusedByClose(4400, { token: unsigned(ANN), carrier: "subprotocol" })],
  ["unsigned token in Authorization: 401", () => refusedByStatus(unsigned(ANN))],
  ["another token's signature: 4400", () => refusedByClose(4400, { helloToken: withForeignSignature(ANN, BOB) })],
  ["two carriers that disagree: 4400", () => refusedByClose(4400, disagreeing)],
  ["a first frame that is no hello: 4400", () => refusedByClose(4400, early)],
  ["not JSON: malformed", () => answersError("not json", "malformed")],
  ["an array: malformed", () => answersError("[1]", "malformed")],
  ["a key twice: malformed", () => answersError('{"type":"ping","type":"ping"}', "malformed")],
  ["unknown type without id: error", () => answersError('{"type":"no_such_type"}', "unknown_type")],
  ["unknown type with id: reply", () => answersReplyError({ type: "no_such_type" }, "unknown_type")],
  ["another's user_id: identity_mismatch", () => answersReplyError(foreignUser, "identity_mismatch")],
  ["binary message: 1003", () => closesFor(Buffer.from([0, 1]), 1003)],
  ["message of 64 KiB is taken", largestMessage],
  ["message over 64 KiB: 1009", () => closesFor(pingOfBytes(MESSAGE_BYTES + 1), 1009)],
  ["message in fragments, a ping between, is taken", fragmentedMessage],
  ["WebSocket ping is answered", webSocketPing],
  ["close 1000 is echoed", () => echoesClose(1000)],
  ["close 1001 is echoed", () => echoesClose(1001)],
];

async function runCheck(name, check) {
  try {
    await within(CHECK_MS, check(), "end");
    console.log(`ok      ${name}`);
    return true;
  } catch (error) {
    console.log(`FAILED  ${name}: ${error instanceof Failed ? error.message : error}`);
    return false;
  }
}

const checks = [...CHECKS];
if (EXPIRED) checks.push(["expired token: 4200, in Authorization 401", refusesExpired]);
else console.log("skipped expired token: TRUNKLINE_TOKEN_EXPIRED is not set");
let passed = 0;
for (const [name, check] of checks) passed += (await runCheck(name, check)) ? 1 : 0;
console.log(`${passed} passed, ${checks.length - passed} failed`);
process.exit(passed === checks.length ? 0 : 1);
