// The chat page and tokens: renewed without a word, over, of another user.

import { check, comeBack, device, ensure, equal, inState, live, logIn, until } from "./harness.mjs";
import { ended, sayAndGet, story } from "./chat-steps.mjs";

export async function logins(world) {
  await check("what is written survives a reload, and not a sign-out", () => draft(world));
  await check("and so does a message that waits for the connection, which is then sent once", () => outbox(world));
  await check("a token that does not hold is refused in the form", () => refused(world));
  if (!world.server.token) return;
  await check("a short-lived token is renewed without the person noticing", () => renewed(world));
  await check("one that cannot be renewed is said, and what was written is kept and sent after the next login", () => expired(world, { reloads: false }));
  await check("the same over a reload", () => expired(world, { reloads: true }));
  await check("after it another user sees nothing of the first", () => otherUser(world));
}

async function draft(world) {
  const page = await device(world);
  await logIn(page, "dora");
  await page.getByTestId("composer").fill("half a thought");
  await page.reload();
  await live(page);
  equal(await page.getByTestId("composer").inputValue(), "half a thought");
  await page.getByTestId("sign-out").click();
  await logIn(page, "dora");
  equal(await page.getByTestId("composer").inputValue(), "");
  await page.context().close();
}

async function outbox(world) {
  const page = await device(world);
  let isAway = false;
  await page.routeWebSocket(/\/ws$/, (socket) => (isAway ? socket.close({ code: 1013 }) : void socket.connectToServer()));
  await logIn(page, "olga");
  await ended(await sayAndGet(page, "what is 1+1?"), "completed");
  isAway = true;
  await page.reload();
  await inState(page, "offline");
  await page.getByTestId("composer").fill("what is 2+2?");
  await page.keyboard.press("Enter");
  await page.getByTestId("sending").waitFor();
  await page.reload();
  equal(await page.getByTestId("sending").innerText(), "what is 2+2?");
  isAway = false;
  await comeBack(page);
  await page.locator("#threads li").nth(1).waitFor();
  await page.locator("#threads li").first().locator("button").click();
  await ended(page.getByTestId("run"), "completed");
  equal(await page.getByTestId("message").allInnerTexts().then(String), "what is 2+2?");
  await page.reload();
  await page.locator("#threads li").nth(1).waitFor();
  equal(await page.getByTestId("sending").count(), 0);
  equal(await page.locator("#threads li").count(), 2);
  await page.context().close();
}

async function refused(world) {
  const page = await tokenDevice(world);
  await enterToken(page, "no.such.token");
  await page.getByTestId("login-error").waitFor();
  ensure((await page.getByTestId("login-error").innerText()).includes("does not accept this login"), "the reason");
  equal(await page.getByTestId("login-token").getAttribute("aria-invalid"), "true");
  await page.context().close();
}

async function renewed(world) {
  const page = await device(world);
  const lives = ["4s", "1h"];
  let given = 0;
  await page.route("**/dev/login", (route) => {
    const token = world.server.token({ user: "rena", ttl: lives[Math.min(given, 1)] });
    given += 1;
    return route.fulfill({ json: { token, expires_in: 4 } });
  });
  const sockets = [];
  const frames = [];
  page.on("websocket", (socket) => {
    sockets.push(socket);
    for (const name of ["framesent", "framereceived"]) socket.on(name, ({ payload }) => frames.push(JSON.parse(payload)));
  });
  await logIn(page, "rena");
  await page.evaluate(() => {
    globalThis.states = [];
    const state = document.getElementById("state");
    new MutationObserver(() => globalThis.states.push(state.dataset.state)).observe(state, { attributes: true });
  });
  const refresh = await until(() => frames.find(({ type }) => type === "refresh"), "a refresh");
  const reply = await until(() => frames.find(({ type, id }) => type === "reply" && id === refresh.id), "its answer");
  ensure(reply.ok && reply.expires_in > 3_000, JSON.stringify(reply));
  await ended(await sayAndGet(page, "what is 1+2?"), "completed");
  equal(given, 2);
  equal(sockets.length, 1);
  equal(JSON.stringify(await page.evaluate(() => globalThis.states)), "[]");
  equal(await page.getByTestId("banner").isVisible(), false);
  await page.context().close();
}

async function expired(world, { reloads }) {
  const page = await tokenDevice(world);
  await enterToken(page, world.server.token({ user: "exa", ttl: "1s" }));
  await live(page);
  await ended(await sayAndGet(page, "what is 1+2?"), "completed");
  const before = await story(page);
  await page.getByTestId("composer").fill("half a thought");
  await inState(page, "stopped");
  const banner = page.getByTestId("banner");
  ensure((await banner.innerText()).includes("Your login has expired. What you have written is kept."), await banner.innerText());
  equal(await page.getByTestId("composer").inputValue(), "half a thought");
  equal(await story(page), before);
  await page.getByTestId("composer").fill("what is 5+6?");
  await page.getByTestId("send").click();
  await page.getByTestId("sending").waitFor();
  await page.getByTestId("composer").fill("another half");
  if (reloads) await page.reload();
  else await page.getByTestId("retry").click();
  await fillToken(page, world.server.token({ user: "exa" }));
  await live(page);
  await page.getByTestId("run").nth(1).waitFor();
  await ended(page.getByTestId("run").nth(1), "completed");
  await until(async () => (await page.getByTestId("answer").last().innerText()).includes("11"), "the answer");
  equal(await page.getByTestId("sending").count(), 0);
  equal(await page.getByTestId("composer").inputValue(), "another half");
  await page.context().close();
}

async function otherUser(world) {
  const page = await tokenDevice(world);
  await enterToken(page, world.server.token({ user: "exa", ttl: "1s" }));
  await live(page);
  await inState(page, "stopped");
  await page.getByTestId("composer").fill("for nobody else");
  await page.getByTestId("composer").press("Enter");
  await page.getByTestId("sending").waitFor();
  await page.getByTestId("retry").click();
  await fillToken(page, world.server.token({ user: "oto" }));
  await live(page);
  await until(async () => (await page.getByTestId("user").innerText()) === "oto", "the other user");
  equal(await page.getByTestId("sending").count(), 0);
  equal(await page.locator("#threads li").count(), 0);
  equal(await story(page), "");
  await page.context().close();
}

/** A device on which the server is in no development mode. */
async function tokenDevice(world) {
  const page = await device(world);
  await page.route("**/dev/info", (route) => route.fulfill({ json: { dev: false } }));
  return page;
}

async function enterToken(page, token) {
  await page.goto(page.home);
  await fillToken(page, token);
}

async function fillToken(page, token) {
  await page.getByTestId("login-token").fill(token);
  await page.getByTestId("login-submit").click();
}
