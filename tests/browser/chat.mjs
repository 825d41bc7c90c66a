// The chat page: what it shows of one conversation, on one device and on several.

import { check, device, ensure, equal, live, logIn, shoot } from "./harness.mjs";
import { LONG, ended, say, sayAndGet, story } from "./chat-steps.mjs";

const DIRECTIVES = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
  "require-trusted-types-for 'script'", "trusted-types 'none'",
];

/** The conversation of one user, on two devices. */
export async function conversation(world) {
  const ann = await device(world);
  await check("the page comes with a strict content security policy", () => strictPolicy(world.server.url));
  await check("log in by name", () => logIn(ann, "ann"));
  await check("golden path: thinking, tool with parameters and result, answer 14, completed", () => goldenPath(ann));
  await check("the DOM is in the order of the events", () => inOrder(ann));
  await shoot(ann, "golden");
  const second = await device(world);
  await check("a second device of the same user shows the same", () => sameOnSecond(ann, second));
  await check("a message of the second device appears on the first", () => bothWays(ann, second));
  await check("a second user sees nothing of it", () => nothingForBob(world));
  await check("a reload shows the history once", () => reloadOnce(ann, second));
  await check("a failing tool is shown as failed", () => failingTool(ann));
  await check("markup in a message stays text", () => markupIsText(ann));
  await check("shift and Enter starts a new line, Enter sends", () => newLine(ann));
  await check("a new thread starts empty and the old one is still there", () => threads(ann));
  await check("a running run can be cancelled", () => cancelled(ann));
  await check("what is lost before the history is shown as a gap, also where a run was open there", () => gaps(world));
  await check("the page fits a narrow screen and a dark scheme", () => looks(world));
  for (const page of [ann, second]) await page.context().close();
}

async function strictPolicy(url) {
  const answer = await fetch(url);
  const policy = answer.headers.get("content-security-policy") ?? "";
  const given = policy.split(";").map((directive) => directive.trim());
  for (const directive of DIRECTIVES) ensure(given.includes(directive), `no ${directive} in: ${policy}`);
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

async function nothingForBob(world) {
  const bob = await device(world);
  await logIn(bob, "bob");
  // What would have come before is there with what he says himself.
  await ended(await sayAndGet(bob, "what is 1+1?"), "completed");
  equal(await bob.getByTestId("run").count(), 1);
  equal(await bob.getByTestId("message").count(), 1);
  equal(await bob.locator("#threads li").count(), 1);
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
async function gaps(world) {
  const page = await device(world);
  const lost = (mode, from, to) => ({ stream: "user", event_id: to, head: to, mode, lost: { from, to } });
  const welcomes = [lost("reset", "0-0", "9-4"), lost("snapshot", "9-6", "9-8")];
  const runs = [{ run_id: "r", thread_id: "t", agent_name: "assistant", status: "running", parts: [{ part_id: "p", offset: 4, text: "two " }] }];
  const delta = (seq, offset, text) => agentEvent(seq, { type: "agent_delta", part_id: "p", offset, text });
  const tails = [
    [agentEvent(5, { type: "agent_started" }), delta(6, 0, "one ")],
    [{ type: "snapshot", stream: "user", event_id: "9-8", part: 1, of: 1, runs }, delta(9, 8, "three"), agentEvent(10, { type: "agent_completed", duration_ms: 1 })],
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
  await page.locator('[data-testid="gap"][data-from="0-0"][data-to="9-4"]').waitFor();
  await ended(page.getByTestId("run"), "completed");
  const answer = await page.getByTestId("answer").innerText();
  equal(answer, "…two three");
  const places = await page.getByTestId("gap").evaluateAll((all) => all.map((one) => `${one.dataset.from} ${one.dataset.to}`));
  equal(places.join(), "9-6 9-8");
  await shoot(page, "gap");
  await page.context().close();
}

function agentEvent(seq, more) {
  return { event_id: `9-${seq}`, seq, timestamp: 1, user_id: "ann", thread_id: "t", run_id: "r", agent_name: "assistant", ...more };
}

async function looks(world) {
  const page = await device(world, { viewport: { width: 380, height: 720 }, colorScheme: "dark" });
  await page.goto(page.home);
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
