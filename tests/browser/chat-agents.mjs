// The chat page and what agents do: ask for approval, have sub-agents, fail, answer in Markdown.

import { check, device, ensure, equal, logIn, shoot, until } from "./harness.mjs";
import { ended, produce, sayAndGet, story } from "./chat-steps.mjs";

const HOSTILE = [
  "<script>document.title = 'hit'</script> <img src=x onerror=\"document.title='hit'\">\n\n<svg/onload=alert(1)>\n\n",
  "[a](javascript:alert(1)) [b](JaVaScRiPt&colon;alert(1)) [c](data:text/html,hit) ![d](javascript:alert(1)) <javascript:alert(1)>\n\n",
  "[e]: javascript:alert(1)\n\n[e] and [good](https://example.org/?a=1&b)\n\n| <b onclick=x>f</b> |\n|---|\n| [g](vbscript:x) |\n",
];
const ELEMENTS = "a blockquote br button code del div em figcaption figure h3 h4 h5 h6 hr li ol p pre span strong table tbody td th thead tr ul".split(" ");

export async function agents(world) {
  const first = await device(world, { permissions: ["clipboard-read", "clipboard-write"] });
  const second = await device(world);
  await logIn(first, "agnes");
  await logIn(second, "agnes");
  await check("a question is shown in two tabs; approving in one goes on in both, once", () => approveOnce(first, second));
  await check("two tabs that decide at the same time have decided once", () => approveTwice(first, second));
  await check("declining is told to the agent", () => decline(first, second));
  await check("a run that waits can be cancelled, and the keyboard stays with it", () => cancelWaiting(first));
  await check("sub-agents stand in the run that started them, where they began", () => nested(first, second));
  await check("a run that fails says why", () => failing(first));
  await check("Markdown is shown as what it means, and raw HTML as text", () => markdown(first));
  await check("code can be copied", () => copies(first));
  if (world.server.token) await check("hostile Markdown brings no element, address or handler of its own", () => hostile(first, world.server));
  await check("the tabs are in step after all that", async () => {
    await until(async () => (await story(first)) === (await story(second)), "the same story");
  });
  for (const page of [first, second]) await page.context().close();
}

async function approveOnce(first, second) {
  const run = await sayAndGet(first, "send the report to bob");
  for (const page of [first, second]) await page.getByTestId("approve").waitFor();
  equal(await run.getAttribute("data-status"), "suspended");
  equal(await first.locator('#threads [data-mark="asks"]').count(), 1);
  ensure((await second.getByTestId("approval").innerText()).includes("May I send the report to bob?"), "the question");
  await shoot(first, "approval");
  await second.getByTestId("approve").click();
  for (const page of [first, second]) {
    await ended(page.getByTestId("run").last(), "completed");
    equal(await page.getByTestId("approval").count(), 0);
    const decisions = await page.getByTestId("decision").allInnerTexts();
    equal(decisions.join(), "Approved: May I send the report to bob?");
    equal(await page.locator('[data-tool-name="outbox"]').count(), 1);
  }
  equal(await story(first), await story(second));
}

async function approveTwice(first, second) {
  await sayAndGet(first, "send the letter to carol");
  const pages = [first, second];
  await Promise.all(pages.map((page) => page.getByTestId("approve").waitFor()));
  // Whose buttons are gone already has come too late, which is fine.
  await Promise.all(pages.map((page) => page.getByTestId("approve").evaluate((button) => button.click()).catch(() => {})));
  for (const page of pages) {
    await ended(page.getByTestId("run").last(), "completed");
    equal(await page.getByTestId("run").last().getByTestId("decision").count(), 1);
    equal(await page.getByTestId("run").last().locator('[data-tool-name="outbox"]').count(), 1);
  }
  equal(await story(first), await story(second));
}

async function decline(first, second) {
  const run = await sayAndGet(second, "send the money to mallory");
  await first.getByTestId("decline").click();
  await ended(run, "completed");
  equal(await run.getByTestId("decision").getAttribute("data-decision"), "decline");
  equal(await run.getByTestId("tool").count(), 0);
  ensure((await run.getByTestId("answer").innerText()).includes("nothing was sent to mallory"), "the answer");
}

async function cancelWaiting(page) {
  const run = await sayAndGet(page, "send the invitation to eve");
  await run.getByTestId("approve").waitFor();
  await run.getByTestId("cancel").focus();
  await page.keyboard.press("Enter");
  await ended(run, "cancelled");
  equal(await run.getByTestId("approval").count(), 0);
  await until(() => run.evaluate((root) => document.activeElement === root), "the focus on the run");
}

async function nested(first, second) {
  await first.getByTestId("thread-new").click();
  const run = await sayAndGet(first, "research tokens and topics");
  await ended(run, "completed");
  const inner = run.getByTestId("run");
  equal(await inner.count(), 2);
  equal((await inner.locator(".agent").allInnerTexts()).join(), "researcher,researcher");
  for (const one of await inner.all()) {
    equal(await one.getAttribute("data-status"), "completed");
    equal(await one.getByTestId("tool").count(), 1);
  }
  const kinds = await run.locator("> .steps > li").evaluateAll((all) => all.map((one) => one.className));
  equal(kinds.join(), "thinking,child,child");
  equal(await run.locator("> .answer table tbody tr").count(), 2);
  const before = await story(first);
  await first.reload();
  await first.getByTestId("run").nth(2).waitFor();
  await until(async () => (await story(first)) === before, "the same after a reload");
  await second.locator("#threads li").first().locator("button").click();
  equal(await story(second), before);
}

async function failing(page) {
  const run = await sayAndGet(page, "fail");
  await ended(run, "failed");
  ensure((await run.locator(".note").innerText()).includes("the message asks for a failure"), "the reason");
}

async function markdown(page) {
  const run = await sayAndGet(page, "show me some Markdown");
  await ended(run, "completed");
  const answer = run.getByTestId("answer");
  const counts = { h3: 1, "ol > li": 3, "ol ul > li": 2, "th.right": 1, "tbody tr": 2, "figure pre": 1, blockquote: 1, em: 1, strong: 1, b: 0, ".open": 0 };
  for (const [selector, count] of Object.entries(counts)) equal(`${selector} ${await answer.locator(selector).count()}`, `${selector} ${count}`);
  const link = answer.locator("a");
  equal(await link.evaluate(({ href, rel, target }) => [href, rel, target].join(" ")), "https://commonmark.org/ noopener noreferrer _blank");
  ensure((await answer.innerText()).includes('<b onclick="alert(1)">this</b>'), "raw HTML as text");
  await shoot(page, "markdown");
}

async function copies(page) {
  await page.locator("[data-copy]").last().click();
  await page.getByText("Copied", { exact: true }).first().waitFor();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  ensure(copied.startsWith("// Every run that starts ends.\nlet run"), copied);
}

async function hostile(page, server) {
  const thread = await page.locator("#threads li").count();
  const producer = await produce(server, { user: "agnes", thread: "hostile", message: "be hostile" });
  // Also in pieces that part what belongs together.
  for (const text of HOSTILE) await producer.events(text.match(/.{1,7}/gsu).map((piece) => ({ type: "agent_delta", part_id: "p", text: piece })));
  await producer.events([{ type: "agent_completed" }]);
  await until(async () => (await page.locator("#threads li").count()) > thread, "the thread");
  await page.locator("#threads li").first().locator("button").click();
  await ended(page.getByTestId("run"), "completed");
  await until(async () => (await page.locator(".answer .open").count()) === 0, "the whole answer");
  const found = await page.getByTestId("answer").evaluate((root) =>
    [...root.querySelectorAll("*")].map((one) => [one.localName, [...one.attributes].map(({ name, value }) => `${name}=${value}`)]),
  );
  for (const [name, attributes] of found) {
    ensure(ELEMENTS.includes(name), `<${name}>`);
    for (const attribute of attributes) ensure(!/^on|^style|^src|javascript:|vbscript:|data:/iu.test(attribute), `${name} ${attribute}`);
  }
  const links = found.filter(([name]) => name === "a").flatMap(([, attributes]) => attributes.filter((one) => one.startsWith("href=")));
  equal(links.join(), "href=https://example.org/?a=1&b");
  equal(await page.title(), "Trunkline");
  await page.locator("#threads li").nth(1).locator("button").click();
}
