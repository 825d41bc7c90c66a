// Where a client stands in each stream, what may move it there, and what the server knows of that. A part of trunkline.js.

import { RequestError, StreamFault, checkFollows, formatPosition, isStart, parsePosition } from "./trunkline-stream.js";

export const OWN_STREAM = "user";
const TOPIC = "topic:";
/** The position in front of everything: a resume from here replays all that the server keeps. */
export const START = "0-0";
/** So many topics, and so many threads, a server lets one connection name. */
export const MOST_NAMED = 100;
/** So many events, or a run's end, are worth an `ack`; and the least time between two of them. */
const ACK_EVENTS = 64;
const ACK_INTERVAL_MS = 5_000;

/** The positions and the topics of a client. They outlive its connections: the next one resumes from them. */
export class Places {
  #tell;
  #at = new Map();
  /** The topics that are followed, whether connected or not. */
  #topics;
  /** The end of the user's own stream when the server let this client in. */
  #head = null;
  /** Where each stream was when it last broke its contract. */
  #faultedAt = new Map();
  /** The streams whose next snapshot was announced. */
  #snapshotsAhead = new Set();
  /** A client without a position was given a part of a snapshot, and no more yet. */
  #halfRestored = false;

  /** `tell(name, value)` says what became of a stream: `reset`, `topic` or `snapshot`. */
  constructor({ position, topics, threads }, tell) {
    this.#tell = tell;
    this.#topics = new Set(topics);
    if (this.#topics.size > MOST_NAMED || threads?.length > MOST_NAMED) {
      throw new RangeError(`a client names at most ${MOST_NAMED} topics and ${MOST_NAMED} threads`);
    }
    if (position) this.#at.set(OWN_STREAM, parsePosition(position));
  }

  /** The place in the user's own stream. */
  get own() {
    return this.#at.get(OWN_STREAM);
  }

  get topics() {
    return [...this.#topics];
  }

  /** Whether everything that was in the user's own log at the time of the welcome was delivered. */
  get caughtUp() {
    const [own, head] = [this.own, this.#head];
    return !head || (own?.epoch === head.epoch && own.seq >= head.seq);
  }

  /** What a `hello` says of them. */
  hello() {
    const fresh = this.topics.filter((topic) => !this.#at.has(streamOf(topic)));
    const resume = Object.fromEntries([...this.#at].map(([stream, at]) => [stream, formatPosition(at)]));
    return { ...(fresh.length > 0 && { topics: fresh }), ...(this.#at.size > 0 && { resume }) };
  }

  follows(stream) {
    return stream === OWN_STREAM || this.#topics.has(topicOf(stream));
  }

  /** Follows a topic from where the answer to a subscription says. */
  join(topic, entry) {
    this.#topics.add(topic);
    try {
      this.place({ ...entry, stream: streamOf(topic) });
    } catch (error) {
      this.leave(topic);
      throw error;
    }
  }

  /** Forgets a topic; says whether it was followed. */
  leave(topic) {
    this.#at.delete(streamOf(topic));
    return this.#topics.delete(topic);
  }

  /** A new connection announces its snapshots anew. */
  welcome() {
    this.#snapshotsAhead.clear();
  }

  /** Leaves the topics that a welcome does not give; yields each once it is left. */
  *missing(entries) {
    const given = new Set(entries.map(({ stream }) => stream));
    for (const topic of this.topics) if (!given.has(streamOf(topic)) && this.leave(topic)) yield topic;
  }

  /** The topics of a welcome that nobody follows any more, since they were left after the hello that named them. */
  left(entries) {
    const streams = new Set(entries.map(({ stream }) => stream));
    return [...streams].filter((stream) => stream.startsWith(TOPIC) && !this.follows(stream)).map(topicOf);
  }

  /** Takes a stream's place from the welcome or an answer; a snapshot moves the position only once it is here whole. */
  place({ stream, event_id: eventId, head, mode, lost = null }) {
    if (!this.follows(stream)) return;
    const own = stream === OWN_STREAM;
    const mine = this.#at.get(stream);
    const [theirs, end] = within(stream, () => [parsePosition(eventId), head ? parsePosition(head) : null]);
    const same = mine?.epoch === theirs.epoch && mine.seq === theirs.seq;
    const continues = ["live", "replay"].includes(mode);
    if (continues && mine && !isStart(mine) && !same) {
      // What is between would be left out, or come again, without a word.
      throw Object.assign(new StreamFault(`the server continues from ${eventId}`), { stream });
    }
    if (own) this.#head = end;
    if (mode === "snapshot") this.#snapshotsAhead.add(stream);
    else {
      this.#snapshotsAhead.delete(stream);
      this.#at.set(stream, theirs);
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
  snapshot(frame) {
    const { stream = OWN_STREAM, part = 1, of = 1 } = frame;
    if (!this.follows(stream)) return;
    const next = within(stream, () => parsePosition(frame.event_id));
    const mine = this.#at.get(stream);
    if (part === 1 && !this.#snapshotsAhead.delete(stream) && mine) {
      const lost = frame.lost ?? { from: formatPosition(mine), to: frame.event_id };
      if (stream === OWN_STREAM) this.#tell("reset", { lost, afresh: true });
      else this.#tell("topic", { topic: topicOf(stream), lost, afresh: true });
    }
    if (stream === OWN_STREAM) {
      this.#halfRestored = part < of;
      this.#tell("snapshot", frame);
    }
    if (part >= of && this.follows(stream)) this.#at.set(stream, next);
  }

  /** Hands a frame on if it follows the position, and moves the position only once it was taken. */
  advance(frame, deliver) {
    const stream = frame.stream ?? OWN_STREAM;
    // What was on its way when a topic was left is nobody's any more.
    if (!this.follows(stream)) return;
    if (frame.event_id == null) return within(stream, deliver);
    const next = within(stream, () => checkFollows(this.#at.get(stream), frame));
    within(stream, deliver);
    // Whoever was told may have left it.
    if (this.follows(stream)) this.#at.set(stream, next);
  }

  /** A second fault at the same place starts from the beginning, or it would be met for ever. */
  fault({ stream = OWN_STREAM }) {
    const position = this.#at.get(stream);
    const at = position ? formatPosition(position) : null;
    if (this.#faultedAt.get(stream) === at) this.#at.set(stream, parsePosition(START));
    this.#faultedAt.set(stream, at);
  }

  /** The server knows none of them. */
  beginAnew() {
    this.#at = new Map([...this.#at.keys(), OWN_STREAM].map((stream) => [stream, parsePosition(START)]));
  }
}

/** The subscriptions that were asked for and not answered yet. */
export class Subscriptions {
  #places;
  #requests;
  #asked = new Map();

  constructor(places, requests) {
    this.#places = places;
    this.#requests = requests;
  }

  /** Asks once, however many want it. */
  ask(topic, position) {
    const known = this.#asked.get(topic);
    if (known) return known.promise;
    if (this.#places.topics.length + this.#asked.size >= MOST_NAMED) {
      throw new RequestError({ code: "too_many_subscriptions", message: `a client follows at most ${MOST_NAMED} topics` });
    }
    const accept = (entry) => this.#places.join(topic, entry);
    const asked = this.#requests.ask({ type: "subscribe", topic, resume: position }, { accept });
    this.#asked.set(topic, asked);
    const done = () => (this.#asked.get(topic) === asked ? this.#asked.delete(topic) : undefined);
    asked.promise.then(done, done);
    return asked.promise;
  }

  /** Nobody wants it any more. Says whether the server may have been asked, or may follow it, so that it has to be told. */
  leave(topic, isLive) {
    const asked = this.#asked.get(topic);
    this.#asked.delete(topic);
    const followed = this.#places.leave(topic);
    // Where it is sent, the topic is left right behind it; the next hello does not name it.
    if (asked && isLive) this.#requests.disown(asked);
    else if (asked) this.#requests.drop(asked);
    return isLive && Boolean(followed || asked);
  }
}

/** Tells the server how far a client is, seldom: nothing but the server's memory rests on it. */
export class Acks {
  #clock;
  #timers;
  #places;
  #write;
  /** What the server knows this client to have, and since when. */
  #told = null;
  #toldAt = -Infinity;

  constructor(clock, timers, places, write) {
    this.#clock = clock;
    this.#timers = timers;
    this.#places = places;
    this.#write = write;
  }

  /** The server has named this position itself. */
  begin(eventId) {
    this.#told = parsePosition(eventId);
  }

  /** The client is further than it was. The end of a run is worth telling. */
  moved(runEnded) {
    const at = this.#places.own;
    if (!at || this.#timers.has("ack")) return;
    const told = this.#told?.epoch === at.epoch ? this.#told.seq : 0;
    if (!runEnded && at.seq - told < ACK_EVENTS) return;
    const wait = Math.min(this.#toldAt + ACK_INTERVAL_MS - this.#clock.now(), ACK_INTERVAL_MS);
    if (wait > 0) this.#timers.arm("ack", wait, () => this.#send());
    else this.#send();
  }

  #send() {
    this.#told = this.#places.own;
    this.#toldAt = this.#clock.now();
    this.#write({ type: "ack", event_id: formatPosition(this.#told) });
  }
}

function topicOf(stream) {
  return stream.slice(TOPIC.length);
}

function streamOf(topic) {
  return TOPIC + topic;
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
