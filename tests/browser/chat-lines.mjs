// The chat page on bad lines: cut, away, slow, and with a server that restarts.

import { check, comeBack, device, ensure, equal, inState, logIn, shoot, until } from "./harness.mjs";
import { LONG, ended, say, sayAndGet, story } from "./chat-steps.mjs";

export async function badLines(world) {
  const steady = await device(world);
  const cut = await device(world, { cuts: true, proxied: true });
  await logIn(steady, "lina");
  await logIn(cut, "lina");
  await check("connections cut mid-run: no gap, no double", () => cutMidRun(cut, steady, world.proxy));
  await check("a message written while offline is sent once", () => offlineSend(cut, steady, world.proxy));
  await check("a slow line shows the same in the end, without a gap", () => slowLine(cut, steady, world.proxy));
  // Only the page that expects cuts may meet a server that is away.
  await steady.context().close();
  if (world.server.restart) {
    await check("the page comes back after the server restarts", () => restarted(cut, world.server));
    await check("and in development also where the server has another secret", () => restarted(cut, world.server, { newSecret: true }));
  }
  await cut.context().close();
}

/** Cuts after so many bytes, so that the frame, and often a character, is cut in two. */
async function cutMidRun(page, other, proxy) {
  await ended(await sayAndGet(page, "what is 1+1?"));
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
  await inState(page, "offline");
  await page.getByTestId("banner").waitFor();
  await say(page, "written in the dark");
  await page.getByTestId("sending").waitFor();
  await shoot(page, "offline");
  proxy.refuse(false);
  await comeBack(page, 45_000);
  await page.getByTestId("message").nth(count).waitFor();
  await ended(page.getByTestId("run").last());
  await other.getByTestId("message").nth(count).waitFor();
  await ended(other.getByTestId("run").last());
  // What the page would have sent twice is there before what it sends after it.
  await ended(await sayAndGet(page, "what is 3+4?"), "completed");
  await ended(other.getByTestId("run").last(), "completed");
  await until(async () => (await other.getByTestId("message").last().innerText()) === "what is 3+4?", "the last message");
  equal(await other.getByTestId("message").count(), count + 2);
  equal(await story(page), await story(other));
  equal(await page.getByTestId("sending").count(), 0);
}

/** At a rate at which the whole answer takes several times as long as it takes to write: all of it comes at that rate. */
async function slowLine(page, other, proxy) {
  const count = await other.getByTestId("run").count();
  proxy.slow(4_000);
  const before = proxy.trickled();
  await say(other, LONG);
  await ended(other.getByTestId("run").nth(count), "completed");
  await ended(page.getByTestId("run").nth(count), "completed", 60_000);
  const carried = proxy.trickled() - before;
  proxy.slow(Infinity);
  equal(await story(page), await story(other));
  equal(await page.getByTestId("gap").count(), 0);
  ensure(carried > LONG.length, `only ${carried} bytes came slowly`);
  return `${carried} bytes came slowly`;
}

async function restarted(page, server, how) {
  await server.restart(how);
  // The banner's button is quicker than the back-off.
  await comeBack(page, 60_000);
  await ended(await sayAndGet(page, "what is 5+5?"), "completed");
}
