// Writing and sending: a message is shown at once, and stays until the server has it, whatever happens to the connection.

import { newKey } from "./trunkline.js";
import { $, announce, element } from "./chat-dom.js";
import { keepUnsent, unsent } from "./chat-session.js";

/** What a frame has beside the message. */
const FRAME_BYTES = 512;
const WAITS = "Waits for the connection";

export class Composer {
  #app;
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

  /** What this user has written before a reload is there again, and goes out with the next connection. */
  restore(userId) {
    const { draft, outbox } = unsent(userId);
    if ($("content").value === "") $("content").value = draft;
    const { threads } = this.#app;
    const isHere = (key) => [...threads.all].some((thread) => thread.sending.some((sending) => sending.key === key));
    for (const { key, threadId, content } of outbox) {
      if (isHere(key)) continue;
      const thread = threads.open(threadId);
      threads.select(thread);
      this.#hold(thread, content, key).isParked = true;
    }
  }

  clear() {
    $("content").value = "";
    this.#complain("");
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
    const sending = [...this.#app.threads.all].flatMap((thread) => thread.sending);
    const outbox = sending.map(({ key, thread, content }) => ({ key, threadId: thread.id, content }));
    keepUnsent({ draft: $("content").value, outbox });
  }

  #submit() {
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
    const sending = { key, content, thread, root, runId: null, isSeen: false, isParked: false };
    thread.sending.push(sending);
    thread.outbox.append(root);
    return sending;
  }

  /** The message came back as an event, or its run did: its stand-in goes. */
  settle(thread, matches) {
    const sending = thread.sending.find((one) => !one.isSeen && matches(one));
    if (!sending) return;
    sending.isSeen = true;
    this.#drop(sending);
  }

  #drop(sending) {
    sending.root.remove();
    sending.thread.sending = sending.thread.sending.filter((one) => one !== sending);
    this.#keep();
  }

  async #transmit(sending) {
    const { line } = this.#app;
    sending.isParked = false;
    sending.root.className = "message waiting";
    sending.root.dataset.note = ["live", "lagging"].includes(line.state) ? "Sending …" : WAITS;
    try {
      sending.runId = await line.send(sending.thread.id, sending.content, { key: sending.key });
      if (sending.isSeen || this.#app.hasRun(sending.runId)) this.#drop(sending);
    } catch (error) {
      if (sending.isSeen) return;
      // It goes with the next line, under the same key.
      if (error.code === "stopped") Object.assign(sending, { isParked: true }).root.dataset.note = WAITS;
      else this.#showRefused(sending, error);
    }
  }

  /**
   * The key stays the same, so that a try that did arrive is not repeated; but what was refused for good stays refused under
   * its key, so that trying it again is another message.
   */
  #showRefused(sending, error) {
    sending.root.className = "message refused";
    sending.root.dataset.note = `Not sent: ${error.message}`;
    announce(sending.root.dataset.note);
    const again = element("button", { type: "button", class: "quiet" }, "Try again");
    again.addEventListener("click", () => {
      again.remove();
      if (error.code === "refused") sending.key = newKey();
      this.#transmit(sending);
    });
    sending.root.append(" ", again);
  }
}
