// The conversations: the list at the side, which one is open, and what it holds.

import { newKey } from "./trunkline.js";
import { $, element, setText, shorten } from "./chat-dom.js";

const TITLE_LENGTH = 60;
const NEW = "New thread";

export class Threads {
  #all = new Map();
  #log;
  current = null;
  /** Whether the person has chosen where to be; until then the page follows the conversation. */
  isChosen = false;
  /** What was gone before the history that is kept. */
  openingGap = null;

  constructor(log) {
    this.#log = log;
  }

  get all() {
    return this.#all.values();
  }

  open(id) {
    if (!this.#all.has(id)) this.#all.set(id, new Thread(id));
    return this.#all.get(id);
  }

  openNew() {
    return this.open(`thread-${newKey().slice(0, 12)}`);
  }

  /** A thread appears in the list with the first thing said in it. */
  list(thread, title) {
    if (title) thread.nameBy(title);
    if (!thread.entry) {
      $("threads").prepend(element("li", {}, thread.makeEntry(() => this.choose(thread))));
      if (this.openingGap) thread.items.append(gapNotice(this.openingGap, true));
    }
    this.#mark(thread);
  }

  select(thread) {
    const before = this.current;
    this.current = thread;
    if (before) this.#mark(before);
    this.#mark(thread);
    $("thread").replaceChildren(thread.root);
    this.showEmpty();
    this.#log.toEnd();
  }

  choose(thread) {
    this.isChosen = true;
    this.select(thread);
    $("content").focus();
  }

  startNew() {
    this.choose(this.current && !this.current.entry ? this.current : this.openNew());
  }

  /** Until the person chooses, the page is where the conversation is: through the history, and out of a blank thread. */
  follow(thread, isCaughtUp) {
    if (thread === this.current) return;
    const isBlank = this.current.entry === null && $("content").value === "";
    if (!this.isChosen && (!isCaughtUp || isBlank)) this.select(thread);
    else if (isCaughtUp) thread.markUnread();
  }

  showEmpty() {
    $("empty").hidden = this.current.entry !== null || this.current.sending.length > 0;
  }

  /** Drops everything but what is on its way. */
  clear() {
    const open = this.current?.id;
    const kept = [...this.all].filter(({ id, sending }) => id === open || sending.length > 0);
    this.#all.clear();
    this.openingGap = null;
    this.current = null;
    $("threads").replaceChildren();
    $("thread").replaceChildren();
    for (const { id, sending, outbox } of kept) {
      const again = this.open(id);
      again.sending = sending.map((one) => Object.assign(one, { thread: again }));
      again.outbox.append(...outbox.children);
      const refused = sending.find((one) => one.refused);
      if (refused) this.list(again, refused.content);
    }
    if (open !== undefined) this.select(this.open(open));
  }

  /** Drops all of it. */
  forget() {
    this.current = null;
    this.#all.clear();
    this.clear();
  }

  #mark(thread) {
    const isCurrent = thread === this.current;
    thread.markCurrent(isCurrent);
    if (isCurrent) setText($("thread-title"), thread.title);
  }
}

class Thread {
  title = NEW;
  items = element("div", { class: "items" });
  outbox = element("div", { class: "items outbox" });
  root = element("div", {}, this.items, this.outbox);
  entry = null;
  sending = [];
  #name = element("span", { class: "name" });
  #mark = element("span", { class: "sr-only" });
  #open = new Map();
  #isUnread = false;

  constructor(id) {
    this.id = id;
  }

  nameBy(text) {
    if (this.title === NEW) this.title = shorten(text, TITLE_LENGTH) || NEW;
    setText(this.#name, this.title);
  }

  makeEntry(choose) {
    setText(this.#name, this.title);
    this.entry = element("button", { type: "button" }, this.#name, this.#mark);
    this.entry.addEventListener("click", choose);
    this.#showMark();
    return this.entry;
  }

  markCurrent(isCurrent) {
    if (isCurrent) {
      this.#isUnread = false;
      this.entry?.setAttribute("aria-current", "true");
    } else {
      this.entry?.removeAttribute("aria-current");
    }
    this.#showMark();
  }

  markUnread() {
    this.#isUnread = true;
    this.#showMark();
  }

  /** Which of its runs are open, and how they are. Nobody waits for one whose end was lost. */
  track({ runId, status, terminal }, isEndLost) {
    if (terminal || isEndLost) this.#open.delete(runId);
    else this.#open.set(runId, status);
    this.#showMark();
  }

  #showMark() {
    if (!this.entry) return;
    const open = [...this.#open.values()];
    const mark = open.includes("suspended") ? "asks" : open.length > 0 ? "busy" : this.#isUnread ? "unread" : "";
    this.entry.dataset.mark = mark;
    setText(this.#mark, { asks: ", waits for you", busy: ", working", unread: ", new" }[mark] ?? "");
  }
}

export function gapNotice({ from, to }, isAtStart) {
  const text = isAtStart ? "What came before is no longer kept." : "Something was lost while this device was away.";
  return element("p", { class: "gap", "data-testid": "gap", "data-from": from, "data-to": to, role: "note", title: `${from} to ${to}` }, text);
}
