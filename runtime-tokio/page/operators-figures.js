// The server's figures: which there are, what they are made of, and the panels beside the plots.

import { History } from "./operators-data.js";
import { UNKNOWN, bytes, count, latency, rate, span, syncRows } from "./operators-dom.js";
import { Cursor, PlotCard } from "./operators-plots.js";
import { $, element, setAttribute, setText, svg } from "./page-dom.js";
import { closeName } from "./trunkline.js";

const OUTCOMES = ["live", "replay", "snapshot", "reset", "new"];
const LEVELS = { normal: "Normal service", degraded: "Limited service", emergency: "Emergency service" };
const BUDGETS = { logs: "Logs", snapshots: "Snapshots", keys: "Keys", inbound: "Inbound" };
/** From such a share on a budget is worth a look, and from such a one it is short. */
const HIGH = 0.7;
const FULL = 0.9;

/** The values of one answer, by the keys of the series below. */
function derive({ metrics }, change) {
  const resumes = OUTCOMES.map((outcome) => [`resumes_${outcome}`, change?.rate("trunkline_resumes_total", { outcome }) ?? null]);
  return {
    device: metrics.get("trunkline_connections", { kind: "device" }),
    producer: metrics.get("trunkline_connections", { kind: "producer" }),
    connected: metrics.get("trunkline_users", { state: "connected" }),
    kept: metrics.get("trunkline_users", { state: "kept" }),
    deliveries: change?.rate("trunkline_deliveries_total") ?? null,
    events: change?.rate("trunkline_events_total") ?? null,
    latency_p50: change?.quantile(0.5, "trunkline_delivery_seconds") ?? null,
    latency_p99: change?.quantile(0.99, "trunkline_delivery_seconds") ?? null,
    lagging: metrics.get("trunkline_lagging_streams"),
    behind_p50: change?.quantile(0.5, "trunkline_behind_events") ?? null,
    behind_p99: change?.quantile(0.99, "trunkline_behind_events") ?? null,
    queue: metrics.get("trunkline_queue_bytes"),
    queue_max: metrics.get("trunkline_queue_bytes_max"),
    runs: metrics.get("trunkline_runs_open"),
    requests: metrics.get("trunkline_requests_open"),
    ...Object.fromEntries(resumes),
  };
}

const sum = (...values) => (values.every((value) => value == null) ? null : values.reduce((all, value) => all + (value ?? 0), 0));

const CARDS = [
  {
    id: "connections",
    title: "Connections",
    unit: "this page is one",
    series: [{ key: "device", label: "devices" }, { key: "producer", label: "producers" }],
    format: count,
    headline: ({ device, producer }) => [count(sum(device, producer))],
  },
  {
    id: "users",
    title: "Users",
    unit: "connected",
    series: [{ key: "connected", label: "connected" }, { key: "kept", label: "kept, nobody here" }],
    format: count,
    headline: ({ connected }) => [count(connected)],
  },
  {
    id: "deliveries",
    title: "Deliveries",
    unit: "a second",
    series: [{ key: "deliveries", label: "delivered" }, { key: "events", label: "new events" }],
    format: rate,
    headline: ({ deliveries }) => [rate(deliveries)],
  },
  {
    id: "latency",
    title: "Delivery latency",
    unit: "log to socket",
    series: [{ key: "latency_p50", label: "p50" }, { key: "latency_p99", label: "p99" }],
    format: latency,
    headline: ({ latency_p50: p50, latency_p99: p99 }) => [latency(p99), p50 === null ? "none delivered" : "p99"],
  },
  {
    id: "runs",
    title: "Open runs",
    unit: "",
    series: [{ key: "runs", label: "runs" }, { key: "requests", label: "requests unanswered" }],
    format: count,
    headline: ({ runs }) => [count(runs)],
  },
  {
    id: "lag",
    title: "Lag",
    unit: "streams, and events behind",
    series: [{ key: "behind_p50", label: "p50 behind" }, { key: "behind_p99", label: "p99" }],
    format: count,
    headline: ({ lagging }) => [count(lagging), "merging"],
  },
  {
    id: "queue",
    title: "Queues",
    unit: "control frames waiting",
    series: [{ key: "queue", label: "all" }, { key: "queue_max", label: "fullest" }],
    format: bytes,
    headline: ({ queue }) => [bytes(queue)],
    base: 2,
  },
  {
    id: "resumes",
    title: "Resumes",
    unit: "a second, by outcome",
    series: OUTCOMES.map((outcome) => ({ key: `resumes_${outcome}`, label: outcome })),
    format: rate,
    headline: (values) => [rate(sum(...OUTCOMES.map((outcome) => values[`resumes_${outcome}`])))],
    stacked: true,
  },
];

/** All of it, once for the page. `take` gets the answers of `inspect`, `draw` shows the time passing, `reset` empties it. */
export class Figures {
  #history = new History(derive);
  #cursor = new Cursor();
  #cards;
  #server = null;
  /** The counters of closes when this login first saw them, of this start of the server. */
  #closesAtFirst = new Map();
  #closesOf = null;

  constructor() {
    this.#cards = CARDS.map((options) => new PlotCard(this.#history, this.#cursor, options));
    $("plots").replaceChildren(...this.#cards.map(({ root }) => root));
    $("all-figures").addEventListener("toggle", () => this.#drawTable());
  }

  /** Nothing of what one operator was shown is left to the next. */
  reset() {
    this.#history.clear();
    this.#cursor.move(null);
    this.#server = null;
    this.#closesOf = null;
    $("service-level").removeAttribute("data-tone");
    setText($("service-level"), "…");
    $("draining").hidden = true;
    for (const id of ["service-reason", "dependencies", "server-uptime", "server-version", "budgets", "closes", "all-figures-rows"]) $(id).replaceChildren();
    this.draw();
  }

  pause(reason) {
    this.#history.pause(reason);
  }

  take(server) {
    this.#server = server;
    this.#history.take(performance.now(), server);
    this.#drawService();
    this.#drawBudgets(this.#metrics);
    this.#drawCloses(this.#metrics);
    this.draw();
  }

  draw() {
    const now = performance.now();
    for (const card of this.#cards) card.draw(now);
    this.#drawTable();
  }

  get #metrics() {
    return this.#history.metrics;
  }

  #drawService() {
    const { level, reason, ordered, draining, dependencies, started, time, version } = this.#server;
    const badge = $("service-level");
    badge.dataset.tone = { normal: "good", degraded: "warn", emergency: "bad" }[level] ?? "bad";
    setText(badge, LEVELS[level] ?? level);
    setText($("service-reason"), [reason, ordered ? `ordered: ${ordered}` : ""].filter(Boolean).join(" · "));
    $("draining").hidden = !draining;
    $("drain").disabled = draining;
    setText($("server-version"), version);
    setText($("server-uptime"), span(time - started));
    const unwell = (dependencies ?? []).map(({ name, level: state, reason: why }) => dependencyBadge(name, state, why));
    const none = element("span", { class: "hint" }, "none unwell");
    $("dependencies").replaceChildren(...(unwell.length > 0 ? unwell : [none]));
  }

  #drawBudgets(metrics) {
    const memory = Object.entries(BUDGETS).map(([kind, label]) => ({
      key: kind,
      label,
      used: metrics.get("trunkline_memory_bytes", { kind }),
      most: metrics.get("trunkline_memory_limit_bytes", { kind }),
      format: bytes,
    }));
    const of = (state) => metrics.get("trunkline_sockets", { state });
    const sockets = [
      { key: "sockets", label: "Sockets", used: sum(of("authenticated"), of("unauthenticated")), most: metrics.get("trunkline_sockets_limit", { state: "all" }), format: count },
      { key: "strangers", label: "… logging in", used: of("unauthenticated"), most: metrics.get("trunkline_sockets_limit", { state: "unauthenticated" }), format: count },
    ];
    syncRows($("budgets"), [...memory, ...sockets].filter(({ used }) => used !== null), { key: ({ key }) => key, make: budgetRow, update: updateBudget });
  }

  #drawCloses(metrics) {
    const closes = metrics.by("trunkline_closes_total", "code", "by");
    if (this.#closesOf !== this.#server.started) {
      this.#closesOf = this.#server.started;
      this.#closesAtFirst = closes;
    }
    const rows = [...closes].filter(([, total]) => total > 0).sort(([, a], [, b]) => b - a);
    const most = Math.max(1, ...rows.map(([, total]) => total));
    $("closes-none").hidden = rows.length > 0;
    $("closes-table").hidden = rows.length === 0;
    const entries = rows.map(([key, total]) => ({ key, total, seen: total - (this.#closesAtFirst.get(key) ?? 0), share: total / most }));
    syncRows($("closes"), entries, { key: ({ key }) => key, make: closeRow, update: updateClose });
  }

  /** What the plots show, in words and numbers; written only while somebody has it open. */
  #drawTable() {
    if (!$("all-figures").open) return;
    const series = CARDS.flatMap(({ title, series: some, format }) => some.map(({ key, label }) => ({ key, name: `${title}: ${label}`, format })));
    const make = ({ name }) => element("tr", {}, element("th", { scope: "row" }, name), ...Array.from({ length: 6 }, () => element("td", {})));
    const update = (row, { key, format }) => {
      const { lowest, mean, highest } = this.#history.summary(key);
      const values = [this.#history.last?.values[key], this.#history.ago(60_000, key), this.#history.ago(300_000, key), lowest, mean, highest];
      values.forEach((value, index) => setText(row.cells[index + 1], format(value ?? null)));
    };
    syncRows($("all-figures-rows"), series, { key: ({ key }) => key, make, update });
  }
}

function dependencyBadge(name, level, reason) {
  const tone = { normal: "good", degraded: "warn", emergency: "bad" }[level] ?? "warn";
  return element("span", { class: "badge", "data-tone": tone }, `${name}: ${level}${reason ? ` (${reason})` : ""}`);
}

function budgetRow({ label }) {
  const bar = svg("svg", { class: "bar", "aria-hidden": "true" }, svg("rect", { class: "rail", width: "100%", height: "100%", rx: 3 }), svg("rect", { class: "fill", height: "100%", rx: 3 }));
  const meter = element("div", { role: "meter", "aria-label": label, "aria-valuemin": "0" }, bar);
  return element("tr", {}, element("th", { scope: "row" }, label), element("td", { class: "amount" }), element("td", { class: "bar-cell" }, meter));
}

function updateBudget(row, { used, most, format }) {
  const share = most ? Math.min(1, used / most) : 0;
  const meter = row.querySelector("[role=meter]");
  const fill = row.querySelector(".fill");
  setText(row.cells[1], `${format(used)} of ${most ? format(most) : UNKNOWN}`);
  setAttribute(meter, "aria-valuemax", most ?? 0);
  setAttribute(meter, "aria-valuenow", Math.min(used, most ?? used));
  setAttribute(meter, "aria-valuetext", `${Math.round(share * 100)} %`);
  setAttribute(fill, "width", `${(share * 100).toFixed(1)}%`);
  setAttribute(fill, "data-tone", share >= FULL ? "bad" : share >= HIGH ? "warn" : "good");
}

function closeRow({ key }) {
  const [code, by] = key.split(" ");
  const bar = svg("svg", { class: "bar", "aria-hidden": "true" }, svg("rect", { class: "fill", height: "100%", rx: 3 }));
  const name = { none: "the line broke", other: "others" }[code] ?? closeName(Number(code));
  // A long name breaks behind its underscores.
  const words = name.split(/(?<=_)/).flatMap((word, index) => (index > 0 ? [element("wbr"), word] : [word]));
  const who = ["server", "client"].includes(by) ? by : UNKNOWN;
  const numbers = [element("td", { class: "number" }), element("td", { class: "number" })];
  const cells = [element("th", { scope: "row" }, code), element("td", {}, ...words), element("td", {}, who), ...numbers, element("td", { class: "bar-cell" }, bar)];
  return element("tr", { "data-testid": "close" }, ...cells);
}

function updateClose(row, { total, seen, share }) {
  setText(row.cells[3], count(seen));
  setText(row.cells[4], count(total));
  setAttribute(row.querySelector(".fill"), "width", `${Math.max(2, share * 100).toFixed(1)}%`);
}
