// The operators' page: log in with the scope `admin`, watch the server, look users up. All of it goes over the one WebSocket.

import { Trunkline } from "./trunkline.js";
import { endsLogin, reasonText } from "./chat-connection.js";
import { confirm, wireConfirm } from "./operators-confirm.js";
import { $, announce, say, setText } from "./operators-dom.js";
import { Figures } from "./operators-figures.js";
import * as login from "./operators-login.js";
import { LookUp } from "./operators-user.js";

const POLL_MS = 1_000;
const LOOK_UP_MS = 2_000;
const RELOGIN_PAUSE_MS = 10_000;
const REFUSED = ["not_found", "forbidden"];

let line = null;
let connection = { state: "connecting", reason: null, code: null, retryAt: null };
let wasLost = false;
let lastRelogin = -Infinity;
let figures = null;
let lookUp = null;
/** Whether this token is told the server's figures; `null` while nobody knows. */
let isOperator = null;
let polling = false;

function main() {
  wire();
  if (login.current()) enter();
  else showLogin();
}

// --- logging in

async function showLogin(message = "") {
  const dev = await login.isDevelopment();
  $("login-by-name").hidden = !dev;
  $("login-by-token").hidden = dev;
  $("login-error").textContent = message;
  $("login-error").hidden = !message;
  $("app").hidden = true;
  $("login").hidden = false;
  (dev ? $("login-name") : $("login-token")).focus();
}

async function submitLogin(event) {
  event.preventDefault();
  const byName = !$("login-by-name").hidden;
  const field = byName ? $("login-name") : $("login-token");
  const value = field.value.trim();
  if (!value) return field.focus();
  try {
    const token = byName ? await login.logInByName(value) : value;
    if (!token) return showLogin("The server does not take this name.");
    login.enter(byName ? { user: value, token } : { token });
  } catch {
    return showLogin("The server cannot be reached.");
  }
  field.value = "";
  return enter();
}

function enter() {
  $("login").hidden = true;
  $("app").hidden = false;
  setText($("user"), login.current().user ?? "");
  figures = new Figures();
  showOperator(null);
  openLine();
}

function signOut(message = "") {
  login.leave();
  line?.close();
  line = null;
  figures = null;
  lookUp.clear();
  if ($("confirm").open) $("confirm").close("");
  showLogin(message);
}

// --- the connection

function openLine() {
  const url = new URL("/ws", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = new Trunkline({
    url: url.href,
    token: login.current().token,
    getToken: login.renew,
    onState: (change) => (line === opened ? showState(change) : undefined),
    onWelcome: (welcome) => setText($("user"), welcome.user_id ?? ""),
    onNotice: takeNotice,
  });
  line = opened;
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
  if (change.state === "live") poll();
  else figures?.pause("offline");
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
  if (polling || !isLive() || document.hidden || isOperator === false) return;
  polling = true;
  const asked = line;
  try {
    const server = await asked.inspect();
    if (asked !== line || document.hidden) return;
    if (!isOperator) showOperator(true);
    figures.take(server);
  } catch (error) {
    if (asked === line && REFUSED.includes(error.code)) await refused(asked);
  } finally {
    polling = false;
  }
}

/** No figures for this token: it is an admin's of one tenant, who may look at its users, or no admin's at all. */
async function refused(asked) {
  try {
    await asked.inspect($("user").textContent);
    showOperator(false);
  } catch (error) {
    if (asked !== line || !REFUSED.includes(error.code)) return;
    signOut("This login is not an operator's: its token lacks the scope “admin”. Log in with one that has it.");
  }
}

function showOperator(value) {
  isOperator = value;
  for (const part of [$("figures"), ...document.querySelectorAll(".server-only")]) part.hidden = value === false;
  $("tenant-only").hidden = value !== false;
  $("drain").hidden = !value;
}

function tick() {
  showBanner();
  if (document.hidden || !figures) return;
  poll();
  if (isOperator !== false) figures.draw();
}

function changeVisibility() {
  if (document.hidden) return figures?.pause("hidden");
  line?.retryNow();
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
  try {
    await line.drain();
    announce("The server drains: connections close one after the other.");
  } catch (error) {
    // The connection may go before the answer, which is what was asked for.
    announce(error.code === "unanswered" ? "The connection ended; the server drains if it was asked in time." : `Not drained: ${error.message}`);
  }
}

// --- wiring

function wire() {
  lookUp = new LookUp(() => line);
  wireConfirm();
  $("login-form").addEventListener("submit", submitLogin);
  $("sign-out").addEventListener("click", () => signOut());
  $("retry").addEventListener("click", retryNow);
  $("drain").addEventListener("click", drain);
  window.addEventListener("online", () => line?.retryNow());
  document.addEventListener("visibilitychange", changeVisibility);
  setInterval(tick, POLL_MS);
  setInterval(() => (isLive() && !document.hidden ? lookUp.refresh() : undefined), LOOK_UP_MS);
}

main();
