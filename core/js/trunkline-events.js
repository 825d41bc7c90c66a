// Who listens to a client, and the events as something to iterate over. A part of trunkline.js.

import { RequestError } from "./trunkline-stream.js";

/** So many events wait for whoever iterates, and no more. */
const MOST_WAITING = 10_000;

/** Listeners by the name of what they listen to. */
export class Listeners {
  #all = new Map();

  /** Adds one; answers what takes it out again. */
  add(name, listener) {
    const some = this.#all.get(name) ?? new Set();
    // Of the same function given twice each is one of its own.
    const own = (value) => listener(value);
    this.#all.set(name, some.add(own));
    return () => some.delete(own);
  }

  /** Tells all of them. A listener's own mistake is said, and keeps the others from nothing. */
  tell(name, value) {
    for (const listener of [...(this.#all.get(name) ?? [])]) {
      try {
        listener(value);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/**
 * An async iterator over what comes from here on. `listen(push, end)` begins to push into it and answers what ends that. Whoever takes
 * too slowly is told so by a `RequestError` with the code `overrun`, after what has waited: what came then is missing to it alone.
 */
export function iterate(listen) {
  const waiting = [];
  const takers = [];
  let over = null;
  const end = (error = null) => {
    if (over) return;
    over = { error };
    stop();
    for (const taker of takers.splice(0)) settle(taker);
  };
  const push = (value) => {
    if (takers.length > 0) takers.shift().resolve({ value, done: false });
    else if (waiting.push(value) >= MOST_WAITING) end(new RequestError({ code: "overrun", message: "events are taken too slowly" }));
  };
  // The error is said once; after it, it is over.
  const settle = ({ resolve, reject }) => {
    const { error } = over;
    over = { error: null };
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  };
  const stop = listen(push, end);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next() {
      if (waiting.length > 0) return Promise.resolve({ value: waiting.shift(), done: false });
      return new Promise((resolve, reject) => (over ? settle({ resolve, reject }) : takers.push({ resolve, reject })));
    },
    return() {
      waiting.length = 0;
      end();
      return Promise.resolve({ value: undefined, done: true });
    },
  };
}
