// A client of the trunkline.v1 protocol, without dependencies, for browsers and for Node: 22, or 20 with the WebSocket of a package.
//
//   const line = connect({ url, getToken, position: "0-0", onState, onEvent });
//   const runId = await line.send("thread-1", "what is 2*(3+4)?");
//
//   for await (const event of line.events()) show(event);
//
// The client keeps its position in the log, so that a lost connection resumes where it broke: nothing twice, nothing missing.

import { Listeners, iterate, report } from "./trunkline-events.js";
import { Requests } from "./trunkline-requests.js";
import {
  RequestError,
  StreamFault,
  checkFollows,
  closeName,
  closeText,
  formatPosition,
  isStart,
  nextAction,
  parseFrame,
  parsePosition,
} from "./trunkline-stream.js";

export { RequestError, StreamFault, checkFollows, formatPosition, nextAction, parsePosition } from "./trunkline-stream.js";
export { markGap, reduceRun, restoreRun, runIdsOf } from "./trunkline-run.js";

const SUBPROTOCOL = "trunkline.v1";
const OWN_STREAM = "user";
const TOPIC = "topic:";
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
/** So many topics, and so many threads, a server lets one connection name. */
const MOST_NAMED = 100;
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
  #random;
  #WebSocket;
  #socket = null;
  #generation = 0;
  #timers = new Map();
  #state = "offline";
  #token;
  #sessionId;
  #listeners = new Listeners(HEARD);
  #requests;
  /** The topics that are followed, whether connected or not, and those that were asked for, with their requests. */
  #topics;
  #subscribing = new Map();
  /** The server says that this client is behind. */
  #lags = false;
  #positions = new Map();
  /** The end of the user's own stream when the server let this client in. */
  #head = null;
  #attempt = 0;
  #heartbeat = DEFAULT_HEARTBEAT;
  #reconnectAfter = null;
  /** Where each stream was when it last broke its contract. */
  #faultedAt = new Map();
  /** The streams whose next snapshot was announced. */
  #snapshotsAhead = new Set();
  /** Changes of the state that somebody has yet to hear of. */
  #changes = [];
  /** A client without a position was given a part of a snapshot, and no more yet. */
  #halfRestored = false;
  /** Letters of the frame that is being looked at. */
  #letters = 0;
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
    this.#random = options.random ?? Math.random;
    this.#clock = {
      set: options.setTimeout ?? ((run, ms) => globalThis.setTimeout(run, ms)),
      clear: options.clearTimeout ?? ((id) => globalThis.clearTimeout(id)),
      now: options.now ?? (() => Date.now()),
    };
    this.#requests = new Requests(this.#clock, (text) => this.#socket?.send(text));
    this.#token = options.token;
    this.#topics = new Set(options.topics);
    if (this.#topics.size > MOST_NAMED || options.threads?.length > MOST_NAMED) {
      throw new RangeError(`a client names at most ${MOST_NAMED} topics and ${MOST_NAMED} threads`);
    }
    if (options.position) this.#positions.set(OWN_STREAM, parsePosition(options.position));
  }

  get state() {
    return this.#state === "live" && this.#lags ? "lagging" : this.#state;
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
    const head = this.#head;
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
   * Sends a message and resolves to the id of its run. It survives reconnects: the key makes a second arrival the same message, as long
   * as the server knows it, which is ten minutes. Whoever repeats a message after an error passes the key of the first try.
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
    if (this.#topics.has(topic)) return;
    const known = this.#subscribing.get(topic) ?? this.#askFor(topic, position);
    await known.promise;
  }

  #askFor(topic, position) {
    if (this.#state === "stopped") throw new RequestError({ code: "stopped" });
    if (this.#topics.size + this.#subscribing.size >= MOST_NAMED) {
      throw new RequestError({ code: "too_many_subscriptions", message: `a client follows at most ${MOST_NAMED} topics` });
    }
    const accept = (entry) => {
      this.#topics.add(topic);
      try {
        this.#place({ ...entry, stream: TOPIC + topic });
      } catch (error) {
        this.#leave(topic);
        throw error;
      }
    };
    const asked = this.#requests.ask({ type: "subscribe", topic, resume: position }, { accept });
    this.#subscribing.set(topic, asked);
    const done = () => (this.#subscribing.get(topic) === asked ? this.#subscribing.delete(topic) : undefined);
    asked.promise.then(done, done);
    return asked;
  }

  /** Leaves a topic at once: nothing of it comes any more. */
  async unsubscribe(topic) {
    const asked = this.#subscribing.get(topic);
    if (asked) {
      // Whatever the answer, it is left right behind it; and with the connection both are done.
      Object.assign(asked, { accept: undefined, passing: true });
      this.#subscribing.delete(topic);
    }
    const followed = this.#leave(topic);
    if (this.#state !== "live" || !(followed || asked)) {
      // The next hello does not name it.
      if (asked) this.#requests.drop(asked);
      return;
    }
    try {
      await this.#requests.ask({ type: "unsubscribe", topic }, { passing: true }).promise;
    } catch (error) {
      // Then the server has left it already.
      if (error.code !== "not_found") throw error;
    }
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
    const fresh = [...this.#topics].filter((topic) => !this.#positions.has(TOPIC + topic));
    if (fresh.length > 0) hello.topics = fresh;
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
        this.#positions = new Map([...this.#positions.keys(), OWN_STREAM].map((stream) => [stream, parsePosition(START)]));
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

  /** Closes and resumes; a second fault at the same place starts from the beginning, or it would be met for ever. */
  #fault(error) {
    const stream = error.stream ?? OWN_STREAM;
    const position = this.#positions.get(stream);
    const at = position ? formatPosition(position) : null;
    if (this.#faultedAt.get(stream) === at) this.#positions.set(stream, parsePosition(START));
    this.#faultedAt.set(stream, at);
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
        return this.#answered(frame);
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
    this.#disarm("welcome");
    this.#sessionId = frame.session_id ?? this.#sessionId;
    this.#heartbeat = { ...DEFAULT_HEARTBEAT, ...frame.heartbeat };
    this.#reconnectAfter = null;
    this.#arm("stable", STABLE_MS, () => (this.#attempt = 0));
    this.#tell("welcome", frame);
    if (isOver()) return;
    this.#installed(seconds(frame.expires_in, Infinity));
    this.#snapshotsAhead.clear();
    const streams = frame.streams ?? [];
    const given = new Set(streams.map(({ stream }) => stream));
    for (const topic of [...this.#topics]) {
      if (!given.has(TOPIC + topic) && this.#leave(topic)) this.#tell("topic", { topic, left: true });
      if (isOver()) return;
    }
    for (const entry of streams) {
      this.#place(entry);
      if (isOver()) return;
    }
    // What was left since the hello, which had named it.
    const left = [...given].filter((stream) => stream.startsWith(TOPIC) && !this.#follows(stream));
    // What waits goes out before anybody is told, who may ask for more.
    this.#state = "live";
    this.#heard();
    this.#requests.open(frame.limits, left.map((stream) => ({ type: "unsubscribe", topic: topicOf(stream) })));
    this.#setState({ state: "live" });
  }

  /** Takes a stream's place from the welcome or an answer; a snapshot moves the position only once it is here whole. */
  #place({ stream, event_id: eventId, head, mode, lost = null }) {
    if (!this.#follows(stream)) return;
    const own = stream === OWN_STREAM;
    const mine = this.#positions.get(stream);
    const [theirs, end] = within(stream, () => [parsePosition(eventId), head ? parsePosition(head) : null]);
    const same = mine?.epoch === theirs.epoch && mine.seq === theirs.seq;
    const continues = ["live", "replay"].includes(mode);
    if (continues && mine && !isStart(mine) && !same) {
      // What is between would be left out, or come again, without a word.
      throw Object.assign(new StreamFault(`the server continues from ${eventId}`), { stream });
    }
    if (own) [this.#head, this.#told] = [end, theirs];
    if (mode === "snapshot") this.#snapshotsAhead.add(stream);
    else {
      this.#snapshotsAhead.delete(stream);
      this.#positions.set(stream, theirs);
    }
    // What was shown up to the place where the loss begins is still true.
    const isWhole = continues && !lost;
    const goesOn = mode !== "snapshot" && mine && mine.seq > 0 && mine.epoch === theirs.epoch && lost?.from === formatPosition(mine);
    const afresh = !isWhole && !goesOn;
    const isHalf = own && this.#halfRestored;
    if (own) this.#halfRestored = false;
    if (isWhole && isHalf) return this.#tell("reset", { lost: null, afresh: true });
    if (!own) this.#tell("topic", { topic: topicOf(stream), lost, afresh });
    else if (!isWhole) this.#tell("reset", { lost, afresh });
  }

  /** One that was not announced comes to a reader who fell out of the log, and says what is lost. */
  #snapshot(frame) {
    const { stream = OWN_STREAM, part = 1, of = 1 } = frame;
    if (!this.#follows(stream)) return;
    const next = within(stream, () => parsePosition(frame.event_id));
    const mine = this.#positions.get(stream);
    if (part === 1 && !this.#snapshotsAhead.delete(stream) && mine) {
      const lost = frame.lost ?? { from: formatPosition(mine), to: frame.event_id };
      if (stream === OWN_STREAM) this.#tell("reset", { lost, afresh: true });
      else this.#tell("topic", { topic: topicOf(stream), lost, afresh: true });
    }
    if (stream === OWN_STREAM) {
      this.#halfRestored = part < of;
      this.#tell("snapshot", frame);
    }
    if (part < of || !this.#follows(stream)) return;
    this.#positions.set(stream, next);
    if (stream === OWN_STREAM) this.#acknowledge(false);
  }

  #follows(stream) {
    return stream === OWN_STREAM || this.#topics.has(topicOf(stream));
  }

  /** Forgets a topic; says whether it was followed. */
  #leave(topic) {
    this.#positions.delete(TOPIC + topic);
    return this.#topics.delete(topic);
  }

  #lag({ stream = OWN_STREAM, merging }) {
    if (stream !== OWN_STREAM || this.#lags === (merging === true)) return;
    this.#lags = merging === true;
    this.#setState({ state: "live" });
  }

  /** Hands a frame on if it follows the position, and moves the position only once it was taken. */
  #advance(frame, deliver) {
    const stream = frame.stream ?? OWN_STREAM;
    // What was on its way when a topic was left is nobody's any more.
    if (!this.#follows(stream)) return;
    if (frame.event_id == null) return within(stream, deliver);
    const next = within(stream, () => checkFollows(this.#positions.get(stream), frame));
    within(stream, deliver);
    // Whoever was told may have left it.
    if (this.#follows(stream)) this.#positions.set(stream, next);
    if (stream === OWN_STREAM) this.#acknowledge(RUN_ENDS.includes(frame.type));
  }

  /** Tells the server how far this client is, seldom: nothing but the server's memory rests on it. */
  #acknowledge(runEnded) {
    const at = this.#positions.get(OWN_STREAM);
    // A listener may have closed the client.
    if (this.#state !== "live" || !at || this.#timers.has("ack")) return;
    const told = this.#told?.epoch === at.epoch ? this.#told.seq : 0;
    if (!runEnded && at.seq - told < ACK_EVENTS) return;
    const wait = Math.min(this.#toldAt + ACK_INTERVAL_MS - this.#clock.now(), ACK_INTERVAL_MS);
    if (wait > 0) this.#arm("ack", wait, () => this.#sendAck());
    else this.#sendAck();
  }

  #sendAck() {
    this.#told = this.#positions.get(OWN_STREAM);
    this.#toldAt = this.#clock.now();
    this.#write({ type: "ack", event_id: formatPosition(this.#told) });
  }

  #answered(frame) {
    if (!this.#refreshing || frame.id !== this.#refreshing.id) return this.#requests.settle(frame);
    // One that is refused is not worth a connection either.
    if (!frame.ok) this.#token = this.#refreshing.before;
    this.#refreshing = null;
    if (frame.ok) this.#refreshed(seconds(frame.expires_in, Infinity));
  }

  #request(frame) {
    if (this.#state === "stopped") return Promise.reject(new RequestError({ code: "stopped" }));
    return this.#requests.ask(frame).promise;
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
      this.#refreshing = { id: this.#requests.newId(), before };
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

function topicOf(stream) {
  return stream.slice(TOPIC.length);
}

/** A fault says in which stream it was met. */
function within(stream, run) {
  try {
    return run();
  } catch (error) {
    if (error instanceof StreamFault) error.stream = stream;
    throw error;
  }
}

function seconds(value, otherwise) {
  return Number.isFinite(value) && value >= 0 ? value * 1000 : otherwise;
}

/** 128 random bits. `randomUUID` would need a secure context, which a page over plain HTTP does not have. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
