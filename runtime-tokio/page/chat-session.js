// Who is logged in: `{user, token}` in development mode, `{token}` otherwise, and `userId` once the server has named it. It lives as long
// as the tab, and so does what its user has written and not sent.

import { $ } from "./chat-dom.js";

const SESSION_KEY = "trunkline.session";
const UNSENT_KEY = "trunkline.unsent";
/** A server that takes longer to answer cannot be reached. */
const LOGIN_DEADLINE_MS = 10_000;

let session = read(SESSION_KEY);

export const current = () => session;

export function begin(next) {
  session = next;
  write(SESSION_KEY, session);
}

export function end() {
  session = null;
  write(SESSION_KEY, null);
}

/** Whether the server has said whose this login is. */
export const isNamed = () => Boolean(session?.userId);

/** What this user has written and not sent: `{draft, outbox}`. Nothing of another one's is given, and nothing to nobody. */
export function unsent(userId) {
  const kept = userId ? read(UNSENT_KEY) : null;
  return kept && kept.userId === userId ? kept : { draft: "", outbox: [] };
}

/** As long as the server has not said whose it is, it is kept nowhere. */
export function keepUnsent({ draft, outbox }) {
  if (!isNamed()) return;
  const isNone = draft === "" && outbox.length === 0;
  write(UNSENT_KEY, isNone ? null : { userId: session.userId, draft, outbox });
}

export const forgetUnsent = () => write(UNSENT_KEY, null);

/** For the connection: a new token, or `null` where only the person can give one. */
export async function getToken() {
  const before = session;
  const token = before?.user ? await devLogin(before.user) : null;
  if (token && session === before) begin({ ...session, token });
  return token;
}

function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    if (value === null) sessionStorage.removeItem(key);
    else sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Without storage it lasts until the page is left.
  }
}

// --- development mode

let asked = null;

/** What the server says of its development mode; `null` outside of it, and where it cannot be reached. It is asked once. */
export async function development() {
  asked ??= fetch("/dev/info");
  try {
    const answer = await asked;
    const info = answer.ok ? await answer.clone().json() : null;
    return info?.dev === true ? info : null;
  } catch {
    asked = null;
    return null;
  }
}

/** A token for a name, `null` if the server gives none; rejects if it cannot be reached. */
async function devLogin(user) {
  const answer = await fetch("/dev/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user }),
    signal: AbortSignal.timeout(LOGIN_DEADLINE_MS),
  });
  if (answer.status >= 500) throw new Error("not now");
  return answer.ok ? (await answer.json()).token : null;
}

// --- the form

let isUnderWay = false;

/** Shows the form; `entered` is called once somebody has logged in. */
export async function showLogin(message, entered) {
  const isByName = (await development()) !== null;
  $("login-by-name").hidden = !isByName;
  $("login-by-token").hidden = isByName;
  $("app").hidden = true;
  $("login").hidden = false;
  const field = isByName ? $("login-name") : $("login-token");
  if (isByName && session?.user) field.value = session.user;
  complain(field, message);
  field.focus();
  $("login-form").onsubmit = (event) => {
    event.preventDefault();
    if (!isUnderWay) submit(field, isByName, entered);
  };
}

async function submit(field, isByName, entered) {
  const value = field.value.trim();
  if (!value) return complain(field, isByName ? "Please enter a name." : "Please enter a token.");
  isUnderWay = true;
  try {
    const token = isByName ? await devLogin(value) : value;
    if (!token) return complain(field, "The server does not take this name.");
    begin(isByName ? { user: value, token } : { token });
  } catch {
    return complain(field, "The server cannot be reached.");
  } finally {
    isUnderWay = false;
  }
  field.value = "";
  $("login").hidden = true;
  $("app").hidden = false;
  return entered();
}

function complain(field, message) {
  $("login-error").textContent = message;
  $("login-error").hidden = !message;
  field.setAttribute("aria-invalid", String(message !== ""));
  if (message) field.focus();
}
