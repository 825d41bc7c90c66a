// One connection of Node's `ws`, which verifies what it reads.

import { randomUUID } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import WebSocket from "ws";

const { TRUNKLINE_URL: URL } = process.env;

const STEP_MS = 10_000; // One frame, one close.
const QUIET_MS = 500; // How long nothing must come where nothing may.

export const QUESTION = "what is 2*(3+4)?";
export const RUN_EVENTS = new Set([
  "agent_started", "agent_thinking", "tool_executing", "tool_completed", "agent_delta", "agent_deltas",
  "agent_suspended", "agent_resumed", "agent_completed", "agent_failed", "agent_cancelled",
]);
const EVENTS = new Set([...RUN_EVENTS, "user_message", "custom"]);
export const TERMINAL = new Set(["agent_completed", "agent_failed", "agent_cancelled"]);

export class Failed extends Error {}
class TimedOut extends Error {}

export function expect(condition, message) {
  if (!condition) throw new Failed(message);
}

export function brief(frame) {
  const text = typeof frame === "string" ? frame : (JSON.stringify(frame) ?? "nothing");
  return text.length <= 200 ? text : `${text.slice(0, 200)}...`;
}

export async function within(ms, promise, what) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TimedOut(`no ${what} within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

function parsePosition(eventId) {
  const match = /^(\d+)-(\d+)$/.exec(eventId);
  expect(match, `event_id ${eventId} is not <epoch>-<seq>`);
  return { epoch: Number(match[1]), seq: Number(match[2]) };
}

export const spell = ({ epoch, seq }) => `${epoch}-${seq}`;

/** One connection that verifies every frame it reads, and keeps the events of the user's own stream. */
export class Client {
  events = [];
  setAside = [];
  #inbox = [];
  #wake = () => {};
  #closed;

  constructor(socket) {
    this.socket = socket;
    this.pongs = [];
    socket.on("message", (data, isBinary) => this.#arrive({ data, isBinary }));
    socket.on("pong", (data) => this.pongs.push(data.toString()) && this.#wake());
    socket.on("close", (code) => this.#arrive({ code }));
    socket.on("error", () => {}); // `close` follows, and says what a check needs.
  }

  /** Connects and reads the welcome. */
  static async open(token, { carrier = "subprotocol", resume } = {}) {
    const client = await dial(carried(token, carrier));
    const hello = { type: "hello", client: { name: "interop-node" } };
    if (carrier === "hello") hello.token = token;
    if (resume) hello.resume = { user: resume };
    client.send(hello);
    await client.readWelcome();
    return client;
  }

  #arrive(item) {
    if (item.code !== undefined) this.#closed = item.code;
    else this.#inbox.push(item);
    this.#wake();
  }

  /** Waits until `ready` gives something. */
  async until(ready, what, ms = STEP_MS) {
    const deadline = Date.now() + ms;
    for (;;) {
      const found = ready();
      if (found !== undefined) return found;
      await within(deadline - Date.now(), new Promise((resolve) => (this.#wake = resolve)), what);
    }
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  async readWelcome() {
    const frame = await this.readRaw();
    expect(frame.type === "welcome", `the first frame is ${brief(frame)}, not a welcome`);
    const fields = ["connection_id", "session_id", "user_id", "server_time", "expires_in", "heartbeat", "limits"];
    for (const field of [...fields, "service_level", "streams"]) expect(field in frame, `the welcome has no ${field}`);
    this.welcome = frame;
    this.stream = frame.streams.find(({ stream }) => stream === "user");
    expect(this.stream, "the welcome names no user stream");
    this.position = parsePosition(this.stream.event_id);
  }

  async readRaw(ms = STEP_MS) {
    const ready = () => this.#inbox.shift() ?? (this.#closed === undefined ? undefined : { code: this.#closed });
    const { data, isBinary, code } = await this.until(ready, "frame", ms);
    expect(code === undefined, `the connection closed with ${code}`);
    expect(!isBinary, "the server sent a binary message");
    const frame = JSON.parse(data.toString());
    expect(typeof frame?.type === "string", `no frame with a type: ${brief(data.toString())}`);
    return frame;
  }

  /** The next frame, its position verified. */
  async read(ms = STEP_MS) {
    const frame = await this.readRaw(ms);
    expect(frame.type !== "welcome", "a second welcome");
    if ("event_id" in frame && (frame.stream ?? "user") === "user") this.#follow(frame);
    return frame;
  }

  #follow(frame) {
    const { epoch, seq } = parsePosition(frame.event_id);
    if (frame.type === "snapshot") {
      if (frame.part === frame.of) this.position = { epoch, seq };
      return;
    }
    const prev = frame.prev ?? seq - 1;
    const follows = this.position.epoch === epoch && this.position.seq === prev;
    expect(follows, `at ${spell(this.position)}, a frame that follows ${epoch}-${prev}`);
    expect(seq > prev, `${frame.event_id} does not follow its prev ${prev}`);
    this.position = { epoch, seq };
    if (!EVENTS.has(frame.type)) return;
    expect(frame.seq === seq, `seq ${frame.seq} in ${frame.event_id}`);
    const owner = frame.user_id ?? this.welcome.user_id;
    expect(owner === this.welcome.user_id, `an event of ${owner}`);
    this.events.push(frame);
  }

  /** Reads what the welcome announced. */
  async caughtUp() {
    const head = parsePosition(this.stream.head);
    while (!isDeepStrictEqual(this.position, head)) {
      await this.read();
      expect(this.position.seq <= head.seq, `past ${spell(head)} without having been at it`);
    }
  }

  /** The first frame that matches, also among those read before; others are kept for later waits. */
  async waitFor(matches, what) {
    const at = this.setAside.findIndex(matches);
    if (at >= 0) return this.setAside.splice(at, 1)[0];
    const deadline = Date.now() + STEP_MS;
    for (;;) {
      expect(Date.now() < deadline, `no ${what} within ${STEP_MS / 1000} s`);
      const frame = await this.read(deadline - Date.now());
      if (matches(frame)) return frame;
      this.setAside.push(frame);
    }
  }

  /** Sends with an id of its own and waits for the reply. */
  async request(frame) {
    const id = `q-${randomUUID()}`;
    this.send({ ...frame, id });
    return this.waitFor((answer) => answer.type === "reply" && answer.id === id, "reply");
  }

  /** Sends a message, and returns its run. */
  async ask(content = QUESTION, thread = "t-node") {
    const reply = await this.request({ type: "user_message", thread_id: thread, content });
    expect(reply.ok === true && typeof reply.run_id === "string", `no run: ${brief(reply)}`);
    return reply.run_id;
  }

  /** Reads to the end of a run. */
  async readRun(runId) {
    if (!this.events.some((event) => isEnd(event, runId))) {
      await this.waitFor((frame) => isEnd(frame, runId), `end of run ${runId}`);
    }
    return this.eventsOf(runId);
  }

  /** The events of a run, and of merged text its pieces. */
  eventsOf(runId) {
    const events = [];
    for (const event of this.events) {
      if (event.type === "agent_deltas") {
        const parts = event.parts.filter((part) => part.run_id === runId);
        if (parts.length > 0) events.push({ ...event, parts });
      } else if (event.run_id === runId && RUN_EVENTS.has(event.type)) {
        events.push(event);
      }
    }
    return events;
  }

  async pong() {
    const id = `p-${randomUUID()}`;
    this.send({ type: "ping", id });
    await this.waitFor((frame) => frame.type === "pong" && frame.id === id, "pong");
  }

  /** Reads on for a while. */
  async quiet() {
    await this.pong();
    const deadline = Date.now() + QUIET_MS;
    try {
      while (Date.now() < deadline) this.setAside.push(await this.read(deadline - Date.now()));
    } catch (error) {
      if (!(error instanceof TimedOut)) throw error;
    }
  }

  /** Waits for the close, and returns its code and the types of the frames before it. */
  async closed() {
    const code = await this.until(() => this.#closed, "close");
    const types = this.#inbox.map(({ data }) => JSON.parse(data.toString()).type);
    expect(code !== 1006, "the connection ended without a close frame");
    return { code, types };
  }

  async close(code = 1000, reason = "") {
    this.socket.close(code, reason);
    return (await this.closed()).code;
  }

  /** Ends the TCP connection without a word. */
  drop() {
    this.socket.terminate();
  }
}

export const isEnd = (frame, runId) => TERMINAL.has(frame.type) && frame.run_id === runId;

/** Connects; a refusal by status is a `Failed` with that `status`. */
export async function dial({ protocols = ["trunkline.v1"], headers = {} }) {
  const socket = new WebSocket(URL, protocols, { headers, handshakeTimeout: STEP_MS, maxPayload: 2 ** 20 });
  const client = new Client(socket);
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
    socket.once("unexpected-response", (request, response) => {
      reject(Object.assign(new Failed(`status ${response.statusCode}`), { status: response.statusCode }));
      request.destroy();
    });
  });
  expect(socket.protocol === "trunkline.v1", `the server chose the subprotocol ${socket.protocol}`);
  return client;
}

/** What the upgrade carries. */
export function carried(token, carrier) {
  if (carrier === "subprotocol") return { protocols: ["trunkline.v1", `bearer.${token}`] };
  if (carrier === "authorization") return { headers: { Authorization: `Bearer ${token}` } };
  return {};
}
