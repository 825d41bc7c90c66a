// The page: log in, pick a thread, send a message, watch the runs unfold. What is shown goes through `textContent`, never as markup.

import { START, Trunkline, reduceRun, restoreRun, runIdsOf } from "./trunkline.js";
import { ConnectionView, endsLogin, reasonText } from "./chat-connection.js";
import { $, announce, asText, element } from "./chat-dom.js";
import { Log } from "./chat-log.js";
import { wireDrawer } from "./chat-narrow.js";
import { RunView } from "./chat-run.js";
import { Composer } from "./chat-send.js";
import * as session from "./chat-session.js";
import { Threads, gapNotice } from "./chat-threads.js";

const RELOGIN_PAUSE_MS = 10_000;
const COPIED_MS = 1_500;

const log = new Log($("log"), $("thread"), $("to-end"));
const threads = new Threads(log);
const runs = new Map();
/** The sub-agents' runs whose parents are not here yet, by those. */
const orphans = new Map();
let line = null;
/** The user whom the server has named on the connection, and whose conversation is shown. */
let userId = null;
let lastRelogin = -Infinity;

/** What the parts of the page know of each other. */
const app = {
  log,
  threads,
  get line() {
    return line;
  },
  get isCaughtUp() {
    return line?.caughtUp === true;
  },
  isCurrent: (thread) => thread === threads.current,
  hasRun: (runId) => runs.has(runId),
  get isHidden() {
    return $("app").classList.contains("unnamed");
  },
};
const composer = new Composer(app);
const connection = new ConnectionView(again);

main();

function main() {
  wire();
  showHints();
  if (!session.current()) return session.showLogin("", enter);
  $("app").hidden = false;
  return enter();
}

// --- in and out

function enter() {
  $("user").textContent = session.current().user ?? "";
  // After an end of the login the same conversation goes on.
  if (threads.current === null) {
    threads.isChosen = false;
    threads.select(threads.openNew());
  }
  hideConversation(userId !== null && !session.isNamed());
  composer.restore(session.current().userId);
  openLine();
  $("content").focus();
}

/** One user's conversation is for nobody else's eyes: after another login it waits until the server has said whose that is. */
function hideConversation(isHidden) {
  const wasHidden = app.isHidden;
  $("app").classList.toggle("unnamed", isHidden);
  if (wasHidden && !isHidden) $("content").focus();
}

function signOut() {
  session.forgetUnsent();
  leave("");
}

function leave(message) {
  line?.close();
  line = null;
  session.end();
  forget();
  session.showLogin(message, enter);
}

/** Nothing of one user's is for another one. */
function forget() {
  userId = null;
  runs.clear();
  orphans.clear();
  threads.forget();
  composer.forget();
  $("announcer").replaceChildren();
}

function clearConversation() {
  runs.clear();
  orphans.clear();
  threads.clear();
}

// --- the connection

function openLine() {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  line?.close();
  const ours = (take) => (value) => (line === opened ? take(value) : undefined);
  const opened = new Trunkline({
    url: url.href,
    token: session.current().token,
    getToken: session.getToken,
    position: START,
    onState: ours(takeState),
    onWelcome: ours(takeWelcome),
    onEvent: ours(takeEvent),
    onReset: ours(takeReset),
    onSnapshot: ours(takeSnapshot),
    onNotice: ours(takeNotice),
  });
  line = opened;
  opened.start();
}

function takeWelcome(welcome) {
  const before = userId ?? session.current().userId ?? null;
  if (before !== null && before !== welcome.user_id) {
    session.forgetUnsent();
    forget();
    threads.select(threads.openNew());
  }
  userId = welcome.user_id;
  session.begin({ ...session.current(), userId });
  composer.restore(userId);
  hideConversation(false);
  $("user").textContent = userId ?? "";
  composer.mostBytes = welcome.limits?.message_bytes ?? Infinity;
  connection.showLevel(welcome.service_level, "");
}

function takeState(change) {
  if (change.state === "stopped") {
    if (change.reason === "closed") return undefined;
    if (endsLogin(change) && comesBackByName(change)) return undefined;
    // Who was never in has nothing to look at.
    if (endsLogin(change) && userId === null) return leave(reasonText(change.reason));
  }
  connection.show(change);
  if (change.state === "live") composer.resume();
  return undefined;
}

/** In development a restarted server may have a new secret, and the name is enough to come back. */
function comesBackByName({ code }) {
  const { user, userId: named } = session.current();
  if (!user || code !== 4400 || performance.now() - lastRelogin < RELOGIN_PAUSE_MS) return false;
  lastRelogin = performance.now();
  session.begin({ user, userId: named });
  queueMicrotask(() => session.current() && openLine());
  return true;
}

function again({ state, endsLogin: needsLogin }) {
  if (state === "offline") return line?.retryNow();
  if (state !== "stopped") return undefined;
  return needsLogin ? session.showLogin("", enter) : openLine();
}

function takeNotice(frame) {
  if (frame.type === "error") announce(`The server refused something: ${frame.message ?? frame.code}`);
  if (frame.type === "service_level") connection.showLevel(frame.level, frame.reason);
  if (frame.type === "going_away") connection.goingAway();
}

// --- events

function takeEvent(event) {
  // The page shows the user's own stream; what belongs to no thread is for other readers.
  if ((event.stream ?? "user") !== "user") return;
  if (event.thread_id == null && event.type !== "agent_deltas") return;
  if (event.type === "user_message") takeMessage(event);
  else for (const runId of runIdsOf(event)) takeRunEvent(runId, event);
}

function takeMessage(event) {
  const thread = threads.open(event.thread_id);
  const content = asText(event.content);
  threads.list(thread, content);
  composer.takeMessage(thread, event.run_id);
  thread.items.append(element("div", { class: "message", "data-testid": "message" }, content));
  threads.follow(thread, line.caughtUp);
  threads.showEmpty();
}

function takeRunEvent(runId, event) {
  const run = reduceRun(runs.get(runId)?.run, event, runId);
  // What says nothing of the state of a run begins none.
  if (runs.has(runId) || run.status !== "pending" || run.steps.length > 0) showRun(runId, run, event);
}

function showRun(runId, run, event = null) {
  const known = runs.get(runId);
  if (known) {
    const isNew = run.parentRunId !== known.run.parentRunId;
    known.update(run, event);
    return isNew ? place(known) : undefined;
  }
  if (run.threadId === null) return undefined;
  const thread = threads.open(run.threadId);
  threads.list(thread, event?.message ?? null);
  composer.settle(thread, runId);
  const view = new RunView(run, thread, app);
  runs.set(runId, view);
  thread.items.append(view.root);
  place(view);
  for (const child of orphans.get(runId) ?? []) place(child);
  orphans.delete(runId);
  threads.follow(thread, line.caughtUp);
  return threads.showEmpty();
}

/** A sub-agent's run moves into the run that started it, where that is in the same thread. It may come first, as in a snapshot. */
function place(view) {
  const { parentRunId } = view.run;
  if (parentRunId === null || view.isChild) return;
  const parent = runs.get(parentRunId);
  if (!parent) orphans.set(parentRunId, [...(orphans.get(parentRunId) ?? []), view]);
  else if (parent.thread === view.thread && !view.root.contains(parent.root)) parent.addChild(view);
}

function takeReset({ lost, afresh }) {
  if (afresh) clearConversation();
  if (!lost) return;
  composer.takeLoss();
  if (afresh) {
    threads.openingGap = lost;
    return;
  }
  for (const thread of threads.all) if (thread.entry) thread.items.append(gapNotice(lost, false));
  // Where a run were still open the server would have said so by a snapshot.
  for (const view of runs.values()) view.loseEnd();
}

/** The runs that are open where the stream continues. */
function takeSnapshot({ runs: pieces }) {
  for (const piece of pieces ?? []) showRun(piece.run_id, restoreRun(runs.get(piece.run_id)?.run, piece));
}

// --- what is operated

function wire() {
  wireDrawer();
  $("thread-new").addEventListener("click", () => threads.startNew());
  $("sign-out").addEventListener("click", () => signOut());
  $("log").addEventListener("click", copyCode);
  $("log").addEventListener("keydown", (event) => event.key === "Escape" && $("content").focus());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    $("content").focus();
  });
  window.addEventListener("online", () => line?.wake());
  document.addEventListener("visibilitychange", () => document.hidden || line?.wake());
  // Pages over plain HTTP elsewhere than on this machine have no clipboard.
  document.documentElement.classList.toggle("no-clipboard", !navigator.clipboard);
}

/** What the built-in agent can do, where it is there. */
async function showHints() {
  const info = await session.development();
  $("hints").hidden = info?.agent !== true;
}

async function copyCode({ target }) {
  const button = target.closest("[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.closest("figure").querySelector("code").textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = "Copy"), COPIED_MS);
}
