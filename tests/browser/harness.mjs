// What every test of a page in headless Chromium is made of: the server, a line to it that can be cut and slowed, devices, checks.
//
//   await withWorld(async (world) => {
//     const page = await device(world, { path: "/" });
//     await check("log in by name", () => logIn(page, "ann"));
//   });
//
// `TRUNKLINE_BIN` names the program, which is started in development mode and can be restarted; or `TRUNKLINE_URL` a server that runs
// in it. `CHROMIUM` names another browser than /usr/bin/chromium. Screenshots go to `out/` beside this file.

import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { openProxy } from "./proxy.mjs";

export const OUT = fileURLToPath(new URL("./out/", import.meta.url));
/** How long a check waits for what must come. */
export const PATIENCE_MS = 15_000;
const LOOK_MS = 10;
const START_MS = 30_000;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** What a browser logs about a socket that the test itself has cut, and about a log-in that it has refused. */
const CUT_NOISE = /^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/ws' failed|net::ERR_(CONNECTION_|EMPTY_|SOCKET_|SOCKS_|PROXY_)/;

let passed = 0;
let failed = 0;
/** Errors and warnings of the consoles of all pages, and addresses elsewhere that a page asked for. */
export const faults = [];
export const foreign = [];

/** Opens a server, a proxy and a browser, runs, says how many checks held, and ends the process accordingly. */
export async function withWorld(run) {
  mkdirSync(OUT, { recursive: true });
  const began = performance.now();
  const world = {};
  try {
    world.server = await openServer();
    world.proxy = await openProxy(world.server.url);
    world.browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
    await run(world);
  } catch (error) {
    report("the run itself", error);
  } finally {
    await world.browser?.close();
    world.proxy?.close();
    world.server?.stop();
  }
  console.log(`${passed} passed, ${failed} failed, in ${Math.round((performance.now() - began) / 1000)} s`);
  process.exit(failed === 0 ? 0 : 1);
}

// --- checks

export async function check(name, run) {
  const began = performance.now();
  try {
    const note = await run();
    report(typeof note === "string" ? `${name} (${note})` : name, null, began);
  } catch (error) {
    report(name, error, began);
  }
}

function report(name, error = null, began = performance.now()) {
  if (error) failed += 1;
  else passed += 1;
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(error ? `FAIL  ${name}\n    ${String(error.message).slice(0, 2_000)}` : `ok    ${name} [${seconds} s]`);
}

export function ensure(holds, message) {
  if (!holds) throw new Error(message);
}

export function equal(actual, expected) {
  ensure(actual === expected, `expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

/** Waits until `holds` answers something true, and answers that. */
export async function until(holds, what, timeout = PATIENCE_MS) {
  const end = performance.now() + timeout;
  for (;;) {
    const found = await holds();
    if (found) return found;
    ensure(performance.now() < end, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

export function nothingIn(list) {
  ensure(list.length === 0, list.join("\n    "));
}

// --- devices

/**
 * A page of its own, as on a device of its own. `cuts`: it may meet a server that is away; `proxied`: it goes through the world's proxy;
 * `path`: where it is at home; everything else is for Playwright's context.
 */
export async function device(world, { cuts = false, proxied = false, path = "/", ...options } = {}) {
  const proxy = proxied ? { proxy: world.proxy.settings } : {};
  const context = await world.browser.newContext({ viewport: { width: 1100, height: 760 }, ...proxy, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.home = new URL(path, world.server.url).href;
  const origin = new URL(world.server.url).host;
  const note = (text) => (cuts && CUT_NOISE.test(text) ? undefined : faults.push(text));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  const watch = (url) => (/^(data|blob):/.test(url) || new URL(url).host === origin ? undefined : foreign.push(url));
  page.on("request", (request) => watch(request.url()));
  page.on("websocket", (socket) => watch(socket.url()));
  return page;
}

/** Logs in by name, as development mode allows, and waits until the page is live. */
export async function logIn(page, name) {
  await page.goto(page.home);
  await page.getByTestId("login-name").fill(name);
  await page.getByTestId("login-submit").click();
  await live(page);
}

export function inState(page, state, timeout = PATIENCE_MS) {
  return page.locator(`[data-testid="state"][data-state="${state}"]`).waitFor({ timeout });
}

/** Presses the banner's button until the page is live: it may be back by itself before, and the button gone. */
export function comeBack(page, timeout = PATIENCE_MS) {
  const isBack = async () => {
    if (await page.locator('[data-testid="state"][data-state="live"]').count()) return true;
    await page.getByTestId("retry").click({ timeout: 100 }).catch(() => {});
    return false;
  };
  return until(isBack, "live again", timeout);
}

export function live(page, timeout = PATIENCE_MS) {
  return inState(page, "live", timeout);
}

export function shoot(page, name) {
  return page.screenshot({ path: `${OUT}${name}.png` });
}

// --- the server

/**
 * The program in development mode, with a secret that the test knows: `token({user, tenant, scope, ttl})` makes what the page does not give, and
 * `post(path, body, token)` asks the operations over HTTP. `restart({newSecret})` ends it without a word and starts it again. With
 * `TRUNKLINE_URL` there is only `url`, and `restart` and `token` are null.
 */
async function openServer() {
  if (!process.env.TRUNKLINE_BIN) {
    ensure(process.env.TRUNKLINE_URL, "set TRUNKLINE_BIN or TRUNKLINE_URL");
    return { url: process.env.TRUNKLINE_URL, stop() {}, restart: null, token: null };
  }
  const folder = mkdtempSync(join(tmpdir(), "trunkline-browser-"));
  const secret = join(folder, "secret");
  const renew = () => writeFileSync(secret, randomBytes(48).toString("base64"), { mode: 0o600 });
  renew();
  const listen = `127.0.0.1:${await freePort()}`;
  let child = await startServer(listen, secret);
  const url = `http://${listen}/`;
  return {
    url,
    stop() {
      child.kill("SIGKILL");
      rmSync(folder, { recursive: true });
    },
    async restart({ newSecret = false } = {}) {
      // It may have ended by itself, as after a drain.
      if (child.exitCode === null) {
        const gone = new Promise((resolve) => child.once("exit", resolve));
        child.kill("SIGKILL");
        await gone;
      }
      if (newSecret) renew();
      child = await startServer(listen, secret);
    },
    token({ user, tenant, scope, ttl = "1h" }) {
      const more = Object.entries({ tenant, scope }).flatMap(([name, value]) => (value ? [`--${name}`, value] : []));
      const args = ["token", "--user", user, "--ttl", ttl, "--secret-file", secret, ...more];
      return execFileSync(process.env.TRUNKLINE_BIN, args, { env: plainEnvironment(), encoding: "utf8" }).trim();
    },
    async post(path, body, token) {
      const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
      const answer = await fetch(new URL(path, url), { method: "POST", headers, body: JSON.stringify(body) });
      ensure(answer.ok, `${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
      return answer.json();
    },
  };
}

/** Starts the program and waits for the address that it prints. */
function startServer(listen, secret) {
  const args = ["serve", "--dev", "--listen", listen, "--secret-file", secret];
  const child = spawn(process.env.TRUNKLINE_BIN, args, { env: plainEnvironment(), stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  return new Promise((resolve, reject) => {
    const give = setTimeout(() => reject(new Error(`no address printed: ${output}`)), START_MS);
    const read = (chunk) => {
      output += chunk;
      if (!output.includes(listen)) return;
      clearTimeout(give);
      resolve(child);
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the server ended with ${code}: ${output}`)));
  });
}

/** What starts with TRUNKLINE_ is a setting to the program, and this test's own variables are none. */
function plainEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TRUNKLINE_")));
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}
