// A client of the trunkline.v1 protocol, without dependencies, for browsers and for Node (inject a WebSocket there).
//
//   const line = connect({ url, getToken, position: "0-0", onState, onEvent });
//   const runId = await line.send("thread-1", "what is 2*(3+4)?");
//
// The client keeps its position in the log, so that a lost connection resumes where it broke: nothing twice, nothing missing.

const SUBPROTOCOL = "trunkline.v1";
const OWN_STREAM = "user";
/** The position in front of everything: a resume from here replays all that the server keeps. */
export const START = "0-0";

const WELCOME_DEADLINE_MS = 15_000;
const BACKOFF_BASE_MS = 500;
const BACKOFF_CAP_MS = 30_000;
/** The longest wait that a server may ask for. */
const MAX_ASKED_MS = 120_000;
/** "Later" is the back-off after this many failures. */
const LATER_ATTEMPT = 5;
const STABLE_MS = 10_000;
/** So many events, or a run's end, are worth an `ack`; and the least time between two of them. */
const ACK_EVENTS = 64;
const ACK_INTERVAL_MS = 5_000;
const RUN_ENDS = ["agent_completed", "agent_failed", "agent_cancelled"];
/** A new token is asked for by one's own clock at the latest when so much is left, or two fifths of a shorter life. */
const RENEW_AHEAD_MS = 45_000;
/** As long as there is none: again after half of what is left, within these. */
const RENEW_LONGEST_MS = 30_000;
const RENEW_SHORTEST_MS = 50;
/** The longest time that every platform's timer can wait: 2^31 - 1 ms, some 24 days. */
const LONGEST_TIMER_MS = 2_147_483_647;
const DEFAULT_HEARTBEAT = { interval: 25, timeout: 10 };
const TOKEN_REVOKED = 4201;
/** The code of a close that this client starts because the stream is not what it must be. */
const FAULT_CODE = 4000;

/** The stream broke its contract: a hole, another epoch, a frame that is none. The answer is to close and to resume. */
export class StreamFault extends Error {
  name = "StreamFault";
}

/** A request that the server refused, or that can no longer be sent. `temporary` says whether the same may succeed later. */
export class RequestError extends Error {
  name = "RequestError";

  constructor({ code = "unknown", message, temporary = false, retry_after: retryAfter = null }) {
    super(message || code);
    Object.assign(this, { code, temporary, retryAfter });
  }
}

/** Opens a connection and keeps it open until `close()`. See `Trunkline` for the options. */
export function connect(options) {
  const client = new Trunkline(options);
  client.start();
  return client;
}

export class Trunkline {
  #options;
  #clock;
  #random;
  #WebSocket;
  #socket = null;
  #generation = 0;
  #timers = new Map();
  #state = "offline";
  #token;
  #sessionId;
  #positions = new Map();
  #heads = new Map();
  #pending = new Map();
  #nextId = 1;
  #attempt = 0;
  #heartbeat = DEFAULT_HEARTBEAT;
  #messageBytes = Infinity;
  #reconnectAfter = null;
  #faultedAt = null;
  #snapshotAhead = false;
  /** When the token expires, on the clock of `now`, and whether that was asked about already. */
  #expires = Infinity;
  #renewing = false;
  /** What `getToken` is being waited for, on whatever socket, and the `refresh` that is under way on this one. */
  #fetching = null;
  #refreshing = null;
  /** What the server knows this client to have, and since when. */
  #told = null;
  #toldAt = -Infinity;

  /**
   * - `url`: of the endpoint, `ws:` or `wss:`
   * - `token`, or `getToken()`: a promise of a token. `null` means that there is none to be had, and the client stops;
   *   a rejection means "not now", and it tries again. It is called ahead of a token's expiry, too, and again while the token lives
   *   and none has come; there `null` means "not now". It is never called while it is still being waited for.
   * - `position`: an event id to resume from; `START` for everything kept; absent for what comes from now on
   * - `threads`: ids of the conversations to watch, at most 100; absent or empty for all
   * - `onState({state, reason, code, retryAt})`: `connecting`, `live`, `offline` (`retryAt` on the clock of `now`), `stopped`
   * - `onEvent(event)`: every event once, in order. It may throw `StreamFault`; the position then stays in front of the event.
   * - `onReset({lost, afresh})`: the server could not continue from the position. `afresh`: drop what was built so far.
   * - `onSnapshot(frame)`: the runs that are open where the stream continues, for `restoreRun`; `onReset` came before it.
   * - `onNotice(frame)` (`error`, `lag`, `service_level`, `going_away`), `onWelcome(frame)`
   * - `WebSocket`, `setTimeout`, `clearTimeout`, `now`, `random`: stand-ins for those of the platform
   */
  constructor(options) {
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#random = options.random ?? Math.random;
    this.#clock = {
      set: options.setTimeout ?? ((run, ms) => globalThis.setTimeout(run, ms)),
      clear: options.clearTimeout ?? ((id) => globalThis.clearTimeout(id)),
      now: options.now ?? (() => Date.now()),
    };
    this.#token = options.token;
    if (options.position) this.#positions.set(OWN_STREAM, parsePosition(options.position));
  }

  get state() {
    return this.#state;
  }

  get sessionId() {
    return this.#sessionId;
  }

  /** The event id up to which everything was delivered, or `null`. */
  get position() {
    const position = this.#positions.get(OWN_STREAM);
    return position ? formatPosition(position) : null;
  }

  /** Whether everything that was in the log at the time of the welcome was delivered. */
  get caughtUp() {
    const position = this.#positions.get(OWN_STREAM);
    const head = this.#heads.get(OWN_STREAM);
    return this.#state === "live" && (!head || (position?.epoch === head.epoch && position.seq >= head.seq));
  }

  start() {
    if (this.#socket === null && this.#state === "offline") this.#open();
  }

  /** Tries at once instead of at the end of the back-off, as when the network comes back. */
  retryNow() {
    if (this.#state === "offline") this.#open();
  }

  /**
   * Sends a message and resolves to the id of its run. It survives reconnects: the key makes a second arrival the same message.
   * Whoever repeats a message after an error passes the key of the first try.
   */
  async send(threadId, content, { key = newKey(), metadata } = {}) {
    const reply = await this.#request({ type: "user_message", key, thread_id: threadId, content, metadata });
    return reply.run_id;
  }

  /** Asks for the end of a run; resolves when the server took the wish. The outcome comes as an event. */
  async cancel(runId) {
    await this.#request({ type: "cancel_run", run_id: runId });
  }

  /**
   * Decides what a run waits for; resolves when this decision counts. A `RequestError` with the code `already_decided` says
   * that another came first, or that this one did and its answer was lost with a connection.
   */
  async approve(approvalId, decision, data) {
    await this.#request({ type: "approve", approval_id: approvalId, decision, data });
  }

  /** Ends everything for good. */
  close() {
    this.#stop({ reason: "closed", code: 1000 });
  }

  // --- connecting

  async #open() {
    this.#clearTimers();
    const generation = ++this.#generation;
    this.#setState({ state: "connecting" });
    let token;
    try {
      token = this.#token ?? (await this.#fetchToken());
    } catch {
      if (generation === this.#generation) this.#retry({ reason: "token_unavailable" });
      return;
    }
    if (generation !== this.#generation) return;
    if (!token) return this.#stop({ reason: "no_token" });
    this.#token = token;
    try {
      this.#attach(new this.#WebSocket(this.#options.url, [SUBPROTOCOL, `bearer.${token}`]));
    } catch {
      // The platform refuses an address or a token that cannot stand in a header; trying again would not change that.
      this.#stop({ reason: "unusable_token" });
    }
  }

  #attach(socket) {
    this.#socket = socket;
    const ours = (handle) => (event) => {
      if (this.#socket === socket) handle(event);
    };
    socket.onopen = ours(() => this.#sayHello());
    socket.onmessage = ours((event) => this.#receive(event.data));
    socket.onclose = ours((event) => this.#closed(event.code, event.reason));
    // A close always follows, and it says more.
    socket.onerror = () => {};
    this.#arm("welcome", WELCOME_DEADLINE_MS, () => this.#abandon("no_answer"));
  }

  #sayHello() {
    const hello = { type: "hello", client: { name: "trunkline.js", version: "1" } };
    if (this.#sessionId) hello.session_id = this.#sessionId;
    if (this.#options.threads) hello.threads = this.#options.threads;
    if (this.#positions.size > 0) {
      hello.resume = Object.fromEntries([...this.#positions].map(([stream, at]) => [stream, formatPosition(at)]));
    }
    this.#write(hello);
  }

  /** Leaves a socket behind without waiting for its close, which on a dead network takes minutes. */
  #abandon(reason, code = FAULT_CODE) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(code, reason);
    this.#closed(code, reason);
  }

  #closed(code, reason) {
    this.#socket = null;
    this.#refreshing = null;
    this.#clearTimers();
    const why = { reason: reason || closeName(code), code };
    switch (nextAction(code)) {
      case "stop":
        return this.#stop(why);
      case "token":
        // A session that is revoked lets nobody in, whatever the token.
        if (code === TOKEN_REVOKED) this.#sessionId = undefined;
        return this.#renew(why);
      case "afresh":
        this.#positions = new Map([[OWN_STREAM, parsePosition(START)]]);
        return this.#retry(why);
      case "later":
        this.#attempt = Math.max(this.#attempt, LATER_ATTEMPT);
        return this.#retry(why);
      default:
        return this.#retry(why);
    }
  }

  #renew(why) {
    this.#token = undefined;
    if (!this.#options.getToken) return this.#stop(why);
    if (this.#attempt > 0) return this.#retry(why);
    // The first new token is worth no wait; a server that refuses new ones too meets the back-off.
    this.#attempt = 1;
    this.#open();
  }

  #retry(why) {
    const backoff = this.#random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.#attempt);
    // A server that goes away has drawn the jitter itself.
    const delay = Math.min(this.#reconnectAfter ?? backoff, MAX_ASKED_MS);
    this.#reconnectAfter = null;
    this.#attempt += 1;
    this.#setState({ state: "offline", ...why, retryAt: this.#clock.now() + delay });
    if (this.#state === "offline") this.#arm("retry", delay, () => this.#open());
  }

  #stop(why) {
    if (this.#state === "stopped") return;
    this.#generation += 1;
    this.#clearTimers();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000, "");
    this.#setState({ state: "stopped", ...why });
    const error = new RequestError({ code: "stopped", message: `stopped: ${why.reason}` });
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  // --- receiving

  #receive(data) {
    const socket = this.#socket;
    try {
      this.#dispatch(parseFrame(data));
    } catch (error) {
      if (!(error instanceof StreamFault)) throw error;
      if (this.#socket === socket) this.#fault(error);
    }
  }

  /** Closes and resumes; a second fault at the same place starts from the beginning, or it would be met for ever. */
  #fault(error) {
    const at = this.position;
    if (this.#faultedAt === at) this.#positions.set(OWN_STREAM, parsePosition(START));
    this.#faultedAt = at;
    this.#abandon(error.message.slice(0, 100));
  }

  #dispatch(frame) {
    if (this.#state !== "live") {
      if (frame.type !== "welcome") throw new StreamFault("a frame before the welcome");
      return this.#welcome(frame);
    }
    this.#heard();
    switch (frame.type) {
      case "reply":
        return this.#settle(frame);
      case "pong":
        return undefined;
      case "snapshot":
        return this.#snapshot(frame);
      case "position":
        return this.#advance(frame, () => {});
      case "auth_expiring":
        return this.#announced(seconds(frame.expires_in, 0));
      case "going_away":
        this.#reconnectAfter = seconds(frame.reconnect_after, null);
        return this.#options.onNotice?.(frame);
      case "error":
      case "lag":
      case "service_level":
        return this.#options.onNotice?.(frame);
      default:
        return this.#advance(frame, () => this.#options.onEvent?.(frame));
    }
  }

  #welcome(frame) {
    this.#disarm("welcome");
    this.#sessionId = frame.session_id ?? this.#sessionId;
    this.#heartbeat = { ...DEFAULT_HEARTBEAT, ...frame.heartbeat };
    this.#messageBytes = frame.limits?.message_bytes ?? Infinity;
    this.#reconnectAfter = null;
    this.#arm("stable", STABLE_MS, () => (this.#attempt = 0));
    this.#options.onWelcome?.(frame);
    this.#installed(seconds(frame.expires_in, Infinity));
    for (const entry of frame.streams ?? []) this.#place(entry);
    this.#setState({ state: "live" });
    // A listener may have closed the client.
    if (this.#state !== "live") return;
    this.#heard();
    for (const waiting of [...this.#pending.values()]) this.#transmit(waiting);
  }

  /** Takes a stream's place from the welcome; a snapshot moves the position only once it is here whole. */
  #place({ stream, event_id: eventId, head, mode, lost }) {
    const mine = this.#positions.get(stream);
    const theirs = parsePosition(eventId);
    if (head) this.#heads.set(stream, parsePosition(head));
    if (stream === OWN_STREAM) this.#told = theirs;
    if (mode === "snapshot") {
      this.#snapshotAhead = stream === OWN_STREAM;
      if (this.#snapshotAhead) this.#options.onReset?.({ lost: lost ?? null, afresh: true });
      return;
    }
    this.#positions.set(stream, theirs);
    if (stream !== OWN_STREAM || (mode !== "reset" && !lost)) return;
    // What was shown up to the place where the loss begins is still true.
    const continues = mine && mine.seq > 0 && mine.epoch === theirs.epoch && lost?.from === formatPosition(mine);
    this.#options.onReset?.({ lost: lost ?? null, afresh: !continues });
  }

  /** One that no welcome announced comes to a reader who fell out of the log, and says what is lost. */
  #snapshot(frame) {
    const first = (frame.part ?? 1) === 1;
    const own = (frame.stream ?? OWN_STREAM) === OWN_STREAM;
    if (own && first && !this.#snapshotAhead && this.position) {
      this.#options.onReset?.({ lost: frame.lost ?? { from: this.position, to: frame.event_id }, afresh: true });
    }
    if (own && first) this.#snapshotAhead = false;
    this.#options.onSnapshot?.(frame);
    const last = (frame.part ?? 1) >= (frame.of ?? 1);
    if (!last) return;
    this.#positions.set(frame.stream ?? OWN_STREAM, parsePosition(frame.event_id));
    this.#acknowledge(false);
  }

  /** Hands a frame on if it follows the position, and moves the position only once it was taken. */
  #advance(frame, deliver) {
    if (frame.event_id == null) return deliver();
    const stream = frame.stream ?? OWN_STREAM;
    const next = checkFollows(this.#positions.get(stream), frame);
    try {
      deliver();
    } catch (error) {
      if (error instanceof StreamFault) throw error;
      // A listener's own mistake is said, but does not hold up the stream.
      queueMicrotask(() => {
        throw error;
      });
    }
    this.#positions.set(stream, next);
    if (stream === OWN_STREAM) this.#acknowledge(RUN_ENDS.includes(frame.type));
    return undefined;
  }

  /** Tells the server how far this client is, seldom: nothing but the server's memory rests on it. */
  #acknowledge(runEnded) {
    const at = this.#positions.get(OWN_STREAM);
    // A listener may have closed the client.
    if (this.#state !== "live" || !at || this.#timers.has("ack")) return;
    const told = this.#told?.epoch === at.epoch ? this.#told.seq : 0;
    if (!runEnded && at.seq - told < ACK_EVENTS) return;
    const wait = Math.min(this.#toldAt + ACK_INTERVAL_MS - this.#clock.now(), ACK_INTERVAL_MS);
    if (wait > 0) this.#arm("ack", wait, () => this.#tell());
    else this.#tell();
  }

  #tell() {
    this.#told = this.#positions.get(OWN_STREAM);
    this.#toldAt = this.#clock.now();
    this.#write({ type: "ack", event_id: formatPosition(this.#told) });
  }

  #settle(frame) {
    if (frame.id === this.#refreshing?.id) {
      // One that is refused is not worth a connection either.
      if (!frame.ok) this.#token = this.#refreshing.before;
      this.#refreshing = null;
      if (frame.ok) this.#refreshed(seconds(frame.expires_in, Infinity));
      return;
    }
    const waiting = this.#pending.get(frame.id);
    if (!waiting) return;
    this.#pending.delete(frame.id);
    if (frame.ok) waiting.resolve(frame);
    else waiting.reject(new RequestError(frame.error ?? {}));
  }

  // --- sending

  #request(frame) {
    if (this.#state === "stopped") return Promise.reject(new RequestError({ code: "stopped" }));
    return new Promise((resolve, reject) => {
      const whole = { ...frame, id: `c${this.#nextId++}` };
      const waiting = { frame: whole, resolve, reject };
      this.#pending.set(whole.id, waiting);
      if (this.#state === "live") this.#transmit(waiting);
    });
  }

  /** A frame over the server's limit would end the connection, so it is refused here. */
  #transmit({ frame, reject }) {
    const bytes = new TextEncoder().encode(JSON.stringify(frame)).length;
    if (bytes <= this.#messageBytes) return this.#write(frame);
    this.#pending.delete(frame.id);
    return reject(new RequestError({ code: "too_big", message: `${bytes} bytes; the limit is ${this.#messageBytes}` }));
  }

  // --- a new token ahead of the end of the one in use

  /** The server has taken a token: whatever failed before is forgotten. */
  #installed(life) {
    this.#expires = this.#clock.now() + life;
    this.#renewing = false;
    this.#renewIn(life - Math.min(0.4 * life, RENEW_AHEAD_MS));
  }

  /** With the same token once more nothing has changed, and the next try stays where it is. */
  #refreshed(life) {
    const lastsLonger = this.#clock.now() + life > this.#expires + RENEW_SHORTEST_MS;
    if (life >= RENEW_SHORTEST_MS && lastsLonger) this.#installed(life);
  }

  #announced(left) {
    if (this.#renewing) return;
    this.#expires = this.#clock.now() + left;
    this.#askForToken();
  }

  #renewIn(ms) {
    if (!this.#options.getToken || !Number.isFinite(ms)) return this.#disarm("renew");
    const wait = Math.min(ms, LONGEST_TIMER_MS);
    return this.#arm("renew", wait, () => (wait < ms ? this.#renewIn(ms - wait) : this.#askForToken()));
  }

  /** Tries, and sees to the next try, which no answer has to wait for; the close by `token_expired` asks once more. */
  #askForToken() {
    const left = this.#expires - this.#clock.now();
    const wait = Math.min(left / 2, RENEW_LONGEST_MS);
    this.#renewing = true;
    if (wait >= RENEW_SHORTEST_MS) this.#renewIn(wait);
    else this.#disarm("renew");
    // One that was not answered until now is not waited for.
    this.#refreshing = null;
    this.#refresh();
  }

  async #refresh() {
    if (this.#fetching || !this.#options.getToken) return;
    const socket = this.#socket;
    try {
      const token = await this.#fetchToken();
      if (!token || this.#state === "stopped") return;
      const before = this.#token;
      // Good for the next socket where this one is gone.
      this.#token = token;
      if (this.#socket !== socket || this.#state !== "live") return;
      this.#refreshing = { id: `c${this.#nextId++}`, before };
      this.#write({ type: "refresh", id: this.#refreshing.id, token });
    } catch {
      // Not now; the token in use still holds.
    }
  }

  /** One call at a time: who asks meanwhile gets the same answer. */
  #fetchToken() {
    this.#fetching ??= Promise.resolve(this.#options.getToken?.()).finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  #write(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  // --- time

  /** A browser shows no WebSocket pings, so a quiet line is asked once before it is given up. */
  #heard() {
    const { interval, timeout } = this.#heartbeat;
    this.#arm("alive", seconds(interval + timeout, 35_000), () => {
      this.#write({ type: "ping" });
      this.#arm("alive", seconds(timeout, 10_000), () => this.#abandon("heartbeat_timeout"));
    });
  }

  #arm(name, ms, run) {
    this.#disarm(name);
    const fire = () => {
      this.#timers.delete(name);
      run();
    };
    this.#timers.set(name, this.#clock.set(fire, ms));
  }

  #disarm(name) {
    if (this.#timers.has(name)) this.#clock.clear(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #clearTimers() {
    for (const name of [...this.#timers.keys()]) this.#disarm(name);
  }

  #setState(change) {
    this.#state = change.state;
    this.#options.onState?.({ reason: null, code: null, retryAt: null, ...change });
  }
}

/** What a close code asks of a client: its range says so. */
export function nextAction(code) {
  if (code >= 4100 && code < 4200) return "later";
  if (code >= 4200 && code < 4300) return "token";
  if (code >= 4300 && code < 4400) return "afresh";
  if (code >= 4400 && code < 4500) return "stop";
  return [1000, 1002, 1003, 1007, 1009].includes(code) ? "stop" : "retry";
}

function closeName(code) {
  return { 1006: "connection_lost", 1001: "going_away", 1012: "service_restart" }[code] ?? `closed_${code}`;
}

/** An event id `<epoch>-<seq>`. The epoch stays text: it may exceed 2^53, and is only ever compared for equality. */
export function parsePosition(text) {
  const match = /^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,15})$/.exec(text);
  const seq = Number(match?.[2]);
  if (!match || !Number.isSafeInteger(seq)) throw new StreamFault("not a position");
  return { epoch: match[1], seq };
}

export function formatPosition({ epoch, seq }) {
  return `${epoch}-${seq}`;
}

/** The position after a frame that covers `(prev, seq]`, if it follows the given one. */
export function checkFollows(position, frame) {
  const next = parsePosition(frame.event_id);
  if (frame.seq != null && frame.seq !== next.seq) throw new StreamFault("seq and event_id differ");
  if (!position) return next;
  if (next.epoch !== position.epoch) throw new StreamFault("another epoch");
  const prev = frame.prev ?? next.seq - 1;
  if (prev !== position.seq || next.seq <= prev) throw new StreamFault(`expected ${position.seq + 1}, got ${prev + 1}`);
  return next;
}

function parseFrame(data) {
  let frame;
  try {
    frame = JSON.parse(data);
  } catch {
    throw new StreamFault("not JSON");
  }
  if (typeof frame?.type !== "string") throw new StreamFault("not a frame");
  return frame;
}

function seconds(value, otherwise) {
  return Number.isFinite(value) && value >= 0 ? value * 1000 : otherwise;
}

/** 128 random bits. `randomUUID` would need a secure context, which a page over plain HTTP does not have. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- the state of a run, built from its events

/** The runs that an event speaks of. */
export function runIdsOf(event) {
  if (event.type === "agent_deltas") return [...new Set(event.parts.map((part) => part.run_id))];
  return event.run_id ? [event.run_id] : [];
}

/** A run that the reader knows only in part: from here on a hole in its text is a loss to show, not a fault. */
export function markGap(run) {
  return run.terminal ? run : { ...run, partial: true };
}

function newRun(runId, event) {
  return {
    runId,
    threadId: event.thread_id ?? null,
    agentName: event.agent_name ?? null,
    parentRunId: null,
    status: "pending",
    partial: !["agent_started", "user_message"].includes(event.type),
    steps: [],
    thoughts: [],
    tools: [],
    parts: [],
    approval: null,
    terminal: null,
  };
}

/**
 * The run after an event; pure. `runId` is needed only for a first event that is `agent_deltas`, which speaks of several runs.
 *
 * `status` is `pending`, `running`, `suspended`, `completed`, `failed` or `cancelled`; `steps` is the order in which
 * `thoughts` and `tools` came, as `[kind, index]`; `parts` holds the streamed text. Throws `StreamFault` at a hole in it.
 */
export function reduceRun(run, event, runId = run?.runId ?? event.run_id) {
  const before = run ?? newRun(runId, event);
  if (before.terminal) return before;
  const reduce = Object.hasOwn(REDUCERS, event.type) ? REDUCERS[event.type] : null;
  if (!reduce) return before;
  const named = { ...before, agentName: event.agent_name ?? before.agentName, threadId: event.thread_id ?? before.threadId };
  return { ...named, ...reduce(named, event) };
}

/** The run after one of its pieces in a snapshot; pure. Its beginning may be missing, so a hole in its text is no fault. */
export function restoreRun(run, piece) {
  const before = run ?? newRun(piece.run_id, { type: "snapshot" });
  const events = [
    ...(piece.thoughts ?? []).map((thought) => ({ type: "agent_thinking", thought })),
    ...(piece.tools ?? []).flatMap((tool) => {
      // A large call comes in two pieces: the second one is no other call.
      const known = before.tools.some((other) => other.toolCallId === tool.tool_call_id);
      const opened = known ? [] : [{ ...tool, type: "tool_executing" }];
      return tool.success == null ? opened : [...opened, { ...tool, type: "tool_completed" }];
    }),
    ...(piece.parts ?? []).map((part) => ({ ...part, type: "agent_delta" })),
  ];
  const head = { thread_id: piece.thread_id, agent_name: piece.agent_name };
  const after = events.reduce((state, event) => reduceRun(state, { ...head, ...event }), before);
  return {
    ...after,
    threadId: piece.thread_id ?? after.threadId,
    agentName: piece.agent_name ?? after.agentName,
    parentRunId: piece.parent_run_id ?? after.parentRunId,
    status: piece.status,
    approval: piece.approval_id ? { approvalId: piece.approval_id, question: piece.question ?? null } : after.approval,
  };
}

const REDUCERS = {
  agent_started: (run, event) => ({ status: "running", parentRunId: event.parent_run_id ?? null }),
  agent_thinking: (run, event) => ({
    status: working(run),
    steps: [...run.steps, ["thought", run.thoughts.length]],
    thoughts: [...run.thoughts, { thought: event.thought, step: event.step ?? null, progress: event.progress ?? null }],
  }),
  tool_executing: (run, event) => ({
    status: working(run),
    steps: [...run.steps, ["tool", run.tools.length]],
    tools: [...run.tools, newTool(event)],
  }),
  tool_completed: completeTool,
  agent_delta: (run, event) => ({ status: working(run), parts: applyDelta(run, run.parts, event) }),
  agent_deltas: (run, event) => ({
    status: working(run),
    parts: event.parts.filter((part) => part.run_id === run.runId).reduce((parts, part) => applyDelta(run, parts, part), run.parts),
  }),
  agent_suspended: (run, event) => ({
    status: "suspended",
    approval: { approvalId: event.approval_id, question: event.question ?? null },
  }),
  agent_resumed: () => ({ status: "running", approval: null }),
  agent_completed: (run, event) => end(run, "completed", event),
  agent_failed: (run, event) => end(run, "failed", event),
  agent_cancelled: (run, event) => end(run, "cancelled", event),
};

/** A run that waits goes on by `agent_resumed` alone, whatever comes meanwhile. */
function working({ status }) {
  return status === "suspended" ? status : "running";
}

function newTool(event) {
  return {
    toolCallId: event.tool_call_id,
    name: event.tool_name,
    parameters: event.parameters ?? undefined,
    results: undefined,
    success: null,
    error: null,
    durationMs: null,
  };
}

function completeTool(run, event) {
  const at = run.tools.findIndex((tool) => tool.toolCallId === event.tool_call_id);
  const done = {
    ...(at < 0 ? newTool(event) : run.tools[at]),
    results: event.results,
    success: event.success,
    error: event.error ?? null,
    durationMs: event.duration_ms ?? null,
  };
  if (at >= 0) return { tools: run.tools.map((tool, i) => (i === at ? done : tool)) };
  return { steps: [...run.steps, ["tool", run.tools.length]], tools: [...run.tools, done] };
}

/** Offsets count Unicode scalar values. What is already there is dropped; what would leave a hole is a fault. */
function applyDelta(run, parts, { part_id: partId, offset, text }) {
  const at = parts.findIndex((part) => part.partId === partId);
  const part = at < 0 ? { partId, text: "", end: 0, lost: 0 } : parts[at];
  const hole = offset - part.end;
  if (hole > 0 && !run.partial) throw new StreamFault(`a hole in the text: ${part.end} to ${offset}`);
  const scalars = Array.from(text);
  const fresh = hole >= 0 ? text : scalars.slice(-hole).join("");
  const grown = {
    partId,
    text: part.text + (hole > 0 ? "…" : "") + fresh,
    end: Math.max(part.end, offset + scalars.length),
    lost: part.lost + Math.max(0, hole),
  };
  return at < 0 ? [...parts, grown] : parts.map((other, i) => (i === at ? grown : other));
}

/** A terminal event; tools still open end with it. */
function end(run, status, event) {
  return {
    status,
    approval: null,
    tools: run.tools.map((tool) => (tool.success === null ? { ...tool, success: false, error: `the run ${status}` } : tool)),
    terminal: {
      finalResponse: event.final_response ?? null,
      result: event.result ?? null,
      durationMs: event.duration_ms ?? null,
      reason: event.reason ?? null,
      error: event.error ?? null,
      by: event.by ?? null,
    },
  };
}
