// The requests of a client until they are answered, over however many connections. A part of trunkline.js.

import { RequestError } from "./trunkline-stream.js";

/** So many wait for their answers, or for the connection, and no more. */
const MOST_WAITING = 1_000;
/** What of the server's rate they take; the rest is for pings, acknowledgements and tokens. */
const SHARE = 0.75;
/** After so long it is looked again, whatever the clock says. */
const LONGEST_WAIT_MS = 1_000;

export class Requests {
  #clock;
  #write;
  #waiting = new Map();
  /** What this connection is still to be given, in order; `null` where there is none. */
  #queue = null;
  #messageBytes = Infinity;
  /** How many may be sent at once, how many a millisecond come to that, and how many are left since when. */
  #pace = { burst: Infinity, rate: Infinity, left: Infinity, at: 0 };
  #timer = null;
  #nextId = 1;

  constructor(clock, write) {
    this.#clock = clock;
    this.#write = write;
  }

  newId() {
    return `c${this.#nextId++}`;
  }

  /**
   * Asks. `accept` is called with the answer before anything that follows it is looked at. One that is `passing` is about this connection
   * alone: there is always room for it, and with the connection it is done. One that is to be done `once` goes over this connection or
   * not at all: it is refused where there is none, or where that ends first. Answers the request, with the `promise` of its reply.
   */
  ask(frame, { accept, passing = false, once = false } = {}) {
    const id = this.newId();
    const waiting = { id, accept, passing, once };
    waiting.promise = new Promise((resolve, reject) => Object.assign(waiting, { resolve, reject }));
    try {
      // As it is now: what the caller does to it later is not what was asked, and what is no JSON is refused here.
      waiting.text = JSON.stringify({ ...frame, id });
    } catch (error) {
      waiting.reject(error);
      return waiting;
    }
    if (once && !this.#queue) {
      waiting.reject(new RequestError({ code: "not_connected", message: "there is no connection now; ask again once there is", temporary: true }));
      return waiting;
    }
    if (!passing && this.#waiting.size >= MOST_WAITING) {
      const message = `${MOST_WAITING} requests wait already`;
      waiting.reject(new RequestError({ code: "too_many_waiting", message, temporary: true }));
      return waiting;
    }
    this.#waiting.set(id, waiting);
    this.#queue?.push(waiting);
    this.#send();
    return waiting;
  }

  /** There is a connection, with these limits: `first`, then everything that waits goes out, as fast as the server takes it. */
  open(limits, first = []) {
    const { message_bytes: bytes, messages_per_second: perSecond, message_burst: burst } = limits ?? {};
    this.#messageBytes = bytes ?? Infinity;
    const most = Math.max(1, Math.floor(SHARE * (burst ?? Infinity)));
    this.#pace = { burst: most, rate: (SHARE * (perSecond ?? Infinity)) / 1000, left: most, at: this.#clock.now() };
    const waiting = [...this.#waiting.values()];
    this.#queue = [];
    // What becomes of them is nobody's to know.
    for (const frame of first) this.ask(frame, { passing: true }).promise.catch(() => {});
    this.#queue.push(...waiting);
    this.#send();
  }

  /** There is none any more. What is about that one is done, and what was to be done over it alone is given up. */
  shut() {
    this.#queue = null;
    this.#clock.clear(this.#timer);
    this.#timer = null;
    for (const [id, { passing, once, resolve, reject }] of [...this.#waiting]) {
      if (!passing && !once) continue;
      this.#waiting.delete(id);
      if (passing) resolve({});
      else reject(new RequestError({ code: "unanswered", message: "the connection ended before the answer: see whether it was done" }));
    }
  }

  /** Whatever the answer, nobody takes it; and with the connection it is done. */
  disown(waiting) {
    Object.assign(waiting, { accept: undefined, passing: true });
  }

  /** Nobody wants it any more, and it was not sent on this connection. */
  drop({ id, resolve }) {
    this.#waiting.delete(id);
    resolve({});
  }

  /** Nothing is answered any more. */
  end(error) {
    this.shut();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  /** Takes an answer. Throws what `accept` throws. */
  settle(frame) {
    const waiting = this.#waiting.get(frame.id);
    if (!waiting) return;
    this.#waiting.delete(frame.id);
    if (!frame.ok) return waiting.reject(new RequestError(frame.error ?? {}));
    try {
      waiting.accept?.(frame);
    } catch (error) {
      waiting.reject(new RequestError({ code: "bad_answer", message: error.message }));
      throw error;
    }
    waiting.resolve(frame);
  }

  #send() {
    const pace = this.#pace;
    while (this.#queue?.length > 0 && this.#timer === null) {
      const now = this.#clock.now();
      if (pace.rate !== Infinity) pace.left = Math.min(pace.burst, pace.left + Math.max(0, now - pace.at) * pace.rate);
      pace.at = now;
      if (pace.left < 1) {
        this.#timer = this.#clock.set(() => {
          this.#timer = null;
          this.#send();
        }, Math.min(Math.ceil((1 - pace.left) / pace.rate), LONGEST_WAIT_MS));
        return;
      }
      const waiting = this.#queue.shift();
      if (!this.#waiting.has(waiting.id)) continue;
      pace.left -= 1;
      this.#transmit(waiting);
    }
  }

  /** A frame over the server's limit would end the connection, so it is refused here. */
  #transmit({ id, text, reject }) {
    const bytes = new TextEncoder().encode(text).length;
    if (bytes <= this.#messageBytes) return this.#write(text);
    this.#waiting.delete(id);
    return reject(new RequestError({ code: "too_big", message: `${bytes} bytes; the limit is ${this.#messageBytes}` }));
  }
}

/** 128 random bits. `randomUUID` would need a secure context, which a page over plain HTTP does not have. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
