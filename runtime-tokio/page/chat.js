// The page: log in, pick a thread, send a message, watch the run unfold. Everything shown goes through `textContent`.

import { START, Trunkline, markGap, newKey, reduceRun, restoreRun, runIdsOf } from "./trunkline.js";

const STORAGE_KEY = "trunkline.session";
const RELOGIN_PAUSE_MS = 10_000;
const TITLE_LENGTH = 60;
const PREVIEW_LENGTH = 90;
const STICK_PX = 80;

const $ = (id) => document.getElementById(id);

/** Who is logged in: `{user, token}` in development mode, `{token}` otherwise. It lives as long as the tab. */
let session = null;
let line = null;
let connection = { state: "offline", reason: null, code: null, retryAt: null };
let lastRelogin = -Infinity;

const threads = new Map();
const runs = new Map();
let current = null;
/** Whether the person has chosen where to be; until then the page follows the conversation. */
let touched = false;
let openingGap = null;

// --- logging in

async function main() {
  wire();
  session = loadSession();
  if (session) return enter();
  showLogin();
}

async function showLogin(message = "") {
  const dev = await isDevelopment();
  $("login-by-name").hidden = !dev;
  $("login-by-token").hidden = dev;
  $("login-error").textContent = message;
  $("login-error").hidden = !message;
  $("app").hidden = true;
  $("login").hidden = false;
  (dev ? $("login-name") : $("login-token")).focus();
}

async function isDevelopment() {
  try {
    const answer = await fetch("/dev/info");
    return answer.ok && (await answer.json()).dev === true;
  } catch {
    return false;
  }
}

async function submitLogin(event) {
  event.preventDefault();
  const byName = !$("login-by-name").hidden;
  const field = byName ? $("login-name") : $("login-token");
  const value = field.value.trim();
  if (!value) return field.focus();
  try {
    session = byName ? { user: value, token: await devLogin(value) } : { token: value };
    if (!session.token) return showLogin("The server does not take this name.");
  } catch {
    return showLogin("The server cannot be reached.");
  }
  field.value = "";
  saveSession();
  enter();
}

/** A token for a name, `null` if the server gives none; rejects if it cannot be reached. */
async function devLogin(user) {
  const answer = await fetch("/dev/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user }),
  });
  if (answer.status >= 500) throw new Error("not now");
  return answer.ok ? (await answer.json()).token : null;
}

async function getToken() {
  const token = session?.user ? await devLogin(session.user) : null;
  if (token && session) {
    session.token = token;
    saveSession();
  }
  return token;
}

function loadSession() {
  try {
    return JSON.parse(sessionStorage.getItem(STORAGE_KEY));
  } catch {
    return null;
  }
}

function saveSession() {
  try {
    if (session) sessionStorage.setItem(STORAGE_KEY, JSON.stringify(session));
    else sessionStorage.removeItem(STORAGE_KEY);
  } catch {
    // Without storage the login lasts until the page is left.
  }
}

function enter() {
  $("login").hidden = true;
  $("app").hidden = false;
  $("user").textContent = session.user ?? "";
  touched = false;
  clearConversation();
  select(openThread(`thread-${newKey().slice(0, 12)}`));
  openLine();
  $("content").focus();
}

function signOut(message = "") {
  session = null;
  saveSession();
  line?.close();
  line = null;
  clearConversation();
  $("content").value = "";
  showLogin(message);
}

// --- the connection

function openLine() {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = new Trunkline({
    url: url.href,
    token: session.token,
    getToken,
    position: START,
    onState: (change) => (line === opened ? showState(change) : undefined),
    onWelcome: (welcome) => {
      $("user").textContent = welcome.user_id ?? "";
      showLevel(welcome.service_level, "");
    },
    onEvent: takeEvent,
    onReset: takeReset,
    onSnapshot: takeSnapshot,
    onNotice: (frame) => {
      if (frame.type === "error") announce(`The server refused something: ${frame.message ?? frame.code}`);
      if (frame.type === "service_level") showLevel(frame.level, frame.reason);
    },
  });
  line = opened;
  opened.start();
}

const LEVEL_NAMES = { degraded: "Limited service", emergency: "Emergency service" };

/** Nothing is shown while all works. */
function showLevel(level, reason) {
  $("level").hidden = !(level in LEVEL_NAMES);
  $("level").dataset.level = level;
  $("level").textContent = LEVEL_NAMES[level] ?? "";
  $("level").title = reason ?? "";
}

const STATE_NAMES = { connecting: "Connecting", live: "Live", lagging: "Catching up", offline: "Offline", stopped: "Stopped" };

const REASONS = {
  connection_lost: "The connection was lost.",
  no_answer: "The server does not answer.",
  heartbeat_timeout: "The line went silent.",
  going_away: "The server is shutting down.",
  service_restart: "The server is restarting.",
  try_again_later: "The server has no room right now.",
  token_unavailable: "No new token could be had yet.",
  token_expired: "Your login has expired.",
  token_revoked: "Your login was revoked.",
  bad_credentials: "The server does not accept this login.",
  no_token: "Your login has expired.",
  unusable_token: "This is not a token.",
  superseded: "This session was taken over by a newer connection.",
  too_many_connections: "You have too many open connections.",
};

function showState(change) {
  if (change.state === "stopped" && change.reason === "closed") return;
  if (change.state === "stopped" && endsLogin(change)) return leaveOrReturn(change);
  const wasOffline = connection.state === "offline" || connection.retrying;
  connection = { ...change, retrying: change.state === "connecting" && wasOffline };
  $("state").dataset.state = change.state;
  $("state").textContent = STATE_NAMES[change.state];
  showBanner();
}

function endsLogin({ code, reason }) {
  return code === 4400 || (code >= 4200 && code < 4300) || reason === "no_token" || reason === "unusable_token";
}

/** In development a restarted server has a new secret, and the name is enough to come back; otherwise it is the login again. */
function leaveOrReturn({ code, reason }) {
  const again = session?.user && code === 4400 && performance.now() - lastRelogin > RELOGIN_PAUSE_MS;
  if (!again) return signOut(reasonText(reason));
  lastRelogin = performance.now();
  session.token = undefined;
  clearConversation();
  return queueMicrotask(() => session && openLine());
}

function reasonText(reason) {
  return REASONS[reason] ?? `The connection ended (${reason}).`;
}

function showBanner() {
  const { state, reason, retryAt, retrying } = connection;
  const shown = state === "offline" || state === "stopped" || retrying;
  $("banner").hidden = !shown;
  if (!shown) return;
  $("retry").hidden = retrying;
  setText($("retry"), state === "stopped" ? "Connect again" : "Try now");
  setText($("banner-text"), bannerText(state, reason, retryAt));
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function bannerText(state, reason, retryAt) {
  if (state === "connecting") return "Reconnecting …";
  if (state === "stopped") return reasonText(reason);
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  return `${reasonText(reason)} Next try ${left > 0 ? `in ${left} s` : "now"}.`;
}

function retryNow() {
  if (connection.state === "offline") return line?.retryNow();
  if (connection.state !== "stopped") return undefined;
  clearConversation();
  return openLine();
}

// --- threads

function openThread(id) {
  if (!threads.has(id)) {
    const items = element("div", { class: "items" });
    const outbox = element("div", { class: "items outbox" });
    const root = element("div", {}, items, outbox);
    threads.set(id, { id, title: "New thread", items, outbox, root, entry: null, sending: [] });
  }
  return threads.get(id);
}

/** A thread appears in the list with the first thing said in it. */
function listThread(thread, title) {
  if (title && thread.title === "New thread") thread.title = shorten(title, TITLE_LENGTH);
  if (!thread.entry) {
    thread.entry = element("button", { type: "button" });
    thread.entry.addEventListener("click", () => choose(thread));
    $("threads").prepend(element("li", {}, thread.entry));
    if (openingGap) thread.items.append(gapNotice(openingGap, true));
  }
  thread.entry.textContent = thread.title;
  mark(thread);
}

function mark(thread) {
  if (thread === current) {
    thread.entry?.setAttribute("aria-current", "true");
    if (thread.entry) delete thread.entry.dataset.unread;
    $("thread-title").textContent = thread.title;
  } else {
    thread.entry?.removeAttribute("aria-current");
  }
}

function select(thread) {
  const before = current;
  current = thread;
  if (before) mark(before);
  mark(thread);
  $("thread").replaceChildren(thread.root);
  showEmpty();
  $("log").scrollTop = $("log").scrollHeight;
}

function choose(thread) {
  touched = true;
  select(thread);
  $("content").focus();
}

function startThread() {
  choose(current && !current.entry ? current : openThread(`thread-${newKey().slice(0, 12)}`));
}

function showEmpty() {
  $("empty").hidden = current.entry !== null || current.sending.length > 0;
}

/** Until the person chooses, the page is where the conversation is: through the history, and out of a blank thread. */
function follow(thread) {
  if (thread === current) return;
  const blank = current.entry === null && $("content").value === "";
  if (!touched && (!line?.caughtUp || blank)) select(thread);
  else if (line?.caughtUp) thread.entry.dataset.unread = "true";
}

function clearConversation() {
  const kept = current;
  threads.clear();
  runs.clear();
  openingGap = null;
  $("threads").replaceChildren();
  $("thread").replaceChildren();
  current = null;
  if (!kept || !session) return;
  // What is on its way stays visible.
  const again = openThread(kept.id);
  again.sending = kept.sending;
  again.outbox.append(...kept.outbox.children);
  select(again);
}

// --- events

function takeEvent(event) {
  // The page shows the user's own stream; what belongs to no thread is for other readers.
  if ((event.stream ?? "user") !== "user") return;
  if (event.thread_id == null && event.type !== "agent_deltas") return;
  sticking(() => {
    if (event.type === "user_message") takeMessage(event);
    else for (const runId of runIdsOf(event)) takeRunEvent(runId, event);
  });
}

function takeMessage(event) {
  const thread = openThread(event.thread_id);
  const content = asText(event.content);
  listThread(thread, content);
  settleSending(thread, (sending) => sending.content === content);
  thread.items.append(element("div", { class: "message", "data-testid": "message" }, content));
  follow(thread);
  if (thread === current) showEmpty();
}

function takeRunEvent(runId, event) {
  return showRun(runId, reduceRun(runs.get(runId)?.run, event, runId), event.message ?? null);
}

function showRun(runId, run, message) {
  const known = runs.get(runId);
  if (known) return known.update(run);
  if (run.threadId === null) return undefined;
  const thread = openThread(run.threadId);
  listThread(thread, message);
  settleSending(thread, (sending) => sending.runId === runId);
  const view = new RunView(run, thread);
  runs.set(runId, view);
  (runs.get(run.parentRunId)?.children ?? thread.items).append(view.root);
  follow(thread);
  return showEmpty();
}

function takeReset({ lost, afresh }) {
  if (afresh) clearConversation();
  if (!lost) return;
  if (afresh) {
    openingGap = lost;
    return;
  }
  for (const thread of threads.values()) if (thread.entry) thread.items.append(gapNotice(lost, false));
  for (const view of runs.values()) view.update(markGap(view.run));
}

/** The runs that are open where the stream continues. */
function takeSnapshot({ runs: pieces }) {
  sticking(() => {
    for (const piece of pieces ?? []) showRun(piece.run_id, restoreRun(runs.get(piece.run_id)?.run, piece), null);
  });
}

function gapNotice({ from, to }, atStart) {
  const text = atStart ? "What came before is no longer kept." : "Something was lost while this device was away.";
  return element("p", { class: "gap", "data-testid": "gap", "data-from": from, "data-to": to, role: "note", title: `${from} to ${to}` }, text);
}

// --- a run on the page

class RunView {
  constructor(run, thread) {
    this.run = run;
    this.thread = thread;
    this.queued = false;
    this.tools = [];
    this.parts = [];
    this.agent = element("span", { class: "agent" });
    this.status = element("span", { class: "status" });
    this.cancel = element("button", { type: "button", class: "quiet", "data-testid": "cancel" }, "Cancel");
    this.cancel.addEventListener("click", () => this.askToCancel());
    this.steps = element("ol", { class: "steps", "aria-label": "Steps" });
    this.children = element("div", { class: "items" });
    this.answer = element("div", { class: "answer", "data-testid": "answer" });
    this.note = element("p", { class: "note", hidden: "" });
    this.approve = element("button", { type: "button", "data-testid": "approve" }, "Approve");
    this.decline = element("button", { type: "button", class: "quiet", "data-testid": "decline" }, "Decline");
    this.approve.addEventListener("click", () => this.decide("approve"));
    this.decline.addEventListener("click", () => this.decide("decline"));
    this.approval = element("div", { class: "approval", hidden: "" }, this.approve, this.decline);
    this.deciding = null;
    this.root = element(
      "article",
      { class: "run", "data-testid": "run", "data-run-id": run.runId },
      element("div", { class: "run-head" }, this.agent, this.status, this.cancel),
      this.steps,
      this.children,
      this.answer,
      this.note,
      this.approval,
    );
    this.render();
  }

  /** Takes the new state and draws it with the next frame, however many events come before that. */
  update(run) {
    const ended = run.terminal && !this.run.terminal;
    this.run = run;
    if (ended && line?.caughtUp && this.thread === current) announce(this.outcome());
    if (this.queued) return;
    this.queued = true;
    nextFrame(() => {
      this.queued = false;
      sticking(() => this.render());
    });
  }

  render() {
    const { run } = this;
    this.root.dataset.status = run.status;
    this.root.setAttribute("aria-label", `Run by ${run.agentName ?? "agent"}`);
    this.agent.textContent = run.agentName ?? "agent";
    this.status.textContent = statusText(run);
    this.cancel.hidden = run.terminal !== null;
    this.renderSteps();
    this.renderAnswer();
    this.renderNote();
    this.steps.hidden = run.steps.length === 0;
    this.children.hidden = this.children.childElementCount === 0;
    this.answer.hidden = this.answer.childElementCount === 0;
  }

  renderSteps() {
    for (const [kind, index] of this.run.steps.slice(this.steps.childElementCount)) {
      const step = kind === "thought" ? thoughtView(this.run.thoughts[index]) : new ToolView();
      if (kind === "tool") this.tools[index] = step;
      this.steps.append(step.root ?? step);
    }
    this.run.tools.forEach((tool, index) => this.tools[index].render(tool));
  }

  renderAnswer() {
    const texts = answerTexts(this.run);
    for (const extra of this.parts.splice(texts.length)) extra.parentElement.remove();
    texts.forEach((text, index) => {
      if (!this.parts[index]) {
        this.parts[index] = document.createTextNode("");
        this.answer.append(element("p", {}, this.parts[index]));
      }
      grow(this.parts[index], text);
    });
  }

  renderNote() {
    const { run } = this;
    const lost = hasLoss(run) && !run.terminal?.finalResponse;
    const failed = run.status === "failed" || run.status === "cancelled";
    const text = failed ? endText(run) : (run.approval && (run.approval.question ?? "The agent asks to go on.")) ?? (lost ? "Part of this answer was lost." : "");
    this.note.textContent = text;
    this.note.hidden = text === "";
    this.approval.hidden = !run.approval;
    const deciding = run.approval !== null && this.deciding === run.approval?.approvalId;
    this.approve.disabled = this.decline.disabled = deciding;
    this.note.classList.toggle("bad", run.status === "failed");
  }

  outcome() {
    const text = answerTexts(this.run).join(" ") || "done";
    return this.run.status === "completed" ? `Answer: ${shorten(text, 400)}` : endText(this.run);
  }

  /** The buttons go with `agent_resumed`, which comes for a decision from any device. */
  async decide(decision) {
    const approvalId = this.run.approval?.approvalId;
    if (!approvalId) return;
    this.deciding = approvalId;
    this.render();
    try {
      await line.approve(approvalId, decision);
    } catch (error) {
      if (error.code !== "already_decided") announce(`Not decided: ${error.message}`);
      this.deciding = null;
      this.render();
    }
  }

  async askToCancel() {
    this.cancel.disabled = true;
    this.cancel.textContent = "Cancelling …";
    try {
      await line.cancel(this.run.runId);
    } catch (error) {
      announce(`Not cancelled: ${error.message}`);
      this.cancel.disabled = false;
      this.cancel.textContent = "Cancel";
    }
  }
}

/** The streamed text; where that is not whole, or there was none, the final answer as the agent gave it. */
function answerTexts(run) {
  const final = run.terminal?.finalResponse;
  if (final && (run.parts.length === 0 || hasLoss(run))) return [asText(final)];
  return run.parts.map((part) => part.text);
}

function hasLoss(run) {
  return run.parts.some((part) => part.lost > 0);
}

class ToolView {
  constructor() {
    this.name = element("span", { class: "name" });
    this.outcome = element("span", { class: "outcome" });
    this.fields = element("dl", {});
    this.details = element("details", {}, element("summary", {}, this.name, this.outcome), this.fields);
    this.root = element("li", { class: "tool", "data-testid": "tool" }, this.details);
    this.drawn = null;
  }

  render(tool) {
    if (tool === this.drawn) return;
    this.drawn = tool;
    this.root.dataset.toolName = tool.name;
    this.root.dataset.success = tool.success === null ? "" : String(tool.success);
    const result = tool.success ? preview(tool.results) : "";
    this.name.textContent = `${tool.name} ${preview(tool.parameters)}${result && ` → ${result}`}`;
    this.outcome.textContent = outcomeText(tool);
    this.details.open ||= tool.success === false;
    const results = tool.error && tool.results === null ? undefined : tool.results;
    const fields = [["Parameters", tool.parameters], ["Results", results], ["Error", tool.error ?? undefined]];
    this.fields.replaceChildren(...fields.filter(([, value]) => value !== undefined).flatMap(fieldView));
  }
}

function fieldView([name, value]) {
  return [element("dt", {}, name), element("dd", {}, element("pre", {}, asText(value, 2)))];
}

function thoughtView({ thought, progress }) {
  const share = typeof progress === "number" && progress > 0 ? ` (${Math.round(progress * (progress <= 1 ? 100 : 1))} %)` : "";
  return element("li", { class: "thinking", "data-testid": "thinking" }, asText(thought) + share);
}

function statusText({ status, terminal }) {
  const names = { pending: "Waiting", running: "Working", suspended: "Waiting for approval", completed: "Completed", failed: "Failed", cancelled: "Cancelled" };
  return names[status] + (terminal?.durationMs != null ? ` in ${duration(terminal.durationMs)}` : "");
}

function endText({ status, terminal }) {
  const reason = [terminal.reason, terminal.error].filter(Boolean).map((part) => asText(part)).join(": ");
  const by = terminal.by ? ` by ${asText(terminal.by)}` : "";
  return `The run ${status === "failed" ? "failed" : `was cancelled${by}`}${reason ? ` (${reason})` : ""}.`;
}

function outcomeText({ success, durationMs }) {
  if (success === null) return "running …";
  return `${success ? "✓ done" : "✗ failed"}${durationMs != null ? ` · ${duration(durationMs)}` : ""}`;
}

// --- sending

function submitMessage(event) {
  event?.preventDefault();
  const content = $("content").value.trim();
  if (!content || !line) return;
  $("content").value = "";
  touched = true;
  const root = element("div", { class: "message waiting", "data-testid": "sending" }, content);
  const sending = { key: newKey(), content, thread: current, root, runId: null, seen: false };
  current.sending.push(sending);
  current.outbox.append(root);
  showEmpty();
  $("log").scrollTop = $("log").scrollHeight;
  transmit(sending);
}

async function transmit(sending) {
  sending.root.className = "message waiting";
  sending.root.dataset.note = ["live", "lagging"].includes(line.state) ? "Sending …" : "Waits for the connection";
  try {
    sending.runId = await line.send(sending.thread.id, sending.content, { key: sending.key });
    if (sending.seen || runs.has(sending.runId)) dropSending(sending);
  } catch (error) {
    if (!sending.seen) showRefused(sending, error);
  }
}

/**
 * The key stays the same, so that a try that did arrive is not repeated; but what was refused for good stays refused under
 * its key, so that trying it again is another message.
 */
function showRefused(sending, error) {
  sending.root.className = "message refused";
  sending.root.dataset.note = `Not sent: ${error.message}`;
  announce(sending.root.dataset.note);
  const again = element("button", { type: "button", class: "quiet" }, "Try again");
  again.addEventListener("click", () => {
    again.remove();
    if (error.code === "refused") sending.key = newKey();
    transmit(sending);
  });
  sending.root.append(" ", again);
}

/** The message came back as an event, so its stand-in goes. */
function settleSending(thread, matches) {
  const sending = thread.sending.find((one) => !one.seen && matches(one));
  if (!sending) return;
  sending.seen = true;
  dropSending(sending);
}

function dropSending(sending) {
  sending.root.remove();
  const thread = threads.get(sending.thread.id);
  if (thread) thread.sending = thread.sending.filter((one) => one !== sending);
}

// --- helpers

function wire() {
  $("login-form").addEventListener("submit", submitLogin);
  $("composer").addEventListener("submit", submitMessage);
  $("thread-new").addEventListener("click", startThread);
  $("sign-out").addEventListener("click", () => signOut());
  $("retry").addEventListener("click", retryNow);
  $("content").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submitMessage(event);
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("content").focus();
  });
  window.addEventListener("online", () => line?.retryNow());
  document.addEventListener("visibilitychange", () => document.hidden || line?.retryNow());
  setInterval(showBanner, 500);
}

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Changes the page, and stays at its end if that is where it was. */
function sticking(change) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < STICK_PX;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

/** A hidden page draws no frames, but its text is still read by whoever asks. */
function nextFrame(run) {
  if (document.hidden) setTimeout(run, 50);
  else requestAnimationFrame(run);
}

function grow(node, text) {
  if (text === node.data) return;
  if (text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else node.data = text;
}

function announce(text) {
  $("announcer").textContent = text;
}

function asText(value, indent) {
  return typeof value === "string" ? value : JSON.stringify(value, null, indent) ?? "";
}

/** A value in one short line; an object with one field shows the field's value. */
function preview(value) {
  if (value === undefined || value === null) return "";
  const fields = typeof value === "object" ? Object.values(value) : [value];
  return shorten(asText(fields.length === 1 ? fields[0] : value), PREVIEW_LENGTH);
}

function shorten(text, length) {
  const flat = text.replace(/\s+/gu, " ").trim();
  const scalars = Array.from(flat);
  return scalars.length > length ? `${scalars.slice(0, length - 1).join("")}…` : flat;
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

main();
