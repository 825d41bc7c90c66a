// The chat page for everybody: axe on each of its faces, the keyboard alone, and what is said to those who listen.

import { readFileSync } from "node:fs";
import { check, device, ensure, equal, inState, live, logIn, shoot, until } from "./harness.mjs";
import { LONG, ended, sayAndGet } from "./chat-steps.mjs";

const AXE = readFileSync(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];
const WIDE = { width: 1100, height: 760 };
const NARROW = { width: 380, height: 720 };

export async function access(world) {
  await check("axe finds nothing on any face of the page", () => faces(world));
  await check("the keyboard alone does everything, and shows where it is", () => keyboard(world));
  await check("on a narrow screen the threads open, close by Escape, and give the keyboard back", () => drawer(world));
  await check("who listens hears the question and the answer, and no single piece of it", () => spoken(world));
}

/** Fails where axe finds anything on what the page shows now. For every page's test. */
export async function axe(page, what) {
  // It comes by the browser's own protocol, which the page's policy does not hold.
  if (!(await page.evaluate(() => Boolean(globalThis.axe)))) await page.evaluate(AXE);
  const violations = await page.evaluate(async (tags) => {
    const { violations: all } = await globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    return all.map(({ id, help, nodes }) => `${id} (${help}): ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(" | ")}`);
  }, TAGS);
  ensure(violations.length === 0, `${what}: ${violations.join("\n    ")}`);
}

/** In both schemes and at both widths. */
async function onAll(page, what) {
  let looked = 0;
  for (const colorScheme of ["light", "dark"]) {
    for (const size of [WIDE, NARROW]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize(size);
      const name = `${what}-${colorScheme}${size === NARROW ? "-narrow" : ""}`;
      await axe(page, name);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      ensure(wider <= 0, `${name}: the page is ${wider} px too wide`);
      await shoot(page, name);
      looked += 1;
    }
  }
  return looked;
}

async function faces(world) {
  const page = await device(world, { cuts: true, proxied: true });
  let looked = 0;
  await page.goto(page.home);
  await page.getByTestId("login-submit").click();
  await page.getByTestId("login-error").waitFor();
  looked += await onAll(page, "login");
  await logIn(page, "axel");
  await page.getByText("send the report to bob").waitFor();
  looked += await onAll(page, "empty");
  await ended(await sayAndGet(page, "research tokens and topics"), "completed");
  await ended(await sayAndGet(page, "what is 1/0?"), "completed");
  looked += await onAll(page, "runs");
  await ended(await sayAndGet(page, "show me some Markdown"), "completed");
  looked += await onAll(page, "answer");
  await sayAndGet(page, "send the report to bob");
  await page.getByTestId("approve").waitFor();
  looked += await onAll(page, "approval");
  await page.setViewportSize(NARROW);
  await page.getByTestId("threads-toggle").click();
  await axe(page, "drawer");
  await page.keyboard.press("Escape");
  world.proxy.refuse(true);
  await inState(page, "offline");
  await page.getByTestId("composer").fill("later");
  await page.keyboard.press("Enter");
  await page.getByTestId("sending").waitFor();
  looked += await onAll(page, "offline");
  world.proxy.refuse(false);
  await page.context().close();
  return `${looked + 1} looks`;
}

/** Nothing is clicked. Every stop is seen: a ring, or a border of its own. */
async function keyboard(world) {
  const page = await device(world);
  await page.goto(page.home);
  await page.getByTestId("login-name").waitFor();
  equal(await focused(page), "login-name");
  await page.keyboard.type("kay");
  await page.keyboard.press("Enter");
  await live(page);
  equal(await focused(page), "content");
  await page.keyboard.type("what is 1/0?");
  await page.keyboard.press("Enter");
  await ended(page.getByTestId("run").first(), "completed");
  await page.keyboard.type("send the report to bob");
  await page.keyboard.press("Enter");
  await page.getByTestId("approve").waitFor();
  const stops = [];
  for (let presses = 0; presses < 30 && !stops.includes("skip"); presses += 1) {
    await page.keyboard.press("Shift+Tab");
    const stop = await focused(page);
    if (!stop) continue;
    ensure(await isRinged(page), `no ring at ${stop}`);
    stops.push(stop);
    if (stop === "approve") break;
  }
  equal(stops.join(), "decline,approve");
  await page.keyboard.press("Enter");
  await ended(page.getByTestId("run").last(), "completed");
  await until(() => page.evaluate(() => document.activeElement?.dataset.testid === "run"), "the focus on the run");
  // Back through the cards, the log, the threads and the bar to the way around them.
  const rest = [];
  for (let presses = 0; presses < 30 && rest.at(-1) !== "skip"; presses += 1) {
    await page.keyboard.press("Shift+Tab");
    rest.push(await focused(page));
    ensure(await isRinged(page), `no ring at ${rest.at(-1)}`);
  }
  equal(rest.join(), "summary,log,thread,thread-new,sign-out,skip");
  await page.keyboard.press("Enter");
  equal(await focused(page), "content");
  await page.getByTestId("run").first().locator("summary").focus();
  const card = page.getByTestId("run").first().locator("details");
  const was = await card.evaluate(({ open }) => open);
  await page.keyboard.press("Space");
  equal(await card.evaluate(({ open }) => open), !was);
  await page.keyboard.press("Escape");
  equal(await focused(page), "content");
  await page.context().close();
}

/** What has the keyboard, by the shortest name that tells. */
function focused(page) {
  return page.evaluate(() => {
    const { activeElement: one } = document;
    if (one === document.body) return "";
    if (one.matches(".skip")) return "skip";
    if (one.matches("#threads button")) return "thread";
    return one.dataset.testid && !["composer"].includes(one.dataset.testid) ? one.dataset.testid : one.id || one.localName;
  });
}

function isRinged(page) {
  return page.evaluate(() => {
    const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
    return outlineStyle === "solid" && Number.parseFloat(outlineWidth) >= 1;
  });
}

async function drawer(world) {
  const page = await device(world, { viewport: NARROW });
  await logIn(page, "nina");
  await ended(await sayAndGet(page, "what is 1+1?"), "completed");
  const toggle = page.getByTestId("threads-toggle");
  const list = page.getByTestId("threads");
  equal(await list.isVisible(), false);
  await toggle.focus();
  await page.keyboard.press("Enter");
  equal(await toggle.getAttribute("aria-expanded"), "true");
  await list.waitFor();
  await until(async () => (await focused(page)) === "thread", "the focus in the list");
  await page.keyboard.press("Escape");
  equal(await toggle.getAttribute("aria-expanded"), "false");
  equal(await focused(page), "threads-toggle");
  await page.keyboard.press("Enter");
  await until(async () => (await focused(page)) === "thread", "the focus in the list");
  await page.keyboard.press("Enter");
  await list.waitFor({ state: "hidden" });
  equal(await focused(page), "content");
  await page.context().close();
}

async function spoken(world) {
  const page = await device(world);
  await logIn(page, "lisa");
  await page.evaluate(() => {
    globalThis.heard = [];
    const announcer = document.getElementById("announcer");
    new MutationObserver(() => globalThis.heard.push(announcer.textContent)).observe(announcer, { childList: true, characterData: true, subtree: true });
  });
  const live = await page.locator("[aria-live=polite], [aria-live=assertive], [role=status], [role=alert]").evaluateAll((all) => all.map(({ id }) => id));
  equal(live.join(), "login-error,level,composer-error,announcer");
  await ended(await sayAndGet(page, LONG), "completed");
  const run = await sayAndGet(page, "send the report to bob");
  await run.getByTestId("approve").click();
  await ended(run, "completed");
  const heard = await until(() => page.evaluate(() => globalThis.heard.length >= 3 && globalThis.heard), "what is said");
  equal(heard.length, 3);
  ensure(heard[0].startsWith("assistant: I am Trunkline's built-in development agent."), heard[0]);
  equal(heard[1], "assistant asks: May I send the report to bob?");
  ensure(heard[2].startsWith("assistant: You approved"), heard[2]);
  await page.context().close();
}
