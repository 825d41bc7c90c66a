// Named timers, the waits between tries, and the time as frames say it. A part of trunkline.js.

/** Timers by name: arming one again moves it. */
export class Timers {
  #clock;
  #running = new Map();

  constructor(clock) {
    this.#clock = clock;
  }

  has(name) {
    return this.#running.has(name);
  }

  arm(name, ms, run) {
    this.disarm(name);
    const fire = () => {
      this.#running.delete(name);
      run();
    };
    this.#running.set(name, this.#clock.set(fire, ms));
  }

  disarm(name) {
    if (this.has(name)) this.#clock.clear(this.#running.get(name));
    this.#running.delete(name);
  }

  clear() {
    for (const name of [...this.#running.keys()]) this.disarm(name);
  }
}

/** Milliseconds of a frame's seconds, where it says any. */
export function seconds(value, otherwise) {
  return Number.isFinite(value) && value >= 0 ? value * 1000 : otherwise;
}

const BACKOFF_BASE_MS = 500;
const BACKOFF_CAP_MS = 30_000;
/** The longest wait that a server may ask for. */
const MAX_ASKED_MS = 120_000;
/** "Later" is the back-off after this many failures. */
const LATER_TRIES = 5;

/** How long to wait ahead of the next try: longer from one to the next, drawn at random, or as long as the server asks for, once. */
export class Backoff {
  #clock;
  #random;
  #tries = 0;
  #asked = null;
  #notBefore = -Infinity;

  constructor(clock, random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Whether nothing has failed since it was last good. */
  get isFresh() {
    return this.#tries === 0;
  }

  /** Whether the server does not want to see this client yet. */
  get isTooEarly() {
    return this.#clock.now() < this.#notBefore;
  }

  next() {
    const backoff = this.#random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** this.#tries);
    // A server that goes away has drawn the jitter itself.
    const delay = Math.min(this.#asked ?? backoff, MAX_ASKED_MS);
    if (this.#asked !== null) this.#notBefore = this.#clock.now() + delay;
    this.#asked = null;
    this.#tries += 1;
    return delay;
  }

  /** The server asks for so long a wait; `null`: for none. */
  ask(ms) {
    this.#asked = ms;
  }

  failed() {
    this.#tries += 1;
  }

  later() {
    this.#tries = Math.max(this.#tries, LATER_TRIES);
  }

  /** A server has let this client in. */
  welcomed() {
    this.#asked = null;
    this.#notBefore = -Infinity;
  }

  reset() {
    this.#tries = 0;
  }
}
