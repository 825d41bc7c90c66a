// Plots of what the history holds: lines, or shares that stand on each other, with one cursor for all of them.

import { UNKNOWN, clock, span } from "./operators-dom.js";
import { GAP_MS, KEPT_MS } from "./operators-data.js";
import { element, setAttribute, setText, svg } from "./page-dom.js";

const WIDTH = 600;
const HEIGHT = 100;
/** As little as this is shown, so that a page that has just come is no flat line. */
const SHORTEST_MS = 60_000;
/** How far the arrow keys go. */
const STEP_MS = 1_000;
const STRIDE_MS = 30_000;
const GAP_REASONS = { hidden: "the page was hidden", offline: "there was no connection", restart: "the server was restarted", silence: "no answer came" };

/** The moment that all plots show: `null` while that is now. */
export class Cursor {
  at = null;
  #listeners = new Set();

  follow(listener) {
    this.#listeners.add(listener);
  }

  move(at) {
    this.at = at;
    for (const listener of this.#listeners) listener();
  }
}

/**
 * A card: title, the figure of now, the plot and its legend. `series` are `{key, label}`, `format` writes a value of theirs,
 * `headline(values)` is the large figure with what stands beside it, and the scale ends at a round number of `base`.
 */
export class PlotCard {
  #history;
  #cursor;
  #options;
  #view = { from: 0, to: 1, most: 1 };

  constructor(history, cursor, { id, title, unit, series, format, headline, stacked = false, base = 10 }) {
    this.#history = history;
    this.#cursor = cursor;
    this.#options = { title, series, format, headline, stacked, base };
    this.value = element("span", { class: "value", "data-testid": `figure-${id}` }, UNKNOWN);
    this.beside = element("span", { class: "beside" });
    this.gaps = svg("g", { class: "gaps" });
    this.area = svg("path", { class: "area s1" });
    this.shapes = series.map((_, index) => svg("path", { class: `${stacked ? "share" : "line"} s${index + 1}`, "vector-effect": "non-scaling-stroke" }));
    this.hair = svg("line", { class: "hair", y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke", visibility: "hidden" });
    const canvas = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, this.gaps, this.area, ...this.shapes, this.hair);
    this.plot = element("div", { class: "plot", role: "slider", tabindex: "0", "aria-label": `${title}, by time`, "aria-valuenow": "0", "aria-valuemax": "0" }, canvas);
    this.most = element("span", { class: "most", "aria-hidden": "true" });
    this.begin = element("span", {});
    this.moment = element("span", { class: "moment" });
    this.known = series.map(() => element("b", {}, UNKNOWN));
    this.root = element(
      "article",
      { class: "card figure", "data-testid": `card-${id}`, "aria-labelledby": `title-${id}` },
      element("header", {}, element("h3", { id: `title-${id}` }, title), element("span", { class: "unit" }, unit)),
      element("p", { class: "now" }, this.value, this.beside),
      element("div", { class: "canvas" }, this.most, this.plot),
      element("p", { class: "axis", "aria-hidden": "true" }, this.begin, this.moment, element("span", {}, "now")),
      element("ul", { class: "legend" }, ...series.map(({ label }, index) => legendEntry(label, index, this.known[index]))),
    );
    this.#listen();
  }

  /** Draws what there is at `now`, on the clock of the samples, which is `performance.now()`. */
  draw(now) {
    const { last, samples } = this.#history;
    const shown = Math.min(KEPT_MS, Math.max(SHORTEST_MS, samples.length > 0 ? now - samples[0].at : 0));
    this.#view = { from: now - shown, to: now, most: this.#most() };
    const { headline, format, series } = this.#options;
    const fresh = last !== null && now - last.at <= GAP_MS;
    const [value, beside = ""] = fresh ? headline(last.values) : [UNKNOWN];
    setText(this.value, value);
    setText(this.beside, beside);
    setText(this.begin, `−${span(shown / 1000)}`);
    setText(this.most, format(this.#view.most));
    setAttribute(this.plot, "aria-valuemin", -Math.round(shown / 1000));
    this.#drawGaps();
    this.#drawSeries();
    this.#drawCursor();
  }

  #drawSeries() {
    const { series, stacked } = this.#options;
    const floors = new Map();
    series.forEach(({ key }, index) => setAttribute(this.shapes[index], "d", stacked ? this.#share(key, floors) : this.#line(key)));
    if (!stacked) setAttribute(this.area, "d", this.#share(series[0].key, new Map()));
  }

  #most() {
    const { series, stacked, base } = this.#options;
    const heights = this.#history.samples.map(({ values }) => {
      const known = series.map(({ key }) => values[key] ?? 0);
      return stacked ? known.reduce((sum, value) => sum + value, 0) : Math.max(...known);
    });
    return roundUp(Math.max(0, ...heights), base);
  }

  #x(at) {
    const { from, to } = this.#view;
    return fixed(((at - from) / (to - from)) * WIDTH);
  }

  #y(value) {
    return fixed(HEIGHT - 2 - (value / this.#view.most) * (HEIGHT - 6));
  }

  #drawGaps() {
    const { samples } = this.#history;
    const between = samples.flatMap(({ at, gap }, index) => (gap !== null && index > 0 ? [[samples[index - 1].at, at]] : []));
    const last = samples.at(-1);
    if (last && this.#view.to - last.at > GAP_MS) between.push([last.at, this.#view.to]);
    while (this.gaps.childElementCount > between.length) this.gaps.lastChild.remove();
    while (this.gaps.childElementCount < between.length) this.gaps.append(svg("rect", { y: 0, height: HEIGHT }));
    between.forEach(([from, to], index) => {
      const place = this.gaps.children[index];
      setAttribute(place, "x", this.#x(from));
      setAttribute(place, "width", fixed(Math.max(1, this.#x(to) - this.#x(from))));
    });
  }

  #line(key) {
    const parts = this.#known(key).map((stretch) => {
      const [first, ...rest] = stretch.map(({ at, value }) => `${this.#x(at)} ${this.#y(value)}`);
      // A point alone is a line without a length, which its round ends show.
      return `M${first}${rest.length > 0 ? rest.map((point) => `L${point}`).join("") : "h0.01"}`;
    });
    return parts.join("");
  }

  /** An area on top of what is in `floors`, which it raises. */
  #share(key, floors) {
    const parts = this.#known(key).map((stretch) => {
      const edge = (lifted) => stretch.map(({ at, value }) => `${this.#x(at)} ${this.#y((floors.get(at) ?? 0) + (lifted ? value : 0))}`);
      const [upper, lower] = [edge(true), edge(false).reverse()];
      for (const { at, value } of stretch) floors.set(at, (floors.get(at) ?? 0) + value);
      return `M${upper.join("L")}L${lower.join("L")}Z`;
    });
    return parts.join("");
  }

  /** The stretches of one series in which it is known throughout. */
  #known(key) {
    const all = [];
    for (const stretch of this.#history.stretches()) {
      let open = null;
      for (const { at, values } of stretch) {
        const value = values[key];
        if (value == null) open = null;
        else if (open) open.push({ at, value });
        else all.push((open = [{ at, value }]));
      }
    }
    return all;
  }

  // --- the cursor

  #listen() {
    const { plot } = this;
    this.#cursor.follow(() => this.#drawCursor());
    const moveTo = (event) => {
      const box = plot.getBoundingClientRect();
      const { from, to } = this.#view;
      this.#cursor.move(from + ((event.clientX - box.left) / box.width) * (to - from));
    };
    plot.addEventListener("pointermove", moveTo);
    plot.addEventListener("pointerdown", moveTo);
    plot.addEventListener("pointerleave", () => this.#cursor.move(null));
    plot.addEventListener("focus", () => this.#say());
    plot.addEventListener("blur", () => this.#cursor.move(null));
    plot.addEventListener("keydown", (event) => this.#step(event));
  }

  #step(event) {
    const { from, to } = this.#view;
    const at = this.#cursor.at ?? to;
    const places = {
      ArrowLeft: at - STEP_MS,
      ArrowDown: at - STEP_MS,
      ArrowRight: at + STEP_MS,
      ArrowUp: at + STEP_MS,
      PageDown: at - STRIDE_MS,
      PageUp: at + STRIDE_MS,
      Home: from,
      End: to,
      Escape: null,
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    const place = places[event.key];
    this.#cursor.move(place === null || place >= to ? null : Math.max(from, place));
    this.#say();
  }

  #drawCursor() {
    const { at } = this.#cursor;
    const { series, format } = this.#options;
    const shown = at === null ? this.#history.last : this.#history.near(at);
    series.forEach(({ key }, index) => setText(this.known[index], format(shown?.values[key] ?? null)));
    this.root.classList.toggle("past", at !== null);
    setText(this.moment, at === null ? "" : this.#momentText(at));
    if (document.activeElement !== this.plot) this.#say();
    setAttribute(this.hair, "visibility", at === null ? "hidden" : "visible");
    if (at === null) return;
    const x = this.#x(Math.min(at, this.#view.to));
    setAttribute(this.hair, "x1", x);
    setAttribute(this.hair, "x2", x);
  }

  #momentText(at) {
    const time = clock(at + Date.now() - performance.now());
    if (this.#history.near(at)) return time;
    const after = this.#history.samples.find((sample) => sample.at > at);
    const reason = GAP_REASONS[after?.gap];
    return `${time}${reason ? `: ${reason}` : ""}`;
  }

  /** While the reader is here it is written when the reader moves, and not each second: whoever listens would hear of nothing else. */
  #say() {
    const at = this.#cursor.at ?? this.#view.to;
    const { series } = this.#options;
    const said = series.map(({ label }, index) => `${label} ${this.known[index].textContent}`).join(", ");
    setAttribute(this.plot, "aria-valuenow", Math.round((at - this.#view.to) / 1000));
    setAttribute(this.plot, "aria-valuetext", `${this.#cursor.at === null ? "now" : this.#momentText(at)}: ${said}`);
  }
}

function legendEntry(label, index, value) {
  const mark = svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { class: `s${index + 1}`, width: 10, height: 10, rx: 3 }));
  return element("li", {}, mark, element("span", {}, label), value);
}

function fixed(value) {
  return Math.round(value * 10) / 10;
}

/** The next round number, of tens or of twos, so that the scale stays where it is for a while. */
function roundUp(value, base) {
  if (!(value > 0)) return 1;
  if (base === 2) return 2 ** Math.ceil(Math.log2(value));
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * 0.999);
}
