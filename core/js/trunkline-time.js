// Named timers, and the time as frames say it. A part of trunkline.js.

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
