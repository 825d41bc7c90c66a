// Drives the page of a running server in headless Chromium.
//
//   TRUNKLINE_BIN=path/to/trunkline node run.mjs     starts `trunkline serve --dev` itself (and restarts it once)
//   TRUNKLINE_URL=http://127.0.0.1:8080 node run.mjs uses one that runs in development mode
//
// `CHROMIUM` names another browser than /usr/bin/chromium. Screenshots go to `out/` beside this file.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import net from "node:net";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const OUT = fileURLToPath(new URL("./out/", import.meta.url));
const PATIENCE_MS = 15_000;
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
const DIRECTIVES = ["default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"];
const LONG = "please repeat this: " + "the quick brown fox 🦊 jumps over the lazy dog, and on; ".repeat(40);
/** What a browser logs about a socket that the test itself has cut. */
const CUT_NOISE = /^WebSocket connection to 'ws:\/\/127\.0\.0\.1:\d+\/ws' failed|net::ERR_(CONNECTION_|EMPTY_|SOCKET_|SOCKS_|PROXY_)/;

let passed = 0;
let failed = 0;
const faults = [];
const foreign = [];

async function main() {
  mkdirSync(OUT, { recursive: true });
  let server = null;
  let browser = null;
  try {
    server = await openServer();
    const proxy = await openProxy(server.url);
    browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
    await runChecks(browser, server, proxy);
    proxy.close();
  } catch (error) {
    report("the run itself", error);
  } finally {
    await browser?.close();
    server?.stop();
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}

async function runChecks(browser, server, proxy) {
  const ann = await device(browser, server.url);
  await check("the page comes with a strict content security policy", () => strictPolicy(server.url));
  await check("log in by name", () => logIn(ann, "ann"));
  await check("golden path: thinking, tool with parameters and result, answer 14, completed", () => goldenPath(ann));
  await check("the DOM is in the order of the events", () => inOrder(ann));
  await shoot(ann, "golden");
  const second = await device(browser, server.url);
  await check("a second device of the same user shows the same", () => sameOnSecond(ann, second));
  await check("a message of the second device appears on the first", () => bothWays(ann, second));
  await check("a second user sees nothing of it", () => nothingForBob(browser, server.url));
  await check("a reload shows the history once", () => reloadOnce(ann, second));
  await check("a failing tool is shown as failed", () => failingTool(ann));
  await check("markup in a message stays text", () => markupIsText(ann));
  await check("shift and Enter starts a new line, Enter sends", () => newLine(ann));
  await check("a new thread starts empty and the old one is still there", () => threads(ann));
  await check("a running run can be cancelled", () => cancelled(ann));
  await check("what is lost is shown as a gap, before and in the middle", () => gaps(browser, server.url));
  const cut = await device(browser, server.url, { cuts: true, proxy: proxy.settings });
  await check("connections cut mid-run: no gap, no double", () => cutMidRun(cut, second, proxy));
  await check("a message written while offline is sent once", () => offlineSend(cut, second, proxy));
  await check("the page fits a narrow screen and a dark scheme", () => looks(browser, server.url));
  // Only the page that expects cuts may meet a server that is away.
  for (const page of [ann, second]) await page.context().close();
  if (server.restart) await check("the page comes back after the server restarts", () => restarted(cut, server));
  await check("no console error and no policy violation", () => nothingIn(faults));
  await check("nothing is loaded from outside", () => nothingIn(foreign));
}

// --- the checks

async function strictPolicy(url) {
  const answer = await fetch(url);
  const policy = answer.headers.get("content-security-policy") ?? "";
  for (const directive of DIRECTIVES) ensure(policy.includes(directive), `no ${directive} in: ${policy}`);
}

async function logIn(page, name) {
  await page.goto(page.home);
  await page.getByTestId("login-name").fill(name);
  await page.getByTestId("login-submit").click();
  await live(page);
}

async function goldenPath(page) {
  await page.getByTestId("composer").fill("what is 2*(3+4)?");
  await page.getByTestId("composer").press("Enter");
  const run = page.getByTestId("run").first();
  await run.getByTestId("thinking").first().waitFor();
  const tool = run.getByTestId("tool").first();
  await tool.waitFor();
  await ended(run, "completed");
  equal(await tool.getAttribute("data-success"), "true");
  ensure(await tool.getAttribute("data-tool-name"), "the tool has no name");
  await tool.locator("summary").click();
  const [parameters, results] = await tool.locator("dd").allInnerTexts();
  ensure(parameters.includes("2*(3+4)"), `parameters: ${parameters}`);
  ensure(results.includes("14"), `results: ${results}`);
  const answer = await run.getByTestId("answer").innerText();
  ensure(answer.includes("14"), `answer: ${answer}`);
  equal(await run.getByTestId("cancel").isVisible(), false);
}

async function inOrder(page) {
  const kinds = await page.locator("#thread [data-testid]").evaluateAll((all) => all.map((one) => one.dataset.testid));
  const wanted = ["message", "run", "thinking", "tool", "answer"];
  const places = wanted.map((kind) => kinds.indexOf(kind));
  ensure(places.every((place, i) => place >= 0 && (i === 0 || place > places[i - 1])), kinds.join(", "));
}

async function sameOnSecond(first, second) {
  await logIn(second, "ann");
  await ended(second.getByTestId("run").first(), "completed");
  equal(await story(second), await story(first));
}

async function bothWays(first, second) {
  await say(second, "good morning");
  await second.getByTestId("run").nth(1).waitFor();
  await ended(second.getByTestId("run").nth(1));
  await ended(first.getByTestId("run").nth(1));
  equal(await story(first), await story(second));
  equal(await first.getByTestId("run").count(), 2);
}

async function nothingForBob(browser, url) {
  const bob = await device(browser, url);
  await logIn(bob, "bob");
  await bob.waitForTimeout(500);
  equal(await bob.getByTestId("run").count(), 0);
  equal(await bob.getByTestId("message").count(), 0);
  equal(await bob.locator("#threads li").count(), 0);
  await bob.context().close();
}

async function reloadOnce(page, other) {
  await page.reload();
  await live(page);
  await page.getByTestId("run").nth(1).waitFor();
  equal(await story(page), await story(other));
  equal(await page.getByTestId("gap").count(), 0);
}

async function failingTool(page) {
  const run = await sayAndGet(page, "what is 1/0?");
  await run.locator('[data-testid="tool"][data-success="false"]').first().waitFor();
  await ended(run);
}

async function markupIsText(page) {
  const markup = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
  await ended(await sayAndGet(page, markup));
  equal(await page.getByTestId("message").last().innerText(), markup);
  equal(await page.locator("#thread img, #thread script").count(), 0);
  equal(await page.title(), "Trunkline");
}

async function newLine(page) {
  const before = await page.getByTestId("message").count();
  const composer = page.getByTestId("composer");
  await composer.fill("one");
  await composer.press("Shift+Enter");
  await composer.pressSequentially("two");
  equal(await page.getByTestId("message").count(), before);
  await composer.press("Enter");
  await page.getByTestId("message").nth(before).waitFor();
  equal(await page.getByTestId("message").nth(before).innerText(), "one\ntwo");
  await ended(page.getByTestId("run").last());
}

async function threads(page) {
  const before = await story(page);
  await page.getByTestId("thread-new").click();
  equal(await page.getByTestId("run").count(), 0);
  await ended(await sayAndGet(page, "what is 6*7?"));
  equal(await page.locator("#threads li").count(), 2);
  await page.locator("#threads li").last().locator("button").click();
  equal(await story(page), before);
  await page.locator("#threads li").first().locator("button").click();
}

async function cancelled(page) {
  const run = await sayAndGet(page, LONG);
  await run.getByTestId("answer").waitFor();
  await run.getByTestId("cancel").click();
  await ended(run, "cancelled");
}

/** A log that has shed entries takes long to come by, so here the frames are the test's own. */
async function gaps(browser, url) {
  const page = await device(browser, url);
  const lost = (from, to) => ({ stream: "user", event_id: to, head: to, mode: "reset", lost: { from, to } });
  const welcomes = [lost("0-0", "9-4"), lost("9-6", "9-8")];
  const delta = (seq, offset, text) => agentEvent(seq, { type: "agent_delta", part_id: "p", offset, text });
  const tails = [
    [agentEvent(5, { type: "agent_started" }), delta(6, 0, "one ")],
    [delta(9, 8, "three"), agentEvent(10, { type: "agent_completed", duration_ms: 1 })],
  ];
  await page.routeWebSocket(/\/ws$/, (socket) => {
    const tail = tails.shift();
    socket.onMessage((text) => {
      if (JSON.parse(text).type !== "hello") return;
      const welcome = { type: "welcome", session_id: "s", user_id: "ann", streams: [welcomes.shift()] };
      for (const frame of [welcome, ...tail]) socket.send(JSON.stringify(frame));
      if (welcomes.length > 0) setTimeout(() => socket.close({ code: 1012 }), 300);
    });
  });
  await logIn(page, "ann");
  await ended(page.getByTestId("run"), "completed");
  const answer = await page.getByTestId("answer").innerText();
  equal(answer, "one …three");
  const places = await page.getByTestId("gap").evaluateAll((all) => all.map((one) => `${one.dataset.from} ${one.dataset.to}`));
  equal(places.join(", "), "0-0 9-4, 9-6 9-8");
  await shoot(page, "gap");
  await page.context().close();
}

function agentEvent(seq, more) {
  return { event_id: `9-${seq}`, seq, timestamp: 1, user_id: "ann", thread_id: "t", run_id: "r", agent_name: "assistant", ...more };
}

/** Cuts after so many bytes, so that the frame, and often a character, is cut in two. */
async function cutMidRun(page, other, proxy) {
  await logIn(page, "ann");
  // Live comes before the end of the history, and the newest thread stands first.
  await page.locator("#threads li").nth(1).waitFor();
  await page.locator("#threads li").first().locator("button").click();
  await ended(page.getByTestId("run").nth(1), "cancelled");
  await other.locator("#threads li").first().locator("button").click();
  const count = await page.getByTestId("run").count();
  let struck = 0;
  proxy.cutAfter([700, 5_001, 4_002, 3_003], () => (struck += 1));
  await say(page, LONG);
  await ended(page.getByTestId("run").nth(count), "completed", 90_000);
  await ended(other.getByTestId("run").nth(count), "completed");
  proxy.cutAfter([]);
  ensure(struck >= 2, `only ${struck} cuts`);
  equal(await story(page), await story(other));
  equal(await page.getByTestId("gap").count(), 0);
}

async function offlineSend(page, other, proxy) {
  const count = await other.getByTestId("message").count();
  proxy.refuse(true);
  await page.locator('[data-testid="state"][data-state="offline"]').waitFor();
  await page.getByTestId("banner").waitFor();
  await say(page, "written in the dark");
  await page.getByTestId("sending").waitFor();
  await shoot(page, "offline");
  proxy.refuse(false);
  await live(page, 45_000);
  await page.getByTestId("message").nth(count).waitFor();
  await ended(page.getByTestId("run").last());
  await other.getByTestId("message").nth(count).waitFor();
  await ended(other.getByTestId("run").last());
  await page.waitForTimeout(300);
  equal(await other.getByTestId("message").count(), count + 1);
  equal(await story(page), await story(other));
  equal(await page.getByTestId("sending").count(), 0);
}

async function looks(browser, url) {
  const page = await device(browser, url, { viewport: { width: 380, height: 720 }, colorScheme: "dark" });
  await page.goto(url);
  await page.getByTestId("login-name").waitFor();
  await shoot(page, "login-dark-narrow");
  await logIn(page, "cara");
  await ended(await sayAndGet(page, "what is 2*(3+4)?"));
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  ensure(wider <= 0, `the page is ${wider} px too wide`);
  await page.getByTestId("tool").first().locator("summary").click();
  await shoot(page, "dark-narrow");
  await page.context().close();
}

async function restarted(page, server) {
  await server.restart();
  await live(page, 60_000);
  await ended(await sayAndGet(page, "what is 5+5?"), "completed");
}

function nothingIn(list) {
  ensure(list.length === 0, list.join("\n    "));
}

// --- what the checks are made of

async function device(browser, home, { cuts = false, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.home = home;
  const origin = new URL(home).host;
  const note = (text) => (cuts && CUT_NOISE.test(text) ? undefined : faults.push(text));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && note(message.text()));
  page.on("pageerror", (error) => faults.push(String(error)));
  const watch = (url) => (url.startsWith("data:") || new URL(url).host === origin ? undefined : foreign.push(url));
  page.on("request", (request) => watch(request.url()));
  page.on("websocket", (socket) => watch(socket.url()));
  return page;
}

function live(page, timeout = PATIENCE_MS) {
  return page.locator('[data-testid="state"][data-state="live"]').waitFor({ timeout });
}

async function say(page, text) {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

async function sayAndGet(page, text) {
  const count = await page.getByTestId("run").count();
  await say(page, text);
  const run = page.getByTestId("run").nth(count);
  await run.waitFor();
  return run;
}

/** Waits until a run has the status, or any terminal one. */
async function ended(run, status = null, timeout = 60_000) {
  const until = Date.now() + timeout;
  let now = null;
  while (Date.now() < until) {
    now = await run.getAttribute("data-status", { timeout });
    if (["completed", "failed", "cancelled"].includes(now)) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  if (status) equal(now, status);
  else ensure(["completed", "failed", "cancelled"].includes(now), `the run is still ${now}`);
}

/** The conversation as it can be read, without what depends on the view (open cards). */
function story(page) {
  return page.locator("#thread").evaluate((root) => root.textContent);
}

function shoot(page, name) {
  return page.screenshot({ path: `${OUT}${name}.png` });
}

function ensure(holds, message) {
  if (!holds) throw new Error(message);
}

function equal(actual, expected) {
  ensure(actual === expected, `expected ${JSON.stringify(expected)}, got ${JSON.stringify(actual)}`);
}

async function check(name, run) {
  try {
    await run();
    report(name);
  } catch (error) {
    report(name, error);
  }
}

function report(name, error = null) {
  if (error) failed += 1;
  else passed += 1;
  console.log(error ? `FAIL  ${name}\n    ${error.message.slice(0, 2_000)}` : `ok    ${name}`);
}

// --- the server, and a line to it that can be cut

async function openServer() {
  if (!process.env.TRUNKLINE_BIN) {
    ensure(process.env.TRUNKLINE_URL, "set TRUNKLINE_BIN or TRUNKLINE_URL");
    return { url: process.env.TRUNKLINE_URL, stop() {}, restart: null };
  }
  const listen = `127.0.0.1:${await freePort()}`;
  let child = await startServer(listen);
  return {
    url: `http://${listen}/`,
    stop: () => child.kill("SIGKILL"),
    async restart() {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
      child = await startServer(listen);
    },
  };
}

/** Starts the program and waits for the address that it prints. */
function startServer(listen) {
  // What starts with TRUNKLINE_ is a setting to the program, and this test's own variables are none.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("TRUNKLINE_")));
  const args = ["serve", "--dev", "--listen", listen];
  const child = spawn(process.env.TRUNKLINE_BIN, args, { env, stdio: ["ignore", "pipe", "pipe"] });
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

async function freePort() {
  const server = await listening(net.createServer());
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function listening(server) {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}

/**
 * A SOCKS5 proxy (RFC 1928, as much of it as a browser needs) that cuts WebSocket connections after so many bytes from the
 * server, and can refuse everything. The browser still asks for the server's own address, which the server insists on.
 */
async function openProxy(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  let cuts = [];
  let struck = () => {};
  let refusing = false;
  const server = net.createServer((client) => {
    if (refusing) return client.destroy();
    const upstream = net.connect(Number(port) || 80, hostname);
    const pair = { client, upstream, left: Infinity, socket: false };
    open.add(pair);
    const end = () => {
      client.destroy();
      upstream.destroy();
      open.delete(pair);
    };
    let step = 0;
    client.on("data", (chunk) => {
      step += 1;
      if (step === 1) return client.write(Buffer.from([5, 0]));
      if (step === 2) return client.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
      if (/^GET \/ws /.test(chunk.toString("latin1"))) Object.assign(pair, { socket: true, left: cuts.shift() ?? Infinity });
      return upstream.write(chunk);
    });
    upstream.on("data", (chunk) => {
      client.write(chunk.subarray(0, Math.min(pair.left, chunk.length)));
      pair.left -= chunk.length;
      if (pair.left > 0) return;
      struck();
      client.end(end);
    });
    for (const side of [client, upstream]) side.on("error", end).on("close", end);
    return undefined;
  });
  await listening(server);
  return {
    /** For the browser's context; without the rule a browser goes to the loopback address directly. */
    settings: { server: `socks5://127.0.0.1:${server.address().port}`, bypass: "<-loopback>" },
    /** The sockets open now meet the first cut, those that come after the next ones. */
    cutAfter(bytes, then = () => {}) {
      cuts = [...bytes];
      struck = then;
      const first = cuts.shift();
      for (const pair of open) if (pair.socket) pair.left = first ?? Infinity;
    },
    refuse(value) {
      refusing = value;
      if (value) for (const { client } of open) client.destroy();
    },
    close: () => server.close(),
  };
}

main();
