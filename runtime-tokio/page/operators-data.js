// What the page keeps of the server's figures: ten minutes of samples, with gaps where it knows nothing. No page is needed here.

export const KEPT_MS = 10 * 60_000;
/** A sample that comes so long after the last one leaves a gap between them. */
export const GAP_MS = 3_500;
/** Rates and shares are those of so much time. */
const WINDOW_S = 5;

/** What a promise comes to within so long, or a rejection with the code `no_answer`: what comes later is nobody's. */
export function within(ms, promise) {
  return new Promise((resolve, reject) => {
    const late = Object.assign(new Error("no answer came"), { code: "no_answer", temporary: true });
    const timer = setTimeout(() => reject(late), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** One answer's metrics, to be asked by name and labels. */
export class Metrics {
  #samples = new Map();

  constructor(metrics) {
    for (const { name, samples } of metrics ?? []) this.#samples.set(name, samples ?? []);
  }

  /** The sum of the samples whose labels are these; `null` where there is none. */
  get(name, labels = {}) {
    const wanted = Object.entries(labels);
    const some = this.#all(name).filter(({ labels: own = {} }) => wanted.every(([key, value]) => own[key] === value));
    return some.length > 0 ? some.reduce((sum, { value }) => sum + value, 0) : null;
  }

  /** The values of one label, or of some with a space between them, with those of the metric. */
  by(name, ...wanted) {
    const sums = new Map();
    for (const { labels, value } of this.#all(name)) {
      const key = wanted.map((label) => labels?.[label] ?? "").join(" ");
      sums.set(key, (sums.get(key) ?? 0) + value);
    }
    return sums;
  }

  #all(name) {
    return this.#samples.get(name) ?? [];
  }
}

/** What happened between two answers of one server, of which `after` is the later one. */
export class Change {
  constructor(before, after) {
    this.before = before;
    this.after = after;
    this.seconds = after.time - before.time;
  }

  /** By how much a counter rose; `null` where it is not known, or fell, as in a server that is new. */
  rise(name, labels) {
    const [from, to] = [this.before.metrics.get(name, labels) ?? 0, this.after.metrics.get(name, labels)];
    return to === null || to < from ? null : to - from;
  }

  rate(name, labels) {
    const rise = this.rise(name, labels);
    return rise === null || this.seconds <= 0 ? null : rise / this.seconds;
  }

  /** Below what value such a share of a histogram's new entries is; `null` where there are none. */
  quantile(share, name) {
    return quantile(share, rises(this.before.metrics.by(`${name}_bucket`, "le"), this.after.metrics.by(`${name}_bucket`, "le")));
  }
}

/** `[bound, new entries up to it]`, by bound. */
function rises(before, after) {
  const some = [...after].map(([le, value]) => [le === "+Inf" ? Infinity : Number(le), value - (before.get(le) ?? 0)]);
  return some.sort(([a], [b]) => a - b);
}

/**
 * Within a bucket the entries are taken to lie evenly. Of those beyond the last bound nothing but that is known, so it is answered.
 */
export function quantile(share, buckets) {
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!(total > 0)) return null;
  const wanted = share * total;
  const at = buckets.findIndex(([, upTo]) => upTo >= wanted);
  const [bound, upTo] = buckets[at];
  const [from, below] = at > 0 ? buckets[at - 1] : [0, 0];
  if (bound === Infinity) return from;
  return upTo === below ? bound : from + ((bound - from) * (wanted - below)) / (upTo - below);
}

/**
 * Samples in the order of time: `{at, values, gap}`. `gap` says why there is nothing between this one and the one before, or is `null`;
 * the values of a sample are numbers, or `null` where they are not known.
 */
export class History {
  samples = [];
  #answers = [];
  #derive;
  #gap = "start";

  /** `derive(answer, change)` makes the values of an answer; `change` is `null` where there is nothing to compare it with. */
  constructor(derive) {
    this.#derive = derive;
  }

  get last() {
    return this.samples.at(-1) ?? null;
  }

  /** Of the last answer. */
  get metrics() {
    return this.#answers.at(-1)?.metrics ?? new Metrics();
  }

  /** From here on nothing is known, for this reason, until the next answer. */
  pause(reason) {
    if (this.#gap === null) this.#gap = reason;
  }

  /** Forgets everything. */
  clear() {
    this.samples = [];
    this.#answers = [];
    this.#gap = "start";
  }

  /** Takes an answer of `inspect` that came at `at`, in milliseconds of a clock that nobody sets. */
  take(at, server) {
    if (this.last && at < this.last.at) this.clear();
    const answer = { at, started: server.started, time: server.time, metrics: new Metrics(server.metrics), server };
    const before = this.#answers.at(-1);
    if (before && before.started !== answer.started) this.#gap = "restart";
    else if (before && at - before.at > GAP_MS) this.pause("silence");
    // What was before a gap is no measure of what comes after it, nor is a time that the server's clock has still ahead.
    if (this.#gap !== null || answer.time < before.time) this.#answers = [];
    this.#answers = [...this.#answers.filter(({ time }) => answer.time - time <= WINDOW_S), answer];
    const [oldest] = this.#answers;
    const change = oldest === answer ? null : new Change(oldest, answer);
    this.samples.push({ at, gap: this.#gap, values: this.#derive(answer, change) });
    this.#gap = null;
    while (at - this.samples[0].at > KEPT_MS) this.samples.shift();
    return this.last;
  }

  /** The stretches without a gap in them. */
  stretches() {
    const all = [];
    for (const sample of this.samples) {
      if (sample.gap !== null || all.length === 0) all.push([]);
      all.at(-1).push(sample);
    }
    return all;
  }

  /** The sample nearest to a moment, or `null` where that is in a gap. */
  near(at) {
    const near = this.samples.reduce((best, one) => (!best || Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best), null);
    return near && Math.abs(near.at - at) <= GAP_MS ? near : null;
  }

  /** A series as a few numbers. */
  summary(key) {
    const known = this.samples.map(({ values }) => values[key]).filter((value) => value != null);
    if (known.length === 0) return { lowest: null, mean: null, highest: null };
    return { lowest: Math.min(...known), mean: known.reduce((sum, value) => sum + value, 0) / known.length, highest: Math.max(...known) };
  }

  /** The value so long ago, or `null`. */
  ago(ms, key) {
    return this.last ? (this.near(this.last.at - ms)?.values[key] ?? null) : null;
  }
}
