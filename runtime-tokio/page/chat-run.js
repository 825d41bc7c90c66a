// A run on the page: who works, what it does, what it answers, what it asks.

import { markGap } from "./trunkline.js";
import { announce, asText, duration, element, setText, shorten } from "./chat-dom.js";
import { drawSoon } from "./chat-frames.js";
import { MarkdownStream } from "./chat-markdown.js";
import { ToolView, decisionView, thoughtView } from "./chat-steps.js";

const STATUS_NAMES = {
  pending: "Waiting", running: "Working", suspended: "Waits for you", completed: "Completed", failed: "Failed", cancelled: "Cancelled",
};
const TONES = { pending: "busy", running: "busy", suspended: "warn", completed: "good", failed: "bad", cancelled: "bad" };
const SPOKEN_LENGTH = 400;

export class RunView {
  run;
  thread;
  #app;
  #steps = element("ol", { class: "steps", "aria-label": "Steps" });
  #drawnSteps = 0;
  #tools = [];
  #answer = element("div", { class: "answer", "data-testid": "answer" });
  #texts = [];
  #isReplaced = false;
  #agent = element("h2", { class: "agent" });
  #status = element("span", { class: "badge status" });
  #cancel = button("Cancel", { class: "quiet", "data-testid": "cancel" }, () => this.#askToCancel());
  #note = element("p", { class: "note" });
  #question = element("p", { class: "question" });
  #approve = button("Approve", { class: "primary", "data-testid": "approve" }, () => this.#decide("approve"));
  #decline = button("Decline", { "data-testid": "decline" }, () => this.#decide("decline"));
  #approval = element("div", { class: "approval", "data-testid": "approval", role: "group", "aria-label": "Approval" }, this.#question);
  #deciding = null;
  #isCancelling = false;
  /** It has ended where this device could not see it. */
  #isEndLost = false;

  /** `app` knows the `line`, and which thread is `isCurrent`. */
  constructor(run, thread, app) {
    this.run = run;
    this.thread = thread;
    this.#app = app;
    this.#approval.append(element("div", { class: "choices" }, this.#approve, this.#decline));
    this.root = element("article", { class: "run", "data-testid": "run", "data-run-id": run.runId, tabindex: "-1" });
    const head = element("header", { class: "run-head" }, this.#agent, this.#status, this.#cancel);
    this.root.append(head, this.#steps, this.#answer, this.#note);
    this.#feed(null, null);
    thread.track(run, false);
    this.#drawSteps();
    this.#drawState();
    drawSoon(this);
  }

  /** Takes the state after an event; it is drawn with the next frame, however many events come before that. */
  update(run, event) {
    const before = this.run;
    const wasLost = this.#isEndLost;
    this.run = run;
    this.#isEndLost = false;
    this.#feed(before, event);
    if (run.status !== before.status || wasLost) this.thread.track(run, false);
    if (event?.type === "agent_resumed" && before.approval) this.#addDecision(before.approval, event);
    if (this.#app.isCaughtUp) this.#say(before);
    drawSoon(this);
  }

  /** Its last event will not come. Should another one come after all, the run goes on. */
  loseEnd() {
    if (this.run.terminal) return;
    this.run = markGap(this.run);
    this.#isEndLost = true;
    this.#isCancelling = false;
    this.thread.track(this.run, true);
    drawSoon(this);
  }

  /** A sub-agent's run stands where it began. */
  addChild(view) {
    const had = document.activeElement;
    this.#drawSteps();
    this.#steps.append(element("li", { class: "child" }, view.root));
    this.#steps.hidden = false;
    // What moves loses the keyboard.
    if (view.root.contains(had)) had.focus({ preventScroll: true });
  }

  /** Whether it stands in another run already. */
  get isChild() {
    return this.root.parentNode?.className === "child";
  }

  get #isOver() {
    return this.run.terminal !== null || this.#isEndLost;
  }

  draw(deadline) {
    this.#drawSteps();
    let isDone = true;
    for (const text of this.#texts) isDone = text.draw(deadline) && isDone;
    // A run is shown as over once all of its text is there.
    if (isDone || !this.run.terminal) this.#drawState();
    return isDone;
  }

  #drawState() {
    const { run } = this;
    this.root.dataset.status = this.#isEndLost ? "lost" : run.status;
    this.root.setAttribute("aria-label", `Run by ${run.agentName ?? "agent"}`);
    setText(this.#agent, run.agentName ?? "agent");
    this.#status.dataset.tone = this.#isEndLost ? "warn" : TONES[run.status];
    setText(this.#status, this.#isEndLost ? "Its end was lost" : statusText(run));
    this.#answer.hidden = this.#texts.length === 0;
    this.#answer.dataset.streaming = String(!this.#isOver);
    this.#drawNote();
    this.#drawControls();
  }

  #drawSteps() {
    for (const [kind, index] of this.run.steps.slice(this.#drawnSteps)) {
      if (kind === "tool") this.#tools[index] = new ToolView();
      this.#steps.append(kind === "tool" ? this.#tools[index].root : thoughtView(this.run.thoughts[index]));
    }
    this.#drawnSteps = this.run.steps.length;
    this.run.tools.forEach((tool, index) => this.#tools[index].draw(tool));
    this.#steps.hidden = this.#steps.childElementCount === 0;
  }

  #addDecision({ question }, { decision }) {
    this.#drawSteps();
    this.#steps.append(decisionView(question, decision));
  }

  #drawNote() {
    const { run } = this;
    const isLost = hasLoss(run) && !run.terminal?.finalResponse;
    const isBad = run.status === "failed" || run.status === "cancelled";
    const text = isBad ? endText(run) : isLost ? "Part of this answer was lost." : "";
    setText(this.#note, text);
    this.#note.hidden = text === "";
    this.#note.classList.toggle("bad", run.status === "failed");
  }

  /** What goes while it has the keyboard leaves it with the run. */
  #drawControls() {
    const approval = this.#isOver ? null : this.run.approval;
    const had = document.activeElement;
    const isGone = (had === this.#cancel && this.#isOver) || (this.#approval.contains(had) && approval === null);
    this.#cancel.hidden = this.#isOver;
    // A button that is disabled would lose the keyboard.
    this.#cancel.setAttribute("aria-disabled", String(this.#isCancelling));
    setText(this.#cancel, this.#isCancelling ? "Cancelling …" : "Cancel");
    if (approval === null) this.#approval.remove();
    else if (!this.#approval.parentNode) this.root.append(this.#approval);
    setText(this.#question, approval?.question ?? "The agent asks to go on.");
    const isDeciding = approval !== null && this.#deciding === approval.approvalId;
    for (const choice of [this.#approve, this.#decline]) choice.setAttribute("aria-disabled", String(isDeciding));
    if (isGone) this.root.focus({ preventScroll: true });
  }

  // --- the answer

  /** What is new in its texts; where the stream has a hole, the whole answer as the agent gave it at the end. */
  #feed(before, event) {
    const { run } = this;
    run.parts.forEach((part, index) => {
      if (part === before?.parts[index]) return;
      this.#texts[index] ??= new MarkdownStream(this.#answer.appendChild(element("div", { class: "markdown" })));
      this.#texts[index].append(growth(before?.parts[index], part, event));
    });
    if (!run.terminal || this.#isReplaced) return;
    const final = run.terminal.finalResponse;
    if (final && (run.parts.length === 0 || hasLoss(run))) this.#replace(asText(final));
    for (const text of this.#texts) text.finish();
  }

  #replace(text) {
    this.#isReplaced = true;
    this.#answer.replaceChildren(element("div", { class: "markdown" }));
    this.#texts = [new MarkdownStream(this.#answer.firstElementChild)];
    this.#texts[0].append(text);
  }

  // --- what a person does

  /** The buttons go with `agent_resumed`, which comes for a decision from any device. */
  async #decide(decision) {
    const approvalId = this.run.approval?.approvalId;
    if (!approvalId || this.#deciding === approvalId) return;
    this.#deciding = approvalId;
    drawSoon(this);
    try {
      await this.#app.line.approve(approvalId, decision);
    } catch (error) {
      if (error.code !== "already_decided") announce(`Not decided: ${error.message}`);
      this.#deciding = null;
      drawSoon(this);
    }
  }

  async #askToCancel() {
    if (this.#isCancelling) return;
    this.#isCancelling = true;
    drawSoon(this);
    try {
      // It ended before, and the event that told so is not to be had.
      if ((await this.#app.line.cancel(this.run.runId)) === "ended" && !this.run.terminal) this.loseEnd();
    } catch (error) {
      // No run of this name is open.
      if (error.code === "not_found") return this.loseEnd();
      announce(`Not cancelled: ${error.message}`);
      this.#isCancelling = false;
      drawSoon(this);
    }
  }

  /** For those who listen: beginnings, questions and ends, and no single piece of text. */
  #say(before) {
    const { run } = this;
    const isHere = this.#app.isCurrent(this.thread);
    const name = run.agentName ?? "The agent";
    if (run.approval && !before.approval) {
      const where = isHere ? "" : ` in the thread ${this.thread.title}`;
      announce(`${name} asks${where}: ${run.approval.question ?? "May I go on?"}`);
    } else if (run.terminal && !before.terminal && isHere) {
      announce(run.status === "completed" ? `${name}: ${spoken(run)}` : endText(run));
    }
  }
}

function button(text, attributes, click) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", click);
  return made;
}

/** What a text has got by an event, without looking at all of it. */
function growth(before, part, event) {
  const grown = part.text.length - (before?.text.length ?? 0);
  if (event?.type === "agent_delta" && grown <= event.text.length) return event.text.slice(event.text.length - grown);
  return part.text.slice(part.text.length - grown);
}

function hasLoss(run) {
  return run.parts.some((part) => part.lost > 0);
}

function spoken(run) {
  const text = run.parts.map((part) => part.text.slice(0, SPOKEN_LENGTH)).join(" ") || asText(run.terminal.finalResponse ?? "done");
  return shorten(text.replace(/[*_`#|>]+/gu, " "), SPOKEN_LENGTH);
}

function statusText({ status, terminal }) {
  return STATUS_NAMES[status] + (terminal?.durationMs != null ? ` in ${duration(terminal.durationMs)}` : "");
}

function endText({ status, terminal }) {
  const reason = [terminal.reason, terminal.error].filter(Boolean).map((part) => asText(part)).join(": ");
  const by = terminal.by ? ` by ${asText(terminal.by)}` : "";
  return `The run ${status === "failed" ? "failed" : `was cancelled${by}`}${reason ? ` (${reason})` : ""}.`;
}
