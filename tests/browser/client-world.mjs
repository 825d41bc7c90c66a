// What the tests of the client module are made of: a socket and a clock of their own.

import { START, connect } from "../../core/js/trunkline.js";

/** A clock that moves only when told. */
export class FakeClock {
  time = 0;
  timers = new Map();
  next = 1;
  now = () => this.time;
  setTimeout = (run, ms) => {
    this.timers.set(this.next, { run, at: this.time + ms });
    return this.next++;
  };
  clearTimeout = (id) => this.timers.delete(id);

  /** Lets time pass; each due timer fires at its own moment. */
  async pass(ms) {
    const until = this.time + ms;
    for (;;) {
      await settle();
      const due = [...this.timers].filter(([, timer]) => timer.at <= until).sort((a, b) => a[1].at - b[1].at)[0];
      if (!due) break;
      this.timers.delete(due[0]);
      this.time = due[1].at;
      due[1].run();
    }
    this.time = until;
    await settle();
  }
}

export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A client with everything around it that it asks for. `random` is 1, so that delays are the upper bounds. */
export async function world(options = {}) {
  const clock = new FakeClock();
  const sockets = [];
  class FakeSocket {
    constructor(url, protocols) {
      Object.assign(this, { url, protocols, sent: [], closed: null });
      sockets.push(this);
    }
    send(text) {
      this.sent.push(JSON.parse(text));
    }
    close(code, reason) {
      this.closed = { code, reason };
    }
    receive(frame) {
      this.onmessage({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    }
    drop(code = 1006, reason = "") {
      this.onclose({ code, reason });
    }
  }
  const seen = { states: [], events: [], resets: [] };
  const client = connect({
    url: "ws://test/ws",
    token: "T1",
    position: START,
    random: () => 1,
    WebSocket: FakeSocket,
    ...clock,
    onState: (state) => seen.states.push(state),
    onEvent: (event) => seen.events.push(event),
    onReset: (reset) => seen.resets.push(reset),
    ...options,
  });
  await settle();
  const made = { client, clock, sockets, ...seen, socket: () => sockets.at(-1), state: () => seen.states.at(-1) };
  /** Opens the newest socket and welcomes it at a position. */
  made.welcome = (eventId = "7-0", entry = {}, more = {}) => {
    made.socket().onopen({});
    const stream = { stream: "user", event_id: eventId, head: eventId, mode: "live", ...entry };
    made.socket().receive({ type: "welcome", session_id: "s1", heartbeat: { interval: 25, timeout: 10 }, streams: [stream], ...more });
  };
  return made;
}

/** What is thrown where nobody catches it. */
export function reported(t) {
  const errors = [];
  t.mock.method(globalThis, "queueMicrotask", (run) => {
    try {
      run();
    } catch (error) {
      errors.push(error.message);
    }
  });
  return errors;
}

/** A stream's entry in a welcome. */
export const live = (stream, eventId) => ({ stream, event_id: eventId, head: eventId, mode: "live" });

export const event = (seq, more = {}) => ({ type: "custom", event_id: `7-${seq}`, seq, name: "x", ...more });
