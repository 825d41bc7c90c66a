// A client of the trunkline.v1 protocol, without dependencies, for browsers and for Node: 22, or 20 with the WebSocket of a package.
//
//   const line = connect({ url, getToken, position: "0-0", onState, onEvent });
//   const runId = await line.send("thread-1", "what is 2*(3+4)?");
//
//   for await (const event of line.events()) show(event);
//
// The client keeps its position in the log, so that a lost connection resumes where it broke: nothing twice, nothing missing.

import { Listeners, iterate, report } from "./trunkline-events.js";
import { Acks, OWN_STREAM, Places, Subscriptions } from "./trunkline-places.js";
import { Requests, newKey } from "./trunkline-requests.js";
import { RequestError, StreamFault, closeName, closeText, formatPosition, nextAction, parseFrame } from "./trunkline-stream.js";
import { Backoff, Timers, seconds } from "./trunkline-time.js";
import { Tokens } from "./trunkline-tokens.js";

export { START } from "./trunkline-places.js";
export { newKey } from "./trunkline-requests.js";
export { RequestError, StreamFault, checkFollows, closeName, formatPosition, nextAction, parsePosition } from "./trunkline-stream.js";
export { markGap, reduceRun, restoreRun, runIdsOf } from "./trunkline-run.js";

const WELCOME_DEADLINE_MS = 15_000;
const STABLE_MS = 10_000;
const RUN_ENDS = ["agent_completed", "agent_failed", "agent_cancelled"];
const DEFAULT_HEARTBEAT = { interval: 25, timeout: 10 };
const TOKEN_REVOKED = 4201;
/** Who may refuse what it is given. */
const MAY_REFUSE = ["event", "snapshot"];
const HEARD = ["state", "event", "reset", "snapshot", "notice", "welcome", "topic"];
/** The code of a close that this client starts because the stream is not what it must be. */
const FAULT_CODE = 4000;

/** Opens a connection and keeps it open until `close()`. See `Trunkline` for the options. */
export function connect(options) {
  const client = new Trunkline(options);
  client.start();
  return client;
}

export class Trunkline {
  #options;
  #clock;
  #WebSocket;
  #socket = null;
  #generation = 0;
  #state = "offline";
  #sessionId;
  #listeners = new Listeners(HEARD);
  #timers;
  #tokens;
  #places;
  #requests;
  #subscriptions;
  #acks;
  /** The server says that this client is behind. */
  #lags = false;
  #backoff;
  #heartbeat = DEFAULT_HEARTBEAT;
  /** Changes of the state that somebody has yet to hear of. */
  #changes = [];
  /** Letters of the frame that is being looked at. */
  #letters = 0;

  /**
   * - `url`: of the endpoint, `ws:` or `wss:`
   * - `token`, or `getToken()`: a promise of a token. `null` means that there is none to be had, and the client stops;
   *   a rejection means "not now", and it tries again. It is called ahead of a token's expiry, too, and again while the token lives
   *   and none has come; there `null` means "not now". It is never called while it is still being waited for, which ends after 20 s:
   *   that is "not now" as well, the next try asks again, and what comes later counts no more.
   * - `getTicket()`, in the place of both: a promise of a one-time ticket, which is asked for ahead of every connection. `null`, a
   *   rejection and 20 s without an answer mean the same as there.
   * - `position`: an event id to resume from; `START` for everything kept; absent for what comes from now on
   * - `threads`: ids of the conversations to watch, at most 100; absent or empty for all
   * - `topics`: names of topics to follow from the start, at most 100
   * - `onState({state, reason, code, retryAt})`: `connecting`, `live`, `lagging` (live, and behind: texts come merged), `offline`
   *   (`retryAt` on the clock of `now`), `stopped`
   * - `onEvent(event)`: every event once, in order, but where `onReset` or `onTopic` says otherwise. It may throw `StreamFault`; the
   *   position then stays in front of the event.
   * - `onReset({lost, afresh})`: the server could not continue from the position. `afresh`: drop what was built so far.
   * - `onSnapshot(frame)`: the runs that are open where the stream continues, for `restoreRun`; `onReset` came before it. It may throw
   *   `StreamFault` as well.
   * - `onNotice(frame)` (`error`, `lag`, `service_level`, `going_away`), `onWelcome(frame)`
   * - `onTopic({topic, lost, afresh})`: a topic is followed; `lost` says what of it is gone, and `afresh` that what was built of it is to be
   *   dropped. Or `{topic, left: true}`: the server does not let this token follow it, as far as a welcome has told.
   * - `WebSocket`, `setTimeout`, `clearTimeout`, `now`, `random`: stand-ins for those of the platform
   */
  constructor(options) {
    this.#options = options;
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this.#clock = {
      set: options.setTimeout ?? ((run, ms) => globalThis.setTimeout(run, ms)),
      clear: options.clearTimeout ?? ((id) => globalThis.clearTimeout(id)),
      now: options.now ?? (() => Date.now()),
    };
    this.#backoff = new Backoff(this.#clock, options.random ?? Math.random);
    const write = (frame) => this.#write(frame);
    this.#timers = new Timers(this.#clock);
    this.#requests = new Requests(this.#clock, (text) => this.#socket?.send(text));
    this.#tokens = new Tokens(options, this.#clock, this.#timers, {
      current: () => (this.#state === "live" ? this.#socket : null),
      newId: () => this.#requests.newId(),
      write,
    });
    this.#places = new Places(options, (name, value) => this.#tell(name, value));
    this.#subscriptions = new Subscriptions(this.#places, this.#requests);
    this.#acks = new Acks(this.#clock, this.#timers, this.#places, write);
  }

  get state() {
    return this.#state === "live" && this.#lags ? "lagging" : this.#state;
  }

  get sessionId() {
    return this.#sessionId;
  }

  /** The event id up to which everything was delivered, or `null`. */
  get position() {
    const { own } = this.#places;
    return own ? formatPosition(own) : null;
  }

  /** Whether everything that was in the log at the time of the welcome was delivered. */
  get caughtUp() {
    return this.#state === "live" && this.#places.caughtUp;
  }

  start() {
    if (this.#socket === null && this.#state === "offline") this.#open();
  }

  /** Tries at once instead of at the end of the wait, also where the server asked for it: for a person who wants so. */
  retryNow() {
    if (this.#state === "offline") this.#open();
  }

  /** The same by itself, as when the network is back or the page is seen again: not before the time that a server has asked for. */
  wake() {
    if (!this.#backoff.isTooEarly) this.retryNow();
  }

  /**
   * Sends a message and resolves to the id of its run. It survives reconnects: the key makes a second arrival the same message, as long
   * as the server knows it, which is ten minutes. Whoever repeats a message after an error passes the key of the first try.
   */
  async send(threadId, content, { key = newKey(), metadata } = {}) {
    const reply = await this.#request({ type: "user_message", key, thread_id: threadId, content, metadata });
    return reply.run_id;
  }

  /** Asks for the end of a run; resolves to what has become of it. Where that is `requested`, the outcome comes as an event. */
  async cancel(runId) {
    return (await this.#request({ type: "cancel_run", run_id: runId })).state;
  }

  /**
   * Decides what a run waits for; resolves when this decision counts. A `RequestError` with the code `already_decided` says
   * that another came first, or that this one did and its answer was lost with a connection.
   */
  async approve(approvalId, decision, data) {
    await this.#request({ type: "approve", approval_id: approvalId, decision, data });
  }

  /** Asks the application for something of its own; resolves to its answer. It survives reconnects as a message does. */
  async command(name, args, { key = newKey() } = {}) {
    const reply = await this.#request({ type: "command", name, args, key });
    return reply.result ?? null;
  }

  /**
   * Follows a topic from a position, or from its end; resolves once the server lets it, and at once for a topic that is followed already.
   * From then on its events come like one's own, with `stream` set to `topic:<name>`, also over the next connections.
   */
  async subscribe(topic, { position } = {}) {
    if (this.#places.topics.includes(topic)) return;
    if (this.#state === "stopped") throw new RequestError({ code: "stopped" });
    await this.#subscriptions.ask(topic, position);
  }

  /** Leaves a topic at once: nothing of it comes any more. */
  async unsubscribe(topic) {
    if (!this.#subscriptions.leave(topic, this.#state === "live")) return;
    try {
      await this.#requests.ask({ type: "unsubscribe", topic }, { passing: true }).promise;
    } catch (error) {
      // Then the server has left it already.
      if (error.code !== "not_found") throw error;
    }
  }

  /**
   * For operators, as the three below: the figures of the server, or where a user is named, the user's connections and runs. Each is
   * asked over the connection that is there. Without one it is refused with `not_connected`; where the connection ends before the
   * answer comes, with `unanswered`, and nobody knows whether it was done: none is ever sent twice.
   */
  async inspect(userId) {
    const { server, user } = await this.#request({ type: "inspect", user_id: userId }, { once: true });
    return userId == null ? server : user;
  }

  /** Closes one connection of a user, or all where none is named; they come back by themselves. Resolves to how many it closed. */
  async disconnect(userId, ...one) {
    const [connectionId] = one;
    // An id that somebody has lost must not mean all of them.
    if (one.length > 0 && connectionId == null) throw new TypeError("the connection's id is missing; without that argument all are closed");
    const reply = await this.#request({ type: "disconnect", user_id: userId, connection_id: connectionId }, { once: true });
    return reply.closed;
  }

  /**
   * Takes a session, a token or all tokens of a user back: exactly one of `sessionId`, `tokenId` and `all`. `expires`, in seconds since
   * 1970, says when the last of what is taken back would have ended by itself. Resolves to how many connections it closed.
   */
  async revoke(userId, { sessionId, tokenId, all, expires } = {}) {
    const what = { session_id: sessionId, token_id: tokenId, all: all || undefined, expires };
    const reply = await this.#request({ type: "revoke", user_id: userId, ...what }, { once: true });
    return reply.closed;
  }

  /** Shuts the server down: it lets nobody in any more and closes every connection, this one too. */
  async drain() {
    await this.#request({ type: "drain" }, { once: true });
  }

  /**
   * Calls `listener` with what the option `on…` of that name is called with: `state`, `event`, `reset`, `snapshot`, `notice`, `welcome`,
   * `topic`. Answers a function that ends it. What a listener throws is reported like any mistake: it refuses nothing.
   */
  on(name, listener) {
    return this.#listeners.add(name, listener);
  }

  /** The events from here on, as `onEvent` gets them, until the client has stopped; `for await` ends then. */
  events() {
    return iterate((push, end) => {
      if (this.#state === "stopped") queueMicrotask(() => end());
      const ends = [this.on("event", (event) => push(event, this.#letters)), this.on("state", ({ state }) => (state === "stopped" ? end() : undefined))];
      return () => ends.forEach((stop) => stop());
    });
  }

  /** Ends everything for good. */
  close() {
    this.#stop({ reason: "closed", code: 1000 });
  }

  // --- connecting

  /** `over` says why the last token is none any more, which is also why the client stops where there is no other. */
  async #open(over = { reason: "no_token" }) {
    this.#timers.clear();
    const generation = ++this.#generation;
    this.#setState({ state: "connecting" });
    if (generation !== this.#generation) return;
    let door;
    try {
      door = await this.#tokens.door();
    } catch {
      if (generation === this.#generation) this.#retry({ reason: "token_unavailable" });
      return;
    }
    if (generation !== this.#generation) return;
    if (!door) return this.#stop(over);
    try {
      this.#attach(new this.#WebSocket(door.url, door.protocols));
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
    this.#timers.arm("welcome", WELCOME_DEADLINE_MS, () => this.#abandon("no_answer"));
  }

  #sayHello() {
    const hello = { type: "hello", client: { name: "trunkline.js", version: "1" } };
    if (this.#sessionId) hello.session_id = this.#sessionId;
    if (this.#options.threads) hello.threads = this.#options.threads;
    this.#write({ ...hello, ...this.#places.hello() });
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
    this.#tokens.disconnected();
    this.#timers.clear();
    this.#requests.shut();
    const why = { reason: reason || closeName(code), code };
    switch (nextAction(code)) {
      case "stop":
        return this.#stop(why);
      case "token":
        // A session that is revoked lets nobody in, whatever the token.
        if (code === TOKEN_REVOKED) this.#sessionId = undefined;
        return this.#renew(why);
      case "afresh":
        this.#places.beginAnew();
        return this.#retry(why);
      case "later":
        this.#backoff.later();
        return this.#retry(why);
      default:
        return this.#retry(why);
    }
  }

  #renew(why) {
    this.#tokens.forget();
    if (!this.#tokens.renewable) return this.#stop(why);
    if (!this.#backoff.isFresh) return this.#retry(why);
    // The first new token is worth no wait; a server that refuses new ones too meets the back-off.
    this.#backoff.failed();
    this.#open(why);
  }

  #retry(why) {
    const delay = this.#backoff.next();
    this.#setState({ state: "offline", ...why, retryAt: this.#clock.now() + delay });
    if (this.#state === "offline") this.#timers.arm("retry", delay, () => this.#open());
  }

  #stop(why) {
    if (this.#state === "stopped") return;
    this.#generation += 1;
    this.#timers.clear();
    this.#tokens.end();
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000, "");
    this.#setState({ state: "stopped", ...why });
    this.#requests.end(new RequestError({ code: "stopped", message: `stopped: ${why.reason}` }));
  }

  // --- receiving

  #receive(data) {
    const socket = this.#socket;
    this.#letters = data.length;
    try {
      this.#dispatch(parseFrame(data));
    } catch (error) {
      // Nobody's mistake but the frame's: listeners' own do not come here.
      if (!(error instanceof StreamFault)) report(error);
      if (this.#socket === socket) this.#fault(error instanceof StreamFault ? error : new StreamFault("not usable"));
    }
  }

  /** Closes and resumes. */
  #fault(error) {
    this.#places.fault(error);
    this.#abandon(closeText(error.message));
  }

  #dispatch(frame) {
    if (this.#state !== "live") {
      if (frame.type !== "welcome") throw new StreamFault("a frame before the welcome");
      return this.#welcome(frame);
    }
    this.#heard();
    switch (frame.type) {
      case "reply":
        return this.#tokens.answered(frame) ? undefined : this.#requests.settle(frame);
      case "pong":
        return undefined;
      case "snapshot":
        return this.#moving(() => this.#places.snapshot(frame));
      case "position":
        return this.#advance(frame, () => {});
      case "auth_expiring":
        return this.#tokens.announced(seconds(frame.expires_in, 0));
      case "going_away":
        this.#backoff.ask(seconds(frame.reconnect_after, null));
        return this.#tell("notice", frame);
      case "lag":
        this.#tell("notice", frame);
        return this.#lag(frame);
      case "error":
      case "service_level":
        return this.#tell("notice", frame);
      default:
        return this.#advance(frame, () => this.#tell("event", frame));
    }
  }

  /** Whoever is told may have closed the client, or opened another socket. */
  #welcome(frame) {
    const socket = this.#socket;
    const isOver = () => this.#socket !== socket;
    this.#timers.disarm("welcome");
    this.#sessionId = frame.session_id ?? this.#sessionId;
    this.#heartbeat = { ...DEFAULT_HEARTBEAT, ...frame.heartbeat };
    this.#backoff.welcomed();
    this.#timers.arm("stable", STABLE_MS, () => this.#backoff.reset());
    this.#tell("welcome", frame);
    if (isOver()) return;
    this.#tokens.installed(seconds(frame.expires_in, Infinity));
    const streams = frame.streams ?? [];
    this.#places.welcome();
    for (const topic of this.#places.missing(streams)) {
      this.#tell("topic", { topic, left: true });
      if (isOver()) return;
    }
    for (const entry of streams) {
      this.#places.place(entry);
      if (entry.stream === OWN_STREAM) this.#acks.begin(entry.event_id);
      if (isOver()) return;
    }
    const left = this.#places.left(streams);
    // What waits goes out before anybody is told, who may ask for more.
    this.#state = "live";
    this.#heard();
    this.#requests.open(frame.limits, left.map((topic) => ({ type: "unsubscribe", topic })));
    this.#setState({ state: "live" });
  }

  #lag({ stream = OWN_STREAM, merging }) {
    if (stream !== OWN_STREAM || this.#lags === (merging === true)) return;
    this.#lags = merging === true;
    this.#setState({ state: "live" });
  }

  #advance(frame, deliver) {
    this.#moving(() => this.#places.advance(frame, deliver), RUN_ENDS.includes(frame.type));
  }

  /** Lets the server know where this client has moved to, now and then. */
  #moving(move, runEnded = false) {
    const before = this.#places.own;
    move();
    // A listener may have closed the client.
    if (this.#state === "live" && this.#places.own !== before) this.#acks.moved(runEnded);
  }

  #request(frame, how) {
    if (this.#state === "stopped") return Promise.reject(new RequestError({ code: "stopped" }));
    return this.#requests.ask(frame, how).promise;
  }

  #write(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  // --- time

  /** A browser shows no WebSocket pings, so a quiet line is asked once before it is given up. */
  #heard() {
    const { interval, timeout } = this.#heartbeat;
    this.#timers.arm("alive", seconds(interval + timeout, 35_000), () => {
      this.#write({ type: "ping" });
      this.#timers.arm("alive", seconds(timeout, 10_000), () => this.#abandon("heartbeat_timeout"));
    });
  }

  /** Everybody hears of all changes in their order, also of one that somebody has made who heard of another. */
  #setState(change) {
    if (this.#state === "stopped") return;
    this.#state = change.state;
    if (change.state !== "live") this.#lags = false;
    const isTelling = this.#changes.length > 0;
    this.#changes.push({ reason: null, code: null, retryAt: null, ...change, state: this.state });
    while (!isTelling && this.#changes.length > 0) {
      this.#tell("state", this.#changes[0]);
      this.#changes.shift();
    }
  }

  #tell(name, value) {
    this.#call(name, value);
    this.#listeners.tell(name, value);
  }

  /** Calls the option. Its own mistake is said, and holds nothing up; a fault that it finds in what it was given does. */
  #call(name, value) {
    try {
      this.#options[`on${name[0].toUpperCase()}${name.slice(1)}`]?.(value);
    } catch (error) {
      if (error instanceof StreamFault && MAY_REFUSE.includes(name)) throw error;
      report(error);
    }
  }
}
