// The operators' page: log in with the scope `admin`, watch the server, look users up. All of it goes over the one WebSocket.

import { Trunkline } from "./trunkline.js";
import { endsLogin, reasonText } from "./chat-connection.js";
import { confirm, wireConfirm } from "./operators-confirm.js";
import { within } from "./operators-data.js";
import { announce, hush, say } from "./operators-dom.js";
import { Figures } from "./operators-figures.js";
import * as login from "./operators-login.js";
import { LookUp } from "./operators-user.js";
import { $, setText } from "./page-dom.js";

const POLL_MS = 1_000;
const LOOK_UP_MS = 2_000;
const ANSWER_MS = 10_000;
const RELOGIN_PAUSE_MS = 10_000;
const REFUSED = ["not_found", "forbidden"];

let line = null;
let connection = { state: "connecting" };
let wasLost = false;
let lastRelogin = -Infinity;
let figures = null;
let lookUp = null;
/** Whether this token is told the server's figures; `null` while nobody knows. */
let isOperator = null;
/** The line on which the figures are being asked for; never twice on the same. */
let polled = null;
let isLoggingIn = false;

function main() {
  wire();
  if (login.current()) enter();
  else showLogin();
}

// --- logging in

async function showLogin(message = "") {
  $("app").hidden = true;
  const dev = await login.isDevelopment();
  $("login-by-name").hidden = !dev;
  $("login-by-token").hidden = dev;
  $("login").hidden = false;
  complain(dev ? $("login-name") : $("login-token"), message);
}

function complain(field, message) {
  $("login-error").textContent = message;
  $("login-error").hidden = !message;
  field.focus();
}

/** Once at a time, however often it is pressed. */
async function submitLogin(event) {
  event.preventDefault();
  if (isLoggingIn) return;
  isLoggingIn = true;
  try {
    await logIn();
  } finally {
    isLoggingIn = false;
  }
}

async function logIn() {
  const byName = !$("login-by-name").hidden;
  const field = byName ? $("login-name") : $("login-token");
  const value = field.value.trim();
  if (!value) return field.focus();
  try {
    const token = byName ? await login.logInByName(value) : value;
    if (!token) return complain(field, "The server does not take this name.");
    login.enter(byName ? { user: value, token } : { token });
  } catch {
    return complain(field, "The server cannot be reached.");
  }
  field.value = "";
  return enter();
}

function enter() {
  $("login").hidden = true;
  $("app").hidden = false;
  setText($("user"), login.current().user ?? "");
  openLine();
}

function signOut(message = "") {
  const left = line;
  line = null;
  left?.close();
  login.leave();
  connection = { state: "connecting" };
  wasLost = false;
  showOperator(null);
  showAnswering(true);
  figures.reset();
  lookUp.clear();
  hush();
  setText($("user"), "");
  if ($("confirm").open) $("confirm").close("");
  showLogin(message);
}

// --- the connection

function openLine() {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const before = line;
  const ours = (handle) => (value) => (line === opened ? handle(value) : undefined);
  const opened = new Trunkline({
    url: url.href,
    token: login.current().token,
    getToken: login.renew,
    onState: ours(showState),
    onWelcome: ours((welcome) => setText($("user"), welcome.user_id ?? "")),
    onNotice: ours(takeNotice),
  });
  line = opened;
  before?.close();
  opened.start();
}

function takeNotice(frame) {
  if (frame.type === "error") announce(`The server refused something: ${frame.message ?? frame.code}`);
  if (frame.type === "going_away") announce("The server shuts down. This page comes back by itself, here or elsewhere.");
}

const STATE_NAMES = { connecting: "Connecting", live: "Live", lagging: "Live", offline: "Offline", stopped: "Stopped" };

function showState(change) {
  if (change.state === "stopped" && change.reason === "closed") return;
  if (change.state === "stopped" && endsLogin(change)) return leaveOrReturn(change);
  connection = change;
  setText($("state"), STATE_NAMES[change.state]);
  $("state").dataset.state = change.state;
  sayLoss(change);
  showBanner();
  if (change.state === "live" || change.state === "lagging") return poll();
  showAnswering(true);
  return figures.pause("offline");
}

function sayLoss({ state, reason }) {
  const isLost = state === "offline" || state === "stopped" || (state === "connecting" && wasLost);
  if (isLost && !wasLost) say(`${reasonText(reason)} ${state === "offline" ? "Trying again by itself." : ""}`);
  if (!isLost && wasLost) say("Connected again.");
  wasLost = isLost;
}

/** In development a restarted server has a new secret, and the name is enough to come back; otherwise it is the login again. */
function leaveOrReturn({ code, reason }) {
  const again = login.current()?.user && code === 4400 && performance.now() - lastRelogin > RELOGIN_PAUSE_MS;
  if (!again) return signOut(reasonText(reason));
  lastRelogin = performance.now();
  figures.pause("offline");
  login.enter({ user: login.current().user });
  return queueMicrotask(() => login.current() && openLine());
}

function showBanner() {
  const { state } = connection;
  $("banner").hidden = !wasLost;
  if (!wasLost) return;
  $("banner").dataset.tone = state === "stopped" ? "bad" : "warn";
  $("retry").hidden = state === "connecting";
  setText($("retry"), state === "stopped" ? "Connect again" : "Try now");
  setText($("banner-text"), bannerText(connection));
}

function bannerText({ state, reason, retryAt }) {
  if (state === "connecting") return "Reconnecting …";
  if (state === "stopped") return reasonText(reason);
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  const why = navigator.onLine ? reasonText(reason) : "This device is offline.";
  return `${why} Next try ${left > 0 ? `in ${left} s` : "now"}.`;
}

function retryNow() {
  if (connection.state === "offline") return line?.retryNow();
  return connection.state === "stopped" ? openLine() : undefined;
}

// --- the figures, once a second while somebody can see them

function isLive() {
  return line !== null && ["live", "lagging"].includes(line.state);
}

async function poll() {
  if (polled === line || !isLive() || document.hidden || isOperator === false) return;
  const asked = line;
  polled = asked;
  try {
    await ask(asked);
  } finally {
    if (polled === asked) polled = null;
  }
}

async function ask(asked) {
  try {
    const server = await within(ANSWER_MS, asked.inspect());
    if (asked !== line) return;
    showAnswering(true);
    if (document.hidden) return;
    if (!isOperator) showOperator(true);
    figures.take(server);
  } catch (error) {
    if (asked !== line) return;
    if (REFUSED.includes(error.code)) await refused(asked);
    else if (error.code === "no_answer") showAnswering(false);
  }
}

/** No figures for this token: it is an admin's of one tenant, who may look at its users, or no admin's at all. */
async function refused(asked) {
  try {
    await within(ANSWER_MS, asked.inspect($("user").textContent));
    if (asked !== line) return;
    showAnswering(true);
    showOperator(false);
  } catch (error) {
    if (asked !== line) return;
    if (error.code === "no_answer") showAnswering(false);
    if (!REFUSED.includes(error.code)) return;
    signOut("This login is not an operator's: its token lacks the scope “admin”. Log in with one that has it.");
  }
}

/** The figures are shown from this login's first answer on. */
function showOperator(value) {
  isOperator = value;
  for (const part of [$("figures"), ...document.querySelectorAll(".server-only")]) part.hidden = value !== true;
  $("tenant-only").hidden = value !== false;
  $("drain").hidden = !value;
}

function showAnswering(value) {
  $("no-answer").hidden = value;
  setText($("no-answer"), value ? "" : "No answer: the server does not say its figures. It is asked again by itself.");
}

function tick() {
  showBanner();
  if (document.hidden || !line) return;
  poll();
  if (isOperator) figures.draw();
}

function changeVisibility() {
  if (document.hidden) return figures.pause("hidden");
  line?.wake();
  return tick();
}

async function drain() {
  const sure = await confirm({
    title: "Drain this server?",
    text: "It lets nobody in any more and starts no run. Every connection is told, closes with 1012 one after the other, and comes back elsewhere, or here once a server is started again. The program then ends. This cannot be taken back.",
    action: "Drain",
    word: "drain",
  });
  if (!sure) return;
  const asked = line;
  const tell = (text) => (asked === line ? announce(text) : undefined);
  try {
    await asked.drain();
    tell("The server drains: connections close one after the other.");
  } catch (error) {
    // The connection may go before the answer, which is what was asked for.
    tell(error.code === "unanswered" ? "The connection ended; the server drains if it was asked in time." : `Not drained: ${error.message}`);
  }
}

// --- wiring

function wire() {
  figures = new Figures();
  lookUp = new LookUp(() => line);
  wireConfirm();
  $("login-form").addEventListener("submit", submitLogin);
  $("sign-out").addEventListener("click", () => signOut());
  $("retry").addEventListener("click", retryNow);
  $("drain").addEventListener("click", drain);
  window.addEventListener("online", () => line?.wake());
  document.addEventListener("visibilitychange", changeVisibility);
  setInterval(tick, POLL_MS);
  setInterval(() => (isLive() && !document.hidden ? lookUp.refresh() : undefined), LOOK_UP_MS);
}

main();
