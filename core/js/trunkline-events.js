// Who listens to a client, and the events as something to iterate over. A part of trunkline.js.

import { RequestError } from "./trunkline-stream.js";

/** So many events, and so many letters of their frames, wait for whoever iterates, and no more. */
const MOST_WAITING = 10_000;
const MOST_LETTERS = 16 << 20;

/** Says a listener's own mistake as any other that nobody has caught, and goes on. */
export function report(error) {
  queueMicrotask(() => {
    throw error;
  });
}

/** Listeners by the name of what they listen to. */
export class Listeners {
  #all;

  constructor(names) {
    this.#all = new Map(names.map((name) => [name, new Set()]));
  }

  /** Adds one; answers what takes it out again. */
  add(name, listener) {
    const some = this.#all.get(name);
    if (!some) throw new TypeError(`there is no listener "${name}", but one of: ${[...this.#all.keys()].join(", ")}`);
    // Of the same function given twice each is one of its own.
    const own = (...values) => listener(...values);
    some.add(own);
    return () => some.delete(own);
  }

  /** Tells all of them. One that throws keeps the others from nothing. */
  tell(name, ...values) {
    const some = this.#all.get(name);
    for (const listener of [...some]) {
      if (!some.has(listener)) continue;
      try {
        listener(...values);
      } catch (error) {
        report(error);
      }
    }
  }
}

/**
 * An async iterator over what comes from here on. `listen(push, end)` begins to push values with their sizes and answers what ends that.
 * Whoever takes too slowly is told so by a `RequestError` with the code `overrun`, after what has waited: what came then is missing to
 * it alone.
 */
export function iterate(listen) {
  const waiting = [];
  const takers = [];
  let letters = 0;
  let over = null;
  const end = (error = null) => {
    if (over) return;
    over = { error };
    stop();
    for (const taker of takers.splice(0)) settle(taker);
  };
  const push = (value, size) => {
    if (over) return undefined;
    if (takers.length > 0) return takers.shift().resolve({ value, done: false });
    letters += size;
    if (waiting.push({ value, size }) < MOST_WAITING && letters < MOST_LETTERS) return undefined;
    return end(new RequestError({ code: "overrun", message: "events are taken too slowly" }));
  };
  // The error is said once; after it, it is over.
  const settle = ({ resolve, reject }) => {
    const { error } = over;
    over = { error: null };
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  };
  const take = () => {
    const { value, size } = waiting.shift();
    letters -= size;
    return { value, done: false };
  };
  const stop = listen(push, end);
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next() {
      if (waiting.length > 0) return Promise.resolve(take());
      return new Promise((resolve, reject) => (over ? settle({ resolve, reject }) : takers.push({ resolve, reject })));
    },
    return() {
      waiting.length = 0;
      end();
      over = { error: null };
      return Promise.resolve({ value: undefined, done: true });
    },
  };
}
