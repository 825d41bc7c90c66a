// Writing and sending: a message is shown at once, and stays until the server has it, whatever happens to the connection.

import { newKey } from "./trunkline.js";
import { $, announce, element } from "./chat-dom.js";
import { keepUnsent, unsent } from "./chat-session.js";

/** What a frame has beside the message. */
const FRAME_BYTES = 512;
const WAITS = "Waits for the connection";

export class Composer {
  #app;
  /** The runs whose messages came back as events. */
  #arrived = new Set();
  /** What the server takes in one message. */
  mostBytes = Infinity;

  constructor(app) {
    this.#app = app;
    $("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    $("content").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    $("content").addEventListener("input", () => this.#written());
    for (const hint of document.querySelectorAll("[data-say]")) hint.addEventListener("click", () => this.#send(hint.textContent));
  }

  /** What this user has written before a reload is there again, and goes out with the next connection unless it was refused. */
  restore(userId) {
    const { draft, outbox } = unsent(userId);
    if ($("content").value === "") $("content").value = draft;
    const { threads } = this.#app;
    const isHere = (key) => [...threads.all].some((thread) => thread.sending.some((sending) => sending.key === key));
    for (const { key, threadId, content, refused } of outbox) {
      if (isHere(key)) continue;
      const thread = threads.open(threadId);
      threads.select(thread);
      const sending = this.#hold(thread, content, key);
      if (refused) this.#showRefused(sending, refused);
      else sending.isParked = true;
    }
    this.#keep();
  }

  clear() {
    $("content").value = "";
    this.#complain("");
  }

  /** Forgets what one user has sent. */
  forget() {
    this.clear();
    this.#arrived.clear();
  }

  /** Sends what waited for another login. */
  resume() {
    for (const thread of this.#app.threads.all) {
      for (const sending of thread.sending) if (sending.isParked) this.#transmit(sending);
    }
  }

  #written() {
    this.#complain("");
    this.#keep();
  }

  /** What is written and not sent outlives the page. */
  #keep() {
    const sending = [...this.#app.threads.all].flatMap((thread) => thread.sending).filter(({ runId }) => runId === null);
    const outbox = sending.map(({ key, thread, content, refused }) => ({ key, threadId: thread.id, content, refused }));
    keepUnsent({ draft: $("content").value, outbox });
  }

  #submit() {
    if (this.#app.isHidden) return undefined;
    const content = $("content").value.trim();
    if (!content) return;
    const bytes = new TextEncoder().encode(JSON.stringify(content)).length + FRAME_BYTES;
    if (bytes > this.mostBytes) return this.#complain(`This is too long to send: about ${bytes - this.mostBytes} bytes too many.`);
    this.clear();
    this.#send(content);
  }

  #complain(text) {
    $("composer-error").textContent = text;
    $("composer-error").hidden = text === "";
  }

  #send(content) {
    const { threads } = this.#app;
    threads.isChosen = true;
    const sending = this.#hold(threads.current, content, newKey());
    threads.showEmpty();
    this.#app.log.toEnd();
    $("content").focus();
    this.#transmit(sending);
    this.#keep();
  }

  /** Shows it until it is sent. */
  #hold(thread, content, key) {
    const root = element("div", { class: "message waiting", "data-testid": "sending", "data-note": WAITS }, content);
    const sending = { key, content, thread, root, runId: null, refused: null, isParked: false, isAcrossGap: false };
    thread.sending.push(sending);
    thread.outbox.append(root);
    return sending;
  }

  /** A message came back as an event: where it is one of this page's, its stand-in goes. That the words are the same says nothing. */
  takeMessage(thread, runId) {
    this.#arrived.add(runId);
    this.settle(thread, runId);
  }

  /** The message of a run is there, or the run is. */
  settle(thread, runId) {
    const sending = thread.sending.find((one) => one.runId !== null && one.runId === runId);
    if (sending) this.#drop(sending);
  }

  /** Something was lost: what the server has, and what it turns out to have, may not come back as an event. */
  takeLoss() {
    for (const sending of [...this.#app.threads.all].flatMap((thread) => thread.sending)) {
      if (sending.runId === null) sending.isAcrossGap = true;
      else this.#drop(sending);
    }
  }

  #drop(sending) {
    sending.root.remove();
    sending.thread.sending = sending.thread.sending.filter((one) => one !== sending);
    this.#keep();
    this.#app.threads.showEmpty();
  }

  async #transmit(sending) {
    const { line } = this.#app;
    Object.assign(sending, { isParked: false, refused: null });
    sending.root.className = "message waiting";
    sending.root.dataset.note = ["live", "lagging"].includes(line.state) ? "Sending …" : WAITS;
    try {
      sending.runId = await line.send(sending.thread.id, sending.content, { key: sending.key });
      const isThere = this.#arrived.has(sending.runId) || this.#app.hasRun(sending.runId);
      if (isThere || sending.isAcrossGap) this.#drop(sending);
      else this.#keep();
    } catch (error) {
      // It goes with the next line, under the same key.
      if (error.code === "stopped") Object.assign(sending, { isParked: true }).root.dataset.note = WAITS;
      // It had come before.
      else if (error.code === "already_answered") this.#drop(sending);
      else this.#refuse(sending, error);
    }
  }

  #refuse(sending, { code, message }) {
    this.#showRefused(sending, { code, message });
    announce(sending.root.dataset.note);
    this.#keep();
  }

  /**
   * The key stays the same, so that a try that did arrive is not repeated; but what was refused for good stays refused under
   * its key, so that trying it again is another message.
   */
  #showRefused(sending, refused) {
    sending.refused = refused;
    // It waits for the person, who must find it.
    this.#app.threads.list(sending.thread, sending.content);
    sending.root.className = "message refused";
    sending.root.dataset.note = `Not sent: ${refused.message}`;
    const choices = element("span", { class: "choices" });
    const choice = (name, choose) => {
      const button = element("button", { type: "button", class: "quiet" }, name);
      button.addEventListener("click", () => {
        choices.remove();
        choose();
        $("content").focus();
      });
      choices.append(button);
    };
    choice("Try again", () => {
      if (refused.code === "refused") sending.key = newKey();
      this.#transmit(sending);
      this.#keep();
    });
    choice("Discard", () => this.#drop(sending));
    sending.root.append(" ", choices);
  }
}
