// From the tokens of the lexer to elements: those named here and no others, with no attribute that a text could choose but a checked
// address. Raw HTML is text.

import { element } from "./chat-dom.js";

const PROTOCOLS = ["http:", "https:", "mailto:"];
/** Deeper things are shown as they were written. */
const MOST_LEVELS = 24;
/** The page has headings of its own above these, and most answers begin with their second level. */
const HEADINGS = ["h3", "h3", "h4", "h5", "h6", "h6"];
const ENTITIES = {
  amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", copy: "©", reg: "®", trade: "™", hellip: "…", mdash: "—", ndash: "–",
  lsquo: "‘", rsquo: "’", ldquo: "“", rdquo: "”", laquo: "«", raquo: "»", bull: "•", middot: "·", times: "×", divide: "÷", plusmn: "±",
  le: "≤", ge: "≥", ne: "≠", larr: "←", rarr: "→", uarr: "↑", darr: "↓", deg: "°", euro: "€", pound: "£", sect: "§", para: "¶",
};

/** Nodes for tokens; whatever is not known is shown as it was written. */
export function nodesOf(tokens, level = 0) {
  return (tokens ?? []).flatMap((token) => {
    const make = Object.hasOwn(MAKERS, token.type) && level < MOST_LEVELS ? MAKERS[token.type] : written;
    return make(token, level + 1) ?? [];
  });
}

/** A block of code with its language and a button to copy it, and the text that may still grow. */
export function codeBlock(language, text = "") {
  const content = document.createTextNode(text);
  const copy = element("button", { type: "button", class: "quiet copy", "data-copy": "" }, "Copy");
  const head = element("figcaption", {}, element("span", {}, language || "text"), copy);
  const pre = element("pre", { tabindex: "0", "aria-label": language ? `Code in ${language}` : "Code" }, element("code", {}, content));
  return { root: element("figure", { class: "code" }, head, pre), content };
}

const MAKERS = {
  space: () => null,
  def: () => null,
  text: (token, level) => (token.tokens ? nodesOf(token.tokens, level) : text(token.text)),
  escape: (token) => text(token.text),
  html: (token) => (token.block ? element("p", { class: "plain" }, token.raw.trimEnd()) : written(token)),
  paragraph: wrapped("p"),
  blockquote: wrapped("blockquote"),
  strong: wrapped("strong"),
  em: wrapped("em"),
  del: wrapped("del"),
  heading: (token, level) => element(HEADINGS[token.depth - 1] ?? "h6", {}, ...nodesOf(token.tokens, level)),
  hr: () => element("hr", {}),
  br: () => element("br", {}),
  codespan: (token) => element("code", {}, token.text),
  code: (token) => codeBlock(token.lang?.split(/\s/u)[0], token.text).root,
  checkbox: (token) => document.createTextNode(token.checked ? "☑ " : "☐ "),
  list: listOf,
  table: tableOf,
  link: (token, level) => linkTo(token.href, nodesOf(token.tokens, level)),
  image: (token) => linkTo(token.href, [document.createTextNode(`🖼 ${decoded(token.text) || "image"}`)]),
};

function wrapped(tag) {
  return (token, level) => element(tag, {}, ...nodesOf(token.tokens, level));
}

function written(token) {
  return document.createTextNode(token.raw ?? token.text ?? "");
}

function text(value) {
  return document.createTextNode(decoded(value));
}

function listOf(token, level) {
  const start = token.ordered && token.start > 1 ? { start: String(token.start) } : {};
  const items = token.items.map((item) => element("li", {}, ...nodesOf(item.tokens, level + 1)));
  return element(token.ordered ? "ol" : "ul", start, ...items);
}

/** It scrolls by itself where it is too wide, also by the keyboard. */
function tableOf(token, level) {
  const row = (cells, tag, more = {}) => element("tr", {}, ...cells.map((cell) => cellOf(cell, tag, more, level)));
  const head = element("thead", {}, row(token.header, "th", { scope: "col" }));
  const body = element("tbody", {}, ...token.rows.map((cells) => row(cells, "td")));
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" }, element("table", {}, head, body));
}

function cellOf(cell, tag, more, level) {
  const align = ["center", "right"].includes(cell.align) ? { class: cell.align } : {};
  return element(tag, { ...more, ...align }, ...nodesOf(cell.tokens, level));
}

/** An address that is no good leaves the text of its link. */
function linkTo(address, children) {
  const href = safeAddress(decoded(address));
  if (!href) return children;
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children);
}

function safeAddress(address) {
  try {
    const url = new URL(address);
    return PROTOCOLS.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** The entities that people write; others stay as they are. */
function decoded(value) {
  return value.replace(/&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]{2,6}));/gu, (whole, decimal, hex, name) => {
    if (name) return Object.hasOwn(ENTITIES, name) ? ENTITIES[name] : whole;
    const code = decimal ? Number(decimal) : Number.parseInt(hex, 16);
    const isScalar = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
    return isScalar ? String.fromCodePoint(code) : "\ufffd";
  });
}
