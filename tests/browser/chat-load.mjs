// The chat page under load: ten thousand pieces of an answer, as fast as they come.

import { check, device, ensure, equal, logIn, until } from "./harness.mjs";
import { ended, produce } from "./chat-steps.mjs";
import { FakeElement, fakeDocument } from "./fake-dom.mjs";

const DELTAS = 10_000;
const IN_A_ROW = 50;
/** So many may be on their way: of a reader that is further behind the server joins the texts, and there would be fewer events. */
const AHEAD = 150;
/** A task that takes longer is one that a person may feel. */
const LONGEST_MS = 50;
const SECTION = [
  "## A section\n\nSome *words* of **weight**, `code`, and [a link](https://example.org/), which go on for a while so that the line wraps at least once.\n\n",
  "- an item of a list\n- another one, with `code`\n  - and one in it\n\n",
  "```rust\nfn main() {\n    println!(\"no end of text\");\n}\n```\n\n",
  "| a | b |\n|---|--:|\n| one | 1 |\n| two | 2 |\n\n",
].join("");

export async function load(world) {
  if (!world.server.token) return;
  await check("10,000 deltas: all of the text, and no task of 50 ms of processor time", () => manyDeltas(world));
}

async function manyDeltas(world) {
  const page = await device(world);
  await logIn(page, "otto");
  const pieces = Array.from({ length: DELTAS }, (_, n) => SECTION.slice((n * 9) % SECTION.length).slice(0, 9));
  const frames = countFrames(page);
  await page.reload();
  const producer = await produce(world.server, { user: "otto", thread: "long", message: "write a lot" });
  const run = page.getByTestId("run");
  await run.waitFor();
  await world.browser.startTracing(page, { categories: ["disabled-by-default-devtools.timeline", "toplevel"] });
  const began = performance.now();
  for (let at = 0; at < DELTAS; at += IN_A_ROW) {
    await until(() => frames.seen >= at - AHEAD, "the events on the page");
    await producer.events(pieces.slice(at, at + IN_A_ROW).map((text) => ({ type: "agent_delta", part_id: "answer", text })));
  }
  await producer.events([{ type: "agent_completed" }]);
  await ended(run, "completed", 120_000);
  await until(() => run.locator(".open").count().then((count) => count === 0), "the whole answer", 60_000);
  const seconds = (performance.now() - began) / 1_000;
  const tasks = mainThreadTasks(JSON.parse((await world.browser.stopTracing()).toString()));
  const { cpu, wall, timed } = tasks;
  const note = `${frames.deltas} events of ${frames.texts} in ${seconds.toFixed(1)} s, ${timed} tasks, the longest ${cpu.toFixed(1)} ms of processor time, ${wall.toFixed(1)} ms by the clock`;
  ensure(timed > 100, `too few tasks were seen: ${note}`);
  ensure(frames.deltas > DELTAS / 2, `too much was merged on the way: ${note}`);
  equal(await page.getByTestId("answer").evaluate((root) => root.textContent), await expectedText(pieces.join("")));
  ensure(cpu < LONGEST_MS, note);
  await page.context().close();
  return note;
}

/** How many events with text the page was given, and how many of them hold several. */
function countFrames(page) {
  const frames = { deltas: 0, texts: 0, seen: 0 };
  page.on("websocket", (socket) =>
    socket.on("framereceived", ({ payload }) => {
      const { type, parts, run_seq: at } = JSON.parse(payload);
      frames.seen = Math.max(frames.seen, at ?? 0, ...(parts ?? []).map((part) => part.run_seq));
      if (type === "agent_delta") frames.deltas += 1;
      if (type === "agent_delta" || type === "agent_deltas") frames.texts += parts?.length ?? 1;
    }),
  );
  return frames;
}

/** The longest task of the busiest page's main thread, by its processor time, which other processes take nothing of, and by the clock. */
function mainThreadTasks({ traceEvents }) {
  const threads = traceEvents.filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain");
  const tasksOf = ({ pid, tid }) =>
    traceEvents.filter((event) => event.pid === pid && event.tid === tid && event.ph === "X" && /RunTask$/u.test(event.name) && event.tdur !== undefined);
  const [tasks = []] = threads.map(tasksOf).sort((one, other) => other.length - one.length);
  const longest = (field) => tasks.reduce((most, task) => Math.max(most, task[field] / 1_000), 0);
  return { cpu: longest("tdur"), wall: longest("dur"), timed: tasks.length };
}

/** What the page's own Markdown makes of the whole, without a browser. */
async function expectedText(text) {
  globalThis.document = fakeDocument;
  const { MarkdownStream } = await import("../../runtime-tokio/page/chat-markdown.js");
  const root = new FakeElement("div");
  const markdown = new MarkdownStream(root);
  markdown.append(text);
  markdown.finish();
  markdown.draw();
  return root.textContent;
}
