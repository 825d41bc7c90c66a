// What a person does on the chat page, and reads there.

import { ensure, equal } from "./harness.mjs";

/** A message whose answer takes seconds to stream. */
export const LONG = "please repeat this: " + "the quick brown fox 🦊 jumps over the lazy dog, and on; ".repeat(40);

export async function say(page, text) {
  await page.getByTestId("composer").fill(text);
  await page.getByTestId("send").click();
}

export async function sayAndGet(page, text) {
  const count = await page.getByTestId("run").count();
  await say(page, text);
  const run = page.getByTestId("run").nth(count);
  await run.waitFor();
  return run;
}

/** Waits until a run has the status, or any terminal one. */
export async function ended(run, status = null, timeout = 60_000) {
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
export function story(page) {
  return page.locator("#thread").evaluate((root) => root.textContent);
}

/** A run of a back end's own, over HTTP: `events(list)` sends some in a row. */
export async function produce(server, { user, thread, message }) {
  const token = server.token({ user: "producer", scope: "publish" });
  const { run_id: runId } = await server.post("/v1/runs", { user_id: user, thread_id: thread, agent_name: "writer", message }, token);
  let n = 0;
  return {
    runId,
    events: (list) => server.post(`/v1/runs/${runId}/events`, { events: list.map((event) => ({ n: (n += 1), event })) }, token),
  };
}
