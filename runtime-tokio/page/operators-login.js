// Who is logged in as operator: by name in development mode, by a token otherwise. It lives as long as the tab.

const STORAGE_KEY = "trunkline.operator";
const FETCH_MS = 10_000;

/** `{user, token}` in development mode, `{token}` otherwise. */
let session = load();

export const current = () => session;

export function enter(next) {
  session = next;
  save();
}

export function leave() {
  session = null;
  save();
}

export async function isDevelopment() {
  try {
    const answer = await fetch("/dev/info", { signal: AbortSignal.timeout(FETCH_MS) });
    return answer.ok && (await answer.json()).dev === true;
  } catch {
    return false;
  }
}

/** A token of an operator for a name, `null` if the server gives none; rejects if it cannot be reached. */
export async function logInByName(user) {
  const answer = await fetch("/dev/login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user, scope: "admin" }),
    signal: AbortSignal.timeout(FETCH_MS),
  });
  if (answer.status >= 500) throw new Error("not now");
  return answer.ok ? (await answer.json()).token : null;
}

/** The next token, where a name is enough to get one. It is kept for whoever was logged in when it was asked for, and nobody else. */
export async function renew() {
  const before = session;
  const token = before?.user ? await logInByName(before.user) : null;
  if (token && session === before) enter({ ...session, token });
  return token;
}

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(STORAGE_KEY));
  } catch {
    return null;
  }
}

function save() {
  try {
    if (session) sessionStorage.setItem(STORAGE_KEY, JSON.stringify(session));
    else sessionStorage.removeItem(STORAGE_KEY);
  } catch {
    // Without storage the log-in lasts until the page is left.
  }
}
