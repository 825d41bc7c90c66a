// What the operators' page keeps of the figures, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Change, GAP_MS, History, KEPT_MS, Metrics, quantile, within } from "../../runtime-tokio/page/operators-data.js";

const sample = (value, labels) => ({ value, ...(labels && { labels }) });
const counter = (value) => [{ name: "x_total", samples: [sample(value)] }];
const server = (time, metrics, started = 1) => ({ started, time, metrics });
const derive = ({ metrics }, change) => ({ total: metrics.get("x_total"), rate: change?.rate("x_total") ?? null });

/** A history with these answers, a second apart. */
function historyOf(...values) {
  const history = new History(derive);
  values.forEach((value, index) => history.take(index * 1_000, server(100 + index, counter(value))));
  return history;
}

const of = (history, key) => history.samples.map(({ values }) => values[key]);
const gaps = (history) => history.samples.map(({ gap }) => gap);

test("a metric is asked by some of its labels, and what is not there is not nought", () => {
  const samples = [sample(3, { stream: "user", outcome: "live" }), sample(4, { stream: "topic", outcome: "live" }), sample(5, { stream: "user", outcome: "new" })];
  const metrics = new Metrics([{ name: "r", samples }]);
  assert.deepEqual([metrics.get("r"), metrics.get("r", { outcome: "live" }), metrics.get("r", { outcome: "no" }), metrics.get("q")], [12, 7, null, null]);
  assert.deepEqual([...metrics.by("r", "outcome")], [["live", 7], ["new", 5]]);
  assert.deepEqual([...metrics.by("r", "outcome", "stream")], [["live user", 3], ["live topic", 4], ["new user", 5]]);
  assert.equal(new Metrics(undefined).get("r"), null);
});

test("a rate is the difference over the server's own time, of five seconds at most", () => {
  assert.deepEqual(of(historyOf(10, 12, 16), "rate"), [null, 2, 3]);
  const long = historyOf(...Array.from({ length: 20 }, (_, second) => (second < 10 ? 0 : 7 * (second - 9))));
  assert.deepEqual(of(long, "rate").slice(-3), [7, 7, 7]);
});

test("a restart begins anew behind a gap, also where only the counter tells of it", () => {
  const history = historyOf(10, 12);
  history.take(2_000, server(3, counter(1), 2));
  history.take(3_000, server(4, counter(5), 2));
  assert.deepEqual(of(history, "rate"), [null, 2, null, 4]);
  assert.deepEqual(gaps(history), ["start", null, "restart", null]);
  assert.equal(new Change({ time: 1, metrics: new Metrics(counter(9)) }, { time: 2, metrics: new Metrics(counter(1)) }).rate("x_total"), null);
});

test("what was not seen is a gap with its reason, and no rate goes across it", () => {
  const history = historyOf(10, 12);
  history.pause("hidden");
  history.pause("offline");
  history.take(60_000, server(160, counter(500)));
  history.take(61_000, server(161, counter(502)));
  history.take(61_000 + GAP_MS + 1, server(165, counter(600)));
  assert.deepEqual(gaps(history), ["start", null, "hidden", null, "silence"]);
  assert.deepEqual(of(history, "rate"), [null, 2, null, 2, null]);
  assert.deepEqual(history.stretches().map((stretch) => stretch.length), [2, 2, 1]);
  assert.equal(history.near(30_000), null);
  assert.equal(history.near(59_000).at, 60_000);
});

test("a server's clock that is set back is no restart, and no rate goes across it", () => {
  const history = historyOf(10, 12);
  for (const [index, time] of [100.5, 101.5, 102.5].entries()) history.take(2_000 + index * 1_000, server(time, counter(14 + index * 3)));
  assert.deepEqual(gaps(history), ["start", null, null, null, null]);
  assert.deepEqual(of(history, "rate"), [null, 2, null, 3, 3]);
  // Also by more than the time that a rate is of.
  history.take(5_000, server(2.5, counter(30)));
  history.take(6_000, server(3.5, counter(34)));
  assert.deepEqual([gaps(history).slice(-2), of(history, "rate").slice(-2)], [[null, null], [null, 4]]);
});

test("samples are in the order of time, whatever clock they come by", () => {
  const history = historyOf(10, 12, 14);
  history.take(500, server(103, counter(16)));
  history.take(1_500, server(104, counter(18)));
  assert.deepEqual(history.samples.map(({ at }) => at), [500, 1_500]);
  assert.deepEqual([gaps(history), of(history, "rate")], [["start", null], [null, 2]]);
  history.clear();
  assert.deepEqual([history.samples, history.last, history.metrics.get("x_total")], [[], null, null]);
});

test("what is waited for comes in time or not at all", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  assert.equal(await within(10_000, Promise.resolve(1)), 1);
  await assert.rejects(within(10_000, Promise.reject(new Error("no"))), /^Error: no$/);
  const late = within(10_000, new Promise(() => {}));
  t.mock.timers.tick(10_000);
  await assert.rejects(late, { code: "no_answer" });
});

test("ten minutes are kept", () => {
  const history = historyOf(...Array.from({ length: 900 }, (_, second) => second));
  assert.equal(history.samples.length, KEPT_MS / 1_000 + 1);
  assert.deepEqual(history.summary("total"), { lowest: 299, mean: 599, highest: 899 });
  assert.deepEqual([history.ago(60_000, "total"), history.ago(KEPT_MS * 2, "total")], [839, null]);
  assert.deepEqual(historyOf().summary("total"), { lowest: null, mean: null, highest: null });
});

test("a share of a histogram lies within its bucket, and beyond the last bound at that bound", () => {
  assert.equal(quantile(0.5, [[1, 0], [2, 0], [Infinity, 0]]), null);
  assert.equal(quantile(0.5, []), null);
  assert.equal(quantile(0.5, [[1, 10], [2, 10], [Infinity, 10]]), 0.5);
  assert.equal(quantile(0.5, [[1, 2], [3, 10], [Infinity, 10]]), 1.75);
  assert.equal(quantile(0.99, [[1, 2], [3, 2], [Infinity, 10]]), 3);
});

test("a histogram's share is that of what is new in it", () => {
  const buckets = (...values) => [{ name: "s_bucket", samples: ["0.1", "1", "+Inf"].map((le, index) => sample(values[index], { le })) }];
  const at = (time, ...values) => ({ time, metrics: new Metrics(buckets(...values)) });
  assert.equal(new Change(at(1, 100, 100, 100), at(2, 100, 110, 110)).quantile(0.5, "s"), 0.55);
  assert.equal(new Change(at(1, 100, 100, 100), at(2, 100, 100, 100)).quantile(0.5, "s"), null);
});
