// The chat page and a server whose every frame is the test's own: orders, answers and ends that come by chance from a real one.

import { check, comeBack, device, ensure, equal, inState, live, shoot, until } from "./harness.mjs";

export async function scripted(world) {
  await check("what nobody's login has left is not sent by the next one", () => unnamed(world));
  await check("a conversation is hidden until the server names its user again", () => hiddenUntilNamed(world));
  await check("two submits of the login open one line", () => oneLine(world));
  await check("a login that is not answered ends", () => loginDeadline(world));
  await check("a message is known again by its run, not by its words", () => sameWords(world));
  await check("what was refused is not sent by itself, and can be discarded", () => refusedStays(world));
  await check("what was answered before has arrived", () => answeredBefore(world));
  await check("runs that have ended in a gap are not shown as working", () => endInGap(world));
  await check("a run that the server does not know is over", () => cancelUnknown(world));
  await check("a snapshot that names the sub-agent first nests it, in its own thread alone", () => laterParent(world));
  await check("an event of a kind of its own begins no run", () => noGhost(world));
  await check("a page that is hidden while it waits for a frame still draws", () => hiddenPage(world));
  await check("signing out leaves nothing that was said", () => silent(world));
}

// --- the server

/** A page outside of development mode; `answer(frame, line)` gets what it sends, and `line` has `send(…frames)` and `close(code)`. */
async function scriptedDevice(world, answer) {
  const page = await device(world);
  await page.route("**/dev/info", (route) => route.fulfill({ json: { dev: false } }));
  return script(page, answer);
}

async function script(page, answer) {
  page.lines = [];
  await page.routeWebSocket(/\/ws$/, (socket) => {
    const line = { send: (...frames) => frames.forEach((frame) => socket.send(JSON.stringify(frame))), close: (code) => socket.close({ code }) };
    page.lines.push(line);
    socket.onMessage((text) => answer(JSON.parse(text), line));
  });
  return page;
}

async function enter(page, token = "a.b.c") {
  await page.getByTestId("login-token").fill(token);
  await page.getByTestId("login-submit").click();
}

async function open(page) {
  await page.goto(page.home);
  await enter(page);
}

function welcome(user, more = {}) {
  const streams = [{ stream: "user", event_id: "9-0", head: "9-0", mode: "reset", ...more }];
  return { type: "welcome", session_id: "s", user_id: user, expires_in: 3_600, streams };
}

function event(seq, type, more = {}) {
  return { event_id: `9-${seq}`, seq, timestamp: 1, user_id: "ann", thread_id: "t", run_id: "r", agent_name: "assistant", type, ...more };
}

/** A server that knows one user, and does with messages what `take` does. */
const serverOf = (user, take = () => {}) => (frame, line) => {
  if (frame.type === "hello") line.send(welcome(user));
  if (frame.type === "user_message") take(frame, line);
};

const accept = ({ id }, runId) => ({ type: "reply", id, ok: true, run_id: runId });
const refuse = ({ id }, code) => ({ type: "reply", id, ok: false, error: { code, message: code, temporary: false } });

async function write(page, text) {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("composer").press("Enter");
}

/** Something that comes last: what was to be shown before it is shown. */
async function marker(page, seq, text = `marker ${seq}`) {
  page.lines.at(-1).send(event(seq, "user_message", { content: text, run_id: `marker-${seq}` }));
  await page.getByTestId("message").getByText(text, { exact: true }).waitFor();
}

const kept = (page) => page.evaluate(() => sessionStorage.getItem("trunkline.unsent"));

// --- logins

async function unnamed(world) {
  const sent = [];
  let isBob = false;
  const page = await scriptedDevice(world, (frame, line) => {
    if (frame.type === "hello" && isBob) line.send(welcome("bob"));
    if (frame.type === "user_message") {
      sent.push(frame.content);
      const told = { content: frame.content, thread_id: frame.thread_id, run_id: `run-${sent.length}` };
      line.send(event(sent.length, "user_message", told), accept(frame, told.run_id));
    }
  });
  await open(page);
  await until(() => page.lines.length === 1, "the line");
  await write(page, "of the first one");
  await page.getByTestId("sending").waitFor();
  await page.getByTestId("composer").fill("half a thought");
  equal(await kept(page), null);
  page.lines[0].close(4400);
  await page.getByTestId("login-error").waitFor();
  isBob = true;
  await enter(page);
  await live(page);
  equal(await page.getByTestId("composer").inputValue(), "");
  await write(page, "of the second one");
  await page.getByTestId("message").waitFor();
  equal(sent.join(), "of the second one");
  equal(await page.getByTestId("sending").count(), 0);
  await page.context().close();
}

async function hiddenUntilNamed(world) {
  let user = "ann";
  const sent = [];
  const page = await scriptedDevice(world, (frame, line) => {
    if (frame.type === "user_message") sent.push(frame.content);
    if (frame.type === "hello" && user) line.send(welcome(user), ...(page.lines.length === 1 ? [event(1, "user_message", { content: "a secret" })] : []));
  });
  await open(page);
  await page.getByTestId("message").waitFor();
  await page.getByTestId("composer").fill("half a thought");
  const enterAgain = async (next) => {
    const count = page.lines.length;
    page.lines.at(-1).close(4_200);
    await inState(page, "stopped");
    await page.getByTestId("retry").click();
    user = next;
    await enter(page);
    await until(() => page.lines.length > count, "another line");
  };
  await enterAgain(null);
  for (const hidden of ["message", "composer", "threads"]) equal(await page.getByTestId(hidden).isVisible(), false);
  await page.locator("#composer").evaluate((form) => form.requestSubmit());
  page.lines.at(-1).send(welcome("ann", { event_id: "9-1", head: "9-1", mode: "live" }));
  await page.getByTestId("message").waitFor();
  equal(await page.getByTestId("composer").inputValue(), "half a thought");
  ensure(await page.evaluate(() => document.activeElement.id === "content"), "the keyboard is not in the message");
  await enterAgain("bob");
  await page.getByTestId("composer").waitFor();
  equal(await page.getByTestId("message").count(), 0);
  equal(await page.getByTestId("composer").inputValue(), "");
  equal(sent.join(), "");
  await page.context().close();
}

async function oneLine(world) {
  const page = await script(await device(world), serverOf("ann"));
  let answer = null;
  const answered = new Promise((resolve) => (answer = resolve));
  let asked = 0;
  await page.route("**/dev/login", async (route) => {
    asked += 1;
    await answered;
    return route.fulfill({ json: { token: "a.b.c", expires_in: 3_600 } });
  });
  await page.goto(page.home);
  const field = page.getByTestId("login-name");
  await field.fill("ann");
  await field.press("Enter");
  await field.press("Enter");
  await until(() => asked > 0, "the login");
  answer();
  await live(page);
  await marker(page, 1);
  equal(asked, 1);
  equal(page.lines.length, 1);
  await page.context().close();
}

async function loginDeadline(world) {
  const page = await device(world);
  // Fifty times as fast.
  await page.addInitScript(() => {
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (ms) => timeout(ms / 50);
  });
  await page.route("**/dev/login", () => {});
  await page.goto(page.home);
  await page.getByTestId("login-name").fill("ann");
  await page.getByTestId("login-submit").click();
  await page.getByTestId("login-error").getByText("cannot be reached").waitFor();
  await page.context().close();
}

// --- messages

async function sameWords(world) {
  const frames = [];
  const page = await scriptedDevice(world, serverOf("ann", (frame) => frames.push(frame)));
  await open(page);
  await live(page);
  await marker(page, 1, "begun");
  await page.locator("#threads button").click();
  const sending = page.getByTestId("sending");
  const answers = async (seq, runId, ...replies) => {
    await write(page, "yes");
    await until(() => frames.length === seq - 1, "the message");
    page.lines[0].send(event(seq, "user_message", { content: "yes", run_id: runId }), ...replies.map((reply) => reply(frames.at(-1))));
    await page.getByTestId("message").nth(seq - 1).waitFor();
  };
  // Another device has said the same, and this one is refused.
  await answers(2, "other", (frame) => refuse(frame, "unavailable"));
  await page.locator(".message.refused").waitFor();
  await sending.getByText("Discard").click();
  // The reply comes before the event, and after it.
  await write(page, "no");
  await until(() => frames.length === 2, "the message");
  page.lines[0].send(accept(frames[1], "mine"));
  await until(async () => (await kept(page)) === null, "the reply");
  equal(await sending.count(), 1);
  page.lines[0].send(event(3, "user_message", { content: "other words", run_id: "mine" }));
  await until(async () => (await sending.count()) === 0, "the stand-in's end");
  await answers(4, "late", (frame) => accept(frame, "late"));
  await until(async () => (await sending.count()) === 0, "the stand-in's end");
  await page.context().close();
}

async function refusedStays(world) {
  const keys = [];
  let code = "unavailable";
  const page = await scriptedDevice(world, serverOf("ann", (frame, line) => {
    keys.push(frame.key);
    line.send(refuse(frame, code));
  }));
  await open(page);
  await live(page);
  await write(page, "delete everything");
  const refused = page.locator(".message.refused");
  await refused.waitFor();
  await shoot(page, "refused");
  await page.reload();
  await refused.waitFor();
  await live(page);
  page.lines[1].send(event(1, "user_message", { content: "marker" }));
  await page.locator("#threads button").nth(1).waitFor();
  equal(keys.length, 1);
  code = "refused";
  for (const count of [2, 3]) {
    await refused.getByText("Try again").click();
    await until(() => keys.length === count, "another try");
    await refused.waitFor();
  }
  equal(keys[1], keys[0]);
  ensure(keys[2] !== keys[1], "the key of what is refused for good");
  equal(JSON.parse(await kept(page)).outbox[0].key, keys[2]);
  await refused.getByText("Discard").click();
  equal(await page.getByTestId("sending").count(), 0);
  equal(await kept(page), null);
  equal(keys.length, 3);
  await page.context().close();
}

async function answeredBefore(world) {
  const page = await scriptedDevice(world, serverOf("ann", (frame, line) => line.send(refuse(frame, "already_answered"))));
  await open(page);
  await live(page);
  await write(page, "once more");
  await until(async () => (await page.getByTestId("sending").count()) === 0, "the stand-in's end");
  equal(await kept(page), null);
  await page.context().close();
}

// --- runs

async function endInGap(world) {
  const after = { event_id: "9-50", head: "9-50", lost: { from: "9-2", to: "9-50" } };
  const page = await scriptedDevice(world, (frame, line) => {
    if (frame.type === "user_message") return line.send(accept(frame, "other"));
    if (frame.type !== "hello") return undefined;
    if (page.lines.length > 1) return line.send(welcome("ann", after));
    return line.send(welcome("ann"), event(1, "user_message", { content: "go" }), event(2, "agent_suspended", { approval_id: "a", question: "Go?" }));
  });
  await open(page);
  await page.getByTestId("approve").waitFor();
  await write(page, "its event will be lost");
  await until(async () => (await kept(page)) === null, "the reply");
  equal(await page.getByTestId("sending").count(), 1);
  page.lines[0].close(1012);
  await comeBack(page);
  const run = page.getByTestId("run");
  await page.locator('[data-testid="run"][data-status="lost"]').waitFor();
  equal(await run.locator(".status").innerText(), "Its end was lost");
  equal(await page.getByTestId("sending").count(), 0);
  for (const gone of ["cancel", "approve"]) equal(await page.getByTestId(gone).isVisible(), false);
  equal(await page.locator("#threads button").getAttribute("data-mark"), "");
  equal(await page.getByTestId("gap").evaluateAll((all) => all.map((one) => `${one.dataset.from} ${one.dataset.to}`).join()), "9-2 9-50");
  // It was not over after all.
  page.lines[1].send(event(51, "agent_resumed"));
  await page.locator('[data-testid="run"][data-status="running"]').waitFor();
  equal(await page.getByTestId("cancel").isVisible(), true);
  equal(await page.locator("#threads button").getAttribute("data-mark"), "busy");
  await page.context().close();
}

async function cancelUnknown(world) {
  for (const answer of [(frame) => refuse(frame, "not_found"), (frame) => ({ type: "reply", id: frame.id, ok: true, run_id: frame.run_id, state: "ended" })]) {
    const page = await scriptedDevice(world, (frame, line) => {
      if (frame.type === "hello") line.send(welcome("ann"), event(1, "agent_started"));
      if (frame.type === "cancel_run") line.send(answer(frame));
    });
    await open(page);
    await page.getByTestId("cancel").click();
    await page.locator('[data-testid="run"][data-status="lost"]').waitFor();
    equal(await page.getByTestId("cancel").isVisible(), false);
    await page.context().close();
  }
}

async function laterParent(world) {
  const piece = (runId, parent, thread = "t") => ({ run_id: runId, thread_id: thread, agent_name: "assistant", parent_run_id: parent, status: "running" });
  const runs = [piece("1", "3"), piece("2", "3", "elsewhere"), piece("3")];
  const page = await scriptedDevice(world, (frame, line) => {
    if (frame.type !== "hello") return;
    line.send(welcome("ann", { event_id: "9-1", head: "9-1", mode: "snapshot" }), { type: "snapshot", stream: "user", event_id: "9-1", part: 1, of: 1, runs });
    // One that was known without its parent, and one of another thread.
    line.send(event(2, "agent_thinking", { run_id: "4", thought: "hm" }), event(3, "agent_started", { run_id: "4", parent_run_id: "3" }));
    line.send(event(4, "agent_started", { run_id: "5", parent_run_id: "3", thread_id: "elsewhere", message: "see there" }));
  });
  await open(page);
  const shown = (parent) => page.locator(parent).evaluateAll((all) => all.map((one) => one.dataset.runId).join());
  const choose = (n) => page.locator("#threads button").nth(n).click();
  await page.locator("#threads button").nth(1).waitFor();
  await choose(1);
  await until(async () => (await shown(".items > .run")) === "3", "the run at the top");
  equal(await shown('[data-run-id="3"] > .steps > .child > .run'), "1,4");
  await choose(0);
  equal(await shown(".items > .run"), "2,5");
  await page.context().close();
}

async function noGhost(world) {
  const page = await scriptedDevice(world, serverOf("ann"));
  await open(page);
  await live(page);
  page.lines[0].send(event(1, "custom", { name: "weather", data: 1, run_id: "ghost" }));
  await marker(page, 2);
  equal(await page.getByTestId("run").count(), 0);
  await page.context().close();
}

// --- the page

/** The frame that it waits for never comes, as in a tab that goes behind another one. */
async function hiddenPage(world) {
  const page = await scriptedDevice(world, (frame, line) => (frame.type === "hello" ? line.send(welcome("ann"), event(1, "agent_started")) : undefined));
  await open(page);
  await page.locator('[data-testid="run"][data-status="running"]').waitFor();
  await page.evaluate(() => {
    globalThis.requestAnimationFrame = () => {
      globalThis.isAsked = true;
      return 1;
    };
  });
  page.lines[0].send(event(2, "agent_delta", { part_id: "p", offset: 0, text: "hi" }));
  await page.waitForFunction(() => globalThis.isAsked, null, { polling: 20 });
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { get: () => true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  page.lines[0].send(event(3, "agent_completed", { duration_ms: 1 }));
  await until(async () => (await page.getByTestId("run").getAttribute("data-status")) === "completed", "the end");
  equal(await page.getByTestId("answer").textContent(), "hi");
  await page.context().close();
}

async function silent(world) {
  const page = await scriptedDevice(world, serverOf("ann"));
  await open(page);
  await live(page);
  await marker(page, 1);
  page.lines[0].send(event(2, "agent_started"), event(3, "agent_completed", { final_response: "a secret", duration_ms: 1 }));
  await until(async () => (await page.getByTestId("announcer").textContent()).includes("a secret"), "what is said");
  await page.getByTestId("sign-out").click();
  await page.getByTestId("login-submit").waitFor();
  equal(await page.getByTestId("announcer").textContent(), "");
  await page.context().close();
}
