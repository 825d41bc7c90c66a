// Words and tables of the operators' page, and values as people read them.

import { $ } from "./page-dom.js";

/** Said to whoever listens. */
export function say(text) {
  $("announcer").textContent = text;
}

/** Nothing of what was said is left. */
export function hush() {
  say("");
  $("toast").hidden = true;
}

/** Said, and shown for a while to whoever looks. */
export function announce(text) {
  say(text);
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(announce.timer);
  announce.timer = setTimeout(() => ($("toast").hidden = true), 8_000);
}

/**
 * Brings the rows of a table to these entries, each by its key, and leaves those that stay where they are: whoever stands on a button
 * keeps it. `make(entry)` answers a row with its cells, `update(row, entry)` writes into it.
 */
export function syncRows(body, entries, { key, make, update }) {
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  entries.forEach((entry, index) => {
    const id = key(entry);
    const row = known.get(id) ?? make(entry);
    known.delete(id);
    row.dataset.key = id;
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
    update(row, entry);
  });
  for (const gone of known.values()) gone.remove();
}

// --- values as people read them; what is not known is a dash

export const UNKNOWN = "–";

export function count(value) {
  if (value == null) return UNKNOWN;
  if (value < 10_000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
}

export function rate(value) {
  if (value == null) return UNKNOWN;
  return value < 10 ? value.toLocaleString("en", { maximumFractionDigits: 1 }) : count(value);
}

export function bytes(value) {
  if (value == null) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let amount = value;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount.toLocaleString("en", { maximumFractionDigits: amount < 10 && unit > 0 ? 1 : 0 })} ${units[unit]}`;
}

/** A duration in seconds. */
export function latency(value) {
  if (value == null) return UNKNOWN;
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1e3).toLocaleString("en", { maximumFractionDigits: value < 0.01 ? 1 : 0 })} ms`;
  return `${value.toLocaleString("en", { maximumFractionDigits: 1 })} s`;
}

export function span(seconds) {
  if (seconds == null) return UNKNOWN;
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86_400), Math.floor(whole / 3_600) % 24, Math.floor(whole / 60) % 60];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  if (minutes > 0) return whole % 60 > 0 ? `${minutes} min ${whole % 60} s` : `${minutes} min`;
  return `${whole} s`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
