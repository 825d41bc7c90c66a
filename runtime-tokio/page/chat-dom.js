// What the chat shows as text, and says aloud. Nothing here takes markup.

import { $, element, setText } from "./page-dom.js";

export { $, element, setText };

/** Says something to those who listen to the page; the same words again are said again. */
export function announce(text) {
  const announcer = $("announcer");
  announcer.replaceChildren(element("p", {}, text));
}

export function asText(value, indent) {
  return typeof value === "string" ? value : JSON.stringify(value, null, indent) ?? "";
}

const PREVIEW_LENGTH = 90;

/** A value in one short line; an object with one field shows the field's value. */
export function preview(value) {
  if (value === undefined || value === null) return "";
  const fields = typeof value === "object" ? Object.values(value) : [value];
  return shorten(asText(fields.length === 1 ? fields[0] : value), PREVIEW_LENGTH);
}

export function shorten(text, length) {
  const flat = text.replace(/\s+/gu, " ").trim();
  const scalars = Array.from(flat);
  return scalars.length > length ? `${scalars.slice(0, length - 1).join("")}…` : flat;
}

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
