// A text in Markdown, shown while it streams in. What is settled is drawn once; only the block that is open is drawn again.

import { BlockCutter, MOST_LETTERS } from "./chat-blocks.js";
import { element } from "./chat-dom.js";
import { codeBlock, nodesOf } from "./chat-markdown-dom.js";
import { Lexer, defaults } from "./vendor/marked.esm.js";

/** So many letters are taken between two looks at the clock. */
const SLICE = 1_024;
/** The open block is drawn again after so many times of what that has cost. */
const REST = 3;
/** So many blocks stand together, which cost nothing while they are out of sight. */
const GROUP = 16;
/** So many definitions of links are kept. */
const MOST_LINKS = 100;

export class MarkdownStream {
  #root;
  #waiting = [];
  #finishing = false;
  #links = Object.create(null);
  #cutter = new BlockCutter(this.#sink());
  /** Where the block that is open is drawn, and what of it is. */
  #open = element("div", { class: "open" });
  #drawn = "";
  #restsUntil = 0;
  /** How many blocks are settled, and where the next one goes. */
  #settled = 0;
  #group = null;
  /** The text that grows, of code or of a block that is too long. */
  #growing = null;
  #now;

  constructor(root, { now = () => performance.now() } = {}) {
    this.#root = root;
    this.#now = now;
    root.append(this.#open);
  }

  append(text) {
    this.#waiting.push(text);
  }

  /** Nothing more will come. */
  finish() {
    this.#finishing = true;
  }

  /** Draws until all is drawn or the time is over; says whether all is. */
  draw(deadline = Infinity) {
    while (this.#waiting.length > 0) {
      this.#cutter.feed(this.#nextSlice());
      if (this.#now() > deadline) return false;
    }
    if (this.#finishing && this.#open.parentNode) {
      this.#cutter.finish();
      this.#open.remove();
      return true;
    }
    return this.#finishing || this.#drawOpen();
  }

  #nextSlice() {
    const first = this.#waiting.shift();
    if (first.length <= SLICE) return first;
    this.#waiting.unshift(first.slice(SLICE));
    return first.slice(0, SLICE);
  }

  #drawOpen() {
    const text = this.#cutter.open;
    if (text === this.#drawn) return true;
    const began = this.#now();
    if (began < this.#restsUntil) return false;
    this.#drawn = text;
    this.#open.replaceChildren(...this.#openNodes(text));
    this.#restsUntil = began + REST * (this.#now() - began);
    return true;
  }

  /** It is drawn again and again, so that even what settles as Markdown is plain for as long as it is open and long. */
  #openNodes(text) {
    if (text.length > MOST_LETTERS) return [element("p", { class: "plain" }, text)];
    return this.#nodes(text, Object.assign(Object.create(null), this.#links));
  }

  #sink() {
    return {
      block: (text) => this.#settle(...this.#nodes(text, this.#links)),
      openCode: (language) => {
        const { root, content } = codeBlock(language);
        this.#growing = content;
        this.#settle(root);
      },
      openPlain: () => {
        this.#growing = document.createTextNode("");
        this.#settle(element("p", { class: "plain" }, this.#growing));
      },
      code: (text) => this.#growing.appendData(text),
      plain: (text) => this.#growing.appendData(text),
      closeCode: () => (this.#growing = null),
      closePlain: () => (this.#growing = null),
    };
  }

  #settle(...nodes) {
    this.#open.replaceChildren();
    this.#drawn = "";
    if (this.#settled % GROUP === 0) {
      this.#group = element("div", { class: "settled" });
      this.#root.append(this.#group, this.#open);
    }
    this.#settled += 1;
    this.#group.append(...nodes);
  }

  /** A definition of a link counts from its own block on. */
  #nodes(text, links) {
    if (text.length > 2 * MOST_LETTERS) return [element("p", { class: "plain" }, text)];
    try {
      return nodesOf(tokensOf(text, links));
    } catch {
      // The lexer knows inputs that it gives up on, such as very deep ones.
      return [element("p", { class: "plain" }, text)];
    }
  }
}

function tokensOf(text, links) {
  const lexer = new Lexer({ ...defaults, gfm: true, breaks: true });
  lexer.tokens.links = links;
  const tokens = lexer.lex(text);
  for (const name of Object.keys(links).slice(MOST_LINKS)) delete links[name];
  return tokens;
}
