// What lets a client in, and a new token ahead of the end of the one in use. A part of trunkline.js.

import { Timers, seconds } from "./trunkline-time.js";

const SUBPROTOCOL = "trunkline.v1";
/** A new token is asked for by one's own clock at the latest when so much is left, or two fifths of a shorter life. */
const RENEW_AHEAD_MS = 45_000;
/** As long as there is none: again after half of what is left, within these. */
const RENEW_LONGEST_MS = 30_000;
const RENEW_SHORTEST_MS = 50;
/** The longest time that every platform's timer can wait: 2^31 - 1 ms, some 24 days. */
const LONGEST_TIMER_MS = 2_147_483_647;
/** So long `getToken` and `getTicket` are waited for; what comes later counts no more. */
const ANSWER_DEADLINE_MS = 20_000;

export class Tokens {
  #options;
  #clock;
  #timers;
  #connection;
  #token;
  /** When the token expires, on the clock of `now`, and whether that was asked about already. */
  #expires = Infinity;
  #renewing = false;
  /** What `getToken` is being waited for, on whatever socket, and the `refresh` that is under way on this one. */
  #fetching = null;
  #refreshing = null;
  /** Of what is being waited for. It goes on where a connection ends, which the other timers do not. */
  #deadline;

  /** `connection` has `current()`, which is the socket that is live or `null`, `newId()` for a request, and `write(frame)`. */
  constructor(options, clock, timers, connection) {
    const { token, getToken, getTicket } = options;
    if (getTicket && (token || getToken)) throw new TypeError("`getTicket` takes the place of `token` and `getToken`: give one or the other");
    this.#options = options;
    this.#clock = clock;
    this.#timers = timers;
    this.#connection = connection;
    this.#deadline = new Timers(clock);
    this.#token = token;
  }

  /** Whether another one can be had once this one is over. */
  get renewable() {
    return Boolean(this.#options.getToken ?? this.#options.getTicket);
  }

  /** What the next socket is opened with, or `null` where nothing lets it in; rejects where that is not known now. */
  async door() {
    const { url, getTicket } = this.#options;
    if (getTicket) {
      const ticket = await this.#inTime(getTicket());
      return ticket ? { url: withTicket(url, ticket), protocols: [SUBPROTOCOL] } : null;
    }
    this.#token ??= await this.#fetch();
    return this.#token ? { url, protocols: [SUBPROTOCOL, `bearer.${this.#token}`] } : null;
  }

  /** Nobody waits for anything any more. */
  end() {
    this.#deadline.clear();
  }

  /** The token in use is over. */
  forget() {
    this.#token = undefined;
  }

  /** The connection is gone, and with it the answer to a `refresh`. */
  disconnected() {
    this.#refreshing = null;
  }

  /** The server has taken a token: whatever failed before is forgotten. */
  installed(life) {
    this.#expires = this.#clock.now() + life;
    this.#renewing = false;
    this.#renewIn(life - Math.min(0.4 * life, RENEW_AHEAD_MS));
  }

  /** The server says that so much is left. */
  announced(left) {
    if (this.#renewing) return;
    this.#expires = this.#clock.now() + left;
    this.#askForAnother();
  }

  /** Takes the answer to a `refresh`; says whether it was one. */
  answered(frame) {
    if (!this.#refreshing || frame.id !== this.#refreshing.id) return false;
    // One that is refused is not worth a connection either.
    if (!frame.ok) this.#token = this.#refreshing.before;
    this.#refreshing = null;
    if (frame.ok) this.#refreshed(seconds(frame.expires_in, Infinity));
    return true;
  }

  /** With the same token once more nothing has changed, and the next try stays where it is. */
  #refreshed(life) {
    const lastsLonger = this.#clock.now() + life > this.#expires + RENEW_SHORTEST_MS;
    if (life >= RENEW_SHORTEST_MS && lastsLonger) this.installed(life);
  }

  #renewIn(ms) {
    if (!this.#options.getToken || !Number.isFinite(ms)) return this.#timers.disarm("renew");
    const wait = Math.min(ms, LONGEST_TIMER_MS);
    return this.#timers.arm("renew", wait, () => (wait < ms ? this.#renewIn(ms - wait) : this.#askForAnother()));
  }

  /** Tries, and sees to the next try, which no answer has to wait for; the close by `token_expired` asks once more. */
  #askForAnother() {
    const left = this.#expires - this.#clock.now();
    const wait = Math.min(left / 2, RENEW_LONGEST_MS);
    this.#renewing = true;
    if (wait >= RENEW_SHORTEST_MS) this.#renewIn(wait);
    else this.#timers.disarm("renew");
    // One that was not answered until now is not waited for.
    this.#refreshing = null;
    this.#refresh();
  }

  async #refresh() {
    if (this.#fetching || !this.#options.getToken) return;
    const socket = this.#connection.current();
    try {
      const token = await this.#fetch();
      if (!token) return;
      const before = this.#token;
      // Good for the next socket where this one is gone.
      this.#token = token;
      if (this.#connection.current() !== socket) return;
      this.#refreshing = { id: this.#connection.newId(), before };
      this.#connection.write({ type: "refresh", id: this.#refreshing.id, token });
    } catch {
      // Not now; the token in use still holds.
    }
  }

  /** One call at a time: who asks meanwhile gets the same answer. */
  #fetch() {
    this.#fetching ??= this.#inTime(this.#options.getToken?.()).finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  /** What the application answers, or a rejection at the deadline: an answer that never comes must not end all tries. */
  #inTime(answer) {
    const first = new Promise((resolve, reject) => {
      this.#deadline.arm("answer", ANSWER_DEADLINE_MS, () => reject(new Error("no answer in time")));
      Promise.resolve(answer).then(resolve, reject);
    });
    return first.finally(() => this.#deadline.disarm("answer"));
  }
}

/** A ticket is the only thing that an address may carry: it is good for one upgrade. */
function withTicket(address, ticket) {
  const url = new URL(address);
  url.searchParams.set("ticket", ticket);
  return url.href;
}
