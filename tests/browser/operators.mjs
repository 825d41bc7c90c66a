// The operators' page: whether its figures are true, what can be done about a user, and who is let see what.

import { axe } from "./chat-access.mjs";
import { LONG, ended, say } from "./chat-steps.mjs";
import { check, device, ensure, equal, inState, live, logIn, shoot, until } from "./harness.mjs";
import { closesByWhom, lateLookUp, lateToken, nextOperator, noAnswer, pressedTwice } from "./operators-alone.mjs";
import { hide, operatorsPicture } from "./operators-picture.mjs";

const PATH = "/operators";
const SECRET_WORDS = "nobody else is to read this";

/** Needs the server's own tokens and restarts, so it runs only where the test has started the server. */
export async function operators(world) {
  if (!world.server.token) return;
  const root = await device(world, { path: PATH, cuts: true, viewport: { width: 1280, height: 800 } });
  await check("an operator logs in and sees figures", () => firstFigures(root));
  const devices = await threeDevices(world);
  await check("connections, users, runs and deliveries rise and fall with what happens", () => trueFigures(root, devices));
  await check("the look-up shows connections, positions and runs", () => lookUp(root, devices));
  await check("a connection that is closed comes back by itself, and the close is counted", () => closeOne(root, devices));
  await check("all connections of a user are closed at once", () => closeAll(root, devices));
  await check("a revoked session is signed out", () => revokeSession(root, world));
  await check("what is revoked as a whole is signed out", () => revokeAll(root, world));
  await check("no message and no token is on the page", () => nothingSecret(root));
  await check("plots are read by keyboard and pointer, and as a table", () => readPlots(root));
  await check("a hidden tab asks nothing and leaves a gap", () => hidden(root));
  await check("a plain user's token is refused kindly", () => refusePlainUser(world));
  await check("a tenant's admin sees its users and no figures", () => tenantAdmin(world, root));
  await check("axe finds nothing, light, dark and narrow", () => looks(world));
  await check("a look-up that takes longer than the time between two is shown, and a refused one is not asked again", () => lateLookUp(world));
  await check("figures that do not come are said, and asked for again one at a time", () => noAnswer(world));
  await check("a close says who closed", () => closesByWhom(world));
  await check("the next operator sees nothing of the one before", () => nextOperator(world));
  await check("a login that is pressed twice opens one line", () => pressedTwice(world));
  await check("a token that comes late is not the next operator's", () => lateToken(world));
  await check("the operators' picture", () => operatorsPicture(world));
  await check("a restart leaves a gap and the figures go on", () => restart(root, world));
  await check("draining asks first, tells everybody and lets nobody in", () => drain(root, world));
  for (const page of [root, ...devices]) await page.context().close();
}

// --- figures

async function firstFigures(root) {
  await logIn(root, "root");
  await until(async () => (await figure(root, "connections")) >= 1, "a figure");
  equal(await root.getByTestId("service-level").innerText(), "Normal service");
  equal(await root.locator("[data-testid^=card-]").count(), 8);
}

async function threeDevices(world) {
  const devices = [];
  for (const name of ["ann", "ann", "bob"]) {
    devices.push(await device(world, { cuts: true }));
    await logIn(devices.at(-1), name);
  }
  return devices;
}

async function trueFigures(root, devices) {
  await figureIs(root, "users", 3);
  await figureIs(root, "connections", 4);
  const [ann] = devices;
  // Others' runs may wait for somebody.
  const open = await figure(root, "runs");
  await say(ann, `${LONG} ${SECRET_WORDS}`);
  await figureIs(root, "runs", open + 1);
  await until(async () => (await figure(root, "deliveries")) > 0, "deliveries");
  await until(async () => / (µs|ms|s)$/.test(await root.getByTestId("figure-latency").innerText()), "a latency");
  await ended(ann.getByTestId("run").last(), "completed");
  await figureIs(root, "runs", open);
  await until(async () => (await figure(root, "deliveries")) === 0, "the end of the deliveries");
}

async function lookUp(root, [ann]) {
  await find(root, "nobody");
  ensure((await root.getByTestId("user-found").innerText()).includes("0 connections"), "an unknown user has connections");
  await find(root, "ann");
  equal(await root.getByTestId("connection").count(), 2);
  // A device acknowledges at the end of a run, and so both have.
  const head = /\d+-\d+/.exec(await root.getByTestId("user-head").innerText())[0];
  await until(async () => (await root.getByTestId("connection").allInnerTexts()).every((text) => text.includes(head)), "the positions");
  await say(ann, LONG);
  await ann.getByTestId("cancel").last().waitFor();
  await find(root, "ann");
  const run = root.getByTestId("found-run");
  await run.waitFor();
  ensure(/running/.test(await run.innerText()), await run.innerText());
  await ann.getByTestId("cancel").last().click();
  await ended(ann.getByTestId("run").last(), "cancelled");
  await run.waitFor({ state: "detached" });
}

// --- what can be done

async function closeOne(root, [first, second]) {
  const before = await connectionIds(root);
  await root.getByTestId("close-one").first().click();
  ensure((await root.getByTestId("confirm").innerText()).includes("comes back by itself"), "it does not say what it will do");
  await axe(root, "a question");
  await root.keyboard.press("Escape");
  equal((await connectionIds(root)).join(), before.join());
  await root.getByTestId("close-one").first().click();
  await confirm(root);
  await announced(root, "Done. 1 connection closed.");
  await until(async () => (await connectionIds(root)).filter((id) => !before.includes(id)).length === 1, "another connection in its place");
  equal(await root.getByTestId("connection").count(), 2);
  for (const page of [first, second]) await live(page);
  await until(async () => /4005\s+disconnected\s+server\s+1\s/.test(await closesText(root)), "the close in the table");
}

async function closeAll(root, [first, second]) {
  const before = await connectionIds(root);
  await root.getByTestId("close-all").click();
  await confirm(root);
  await announced(root, "Done. 2 connections closed.");
  await until(async () => (await connectionIds(root)).filter((id) => !before.includes(id)).length === 2, "two others");
  for (const page of [first, second]) await live(page);
}

async function revokeSession(root, world) {
  const cara = await byToken(world, "/", "trunkline.session", { user: "cara" });
  await live(cara);
  await find(root, "cara");
  await root.getByTestId("revoke-one").click();
  await confirm(root);
  await announced(root, "Done. 1 connection closed.");
  await signedOut(cara);
  await until(async () => (await root.getByTestId("connection").count()) === 0, "nobody");
  await cara.context().close();
}

async function revokeAll(root, world) {
  const token = world.server.token({ user: "dora" });
  const devices = [await byToken(world, "/", "trunkline.session", { token }), await byToken(world, "/", "trunkline.session", { token })];
  for (const dora of devices) await live(dora);
  await find(root, "dora");
  await root.getByTestId("revoke-all").click();
  await confirm(root);
  await announced(root, "Done. 2 connections closed.");
  for (const dora of devices) {
    await signedOut(dora);
    await dora.context().close();
  }
}

/** The chat says so, and keeps what was shown until somebody logs in again. */
async function signedOut(page) {
  await inState(page, "stopped");
  ensure((await page.getByTestId("banner").innerText()).includes("revoked"), await page.getByTestId("banner").innerText());
}

async function drain(root, world) {
  const ann = await device(world, { cuts: true });
  await logIn(ann, "ann");
  await root.getByTestId("drain").click();
  await root.getByTestId("confirm-word").fill("drai");
  ensure(await root.getByTestId("confirm-do").isDisabled(), "half a word is enough");
  await root.getByTestId("confirm-word").fill("drain");
  await confirm(root);
  await inState(ann, "offline");
  await inState(root, "offline");
  await root.getByTestId("banner").waitFor();
  await shoot(root, "operators-drained");
  await world.server.restart();
  for (const page of [root, ann]) await live(page, 60_000);
  await until(async () => (await figure(root, "connections")) >= 2, "figures again");
  await ann.context().close();
}

// --- who is let see what

async function nothingSecret(root) {
  const html = await root.content();
  const token = await root.evaluate(() => JSON.parse(sessionStorage.getItem("trunkline.operator")).token);
  for (const secret of [SECRET_WORDS, "quick brown fox", token, token.split(".")[2], "eyJ"]) ensure(!html.includes(secret), `the page holds ${secret}`);
}

async function refusePlainUser(world) {
  const eve = await byToken(world, PATH, "trunkline.operator", { user: "eve" });
  const problem = eve.getByTestId("login-error");
  await problem.waitFor();
  ensure((await problem.innerText()).includes("admin"), await problem.innerText());
  equal(await eve.getByTestId("login-name").isVisible(), true);
  await eve.context().close();
}

async function tenantAdmin(world, root) {
  const ann = await byToken(world, "/", "trunkline.session", { user: "ann", tenant: "acme" });
  await live(ann);
  const tess = await byToken(world, PATH, "trunkline.operator", { user: "tess", tenant: "acme", scope: "admin" });
  await tess.getByTestId("tenant-only").waitFor();
  for (const part of ["service-level", "drain", "budgets"]) equal(await tess.getByTestId(part).isVisible(), false);
  await find(tess, "bob");
  ensure((await tess.getByTestId("user-found").innerText()).includes("0 connections"), "another tenant's user is shown");
  await find(tess, "ann");
  equal(await tess.getByTestId("connection").count(), 1);
  await find(root, "ann");
  equal(await root.getByTestId("connection").count(), 2);
  await axe(tess, "a tenant's admin");
  await tess.getByTestId("close-one").click();
  await confirm(tess);
  await announced(tess, "Done. 1 connection closed.");
  await live(ann);
  for (const page of [ann, tess]) await page.context().close();
}

// --- plots, gaps, looks

async function readPlots(root) {
  const plot = root.getByTestId("card-connections").getByRole("slider");
  await plot.focus();
  ensure((await plot.getAttribute("aria-valuetext")).startsWith("now: devices "), await plot.getAttribute("aria-valuetext"));
  await root.keyboard.press("ArrowLeft");
  ensure(/^\d\d:\d\d:\d\d: devices \d+/.test(await plot.getAttribute("aria-valuetext")), await plot.getAttribute("aria-valuetext"));
  ensure(Number(await plot.getAttribute("aria-valuenow")) < 0, "the reader has not moved");
  await root.keyboard.press("End");
  await root.getByTestId("card-users").getByRole("slider").hover();
  // One moment for all of the plots.
  await until(async () => (await root.locator(".figure.past").count()) === 8, "the moment under the pointer");
  await root.mouse.move(0, 0);
  await root.locator("#all-figures summary").click();
  await until(async () => /Connections: devices\s+\d/.test(await root.locator("#all-figures").innerText()), "the table");
  await root.locator("#all-figures summary").click();
}

async function hidden(root) {
  const before = await gaps(root);
  const asked = [];
  await root.exposeFunction("asked", (text) => asked.push(text));
  await root.evaluate(() => {
    const { send } = WebSocket.prototype;
    WebSocket.prototype.send = function (text) {
      if (text.includes('"inspect"')) globalThis.asked(text);
      return send.call(this, text);
    };
  });
  await hide(root, true);
  asked.length = 0;
  // Each time that it would ask, it looks whether anybody could see the answer.
  const looked = await timesLooked(root);
  await until(async () => (await timesLooked(root)) >= looked + 6, "the page to look whether it is hidden");
  equal(asked.length, 0);
  await hide(root, false);
  await until(async () => (await gaps(root)) === before + 1, "the gap");
  ensure(asked.length > 0, "it asks no more");
}

async function looks(world) {
  for (const [name, options] of Object.entries({ light: {}, dark: { colorScheme: "dark" }, narrow: { viewport: { width: 360, height: 720 }, colorScheme: "dark" } })) {
    const page = await device(world, { path: PATH, ...options });
    await page.goto(page.home);
    await page.getByTestId("login-name").waitFor();
    await axe(page, `${name}: the log-in`);
    await logIn(page, "rita");
    await until(async () => (await figure(page, "connections")) > 0, "figures");
    await find(page, "ann");
    await page.locator("#all-figures summary").click();
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    ensure(wider <= 0, `${name}: the page is ${wider} px too wide`);
    await axe(page, name);
    await page.getByTestId("drain").click();
    await axe(page, `${name}: the question`);
    await page.keyboard.press("Escape");
    await shoot(page, `operators-${name}`);
    await page.context().close();
  }
}

async function restart(root, world) {
  const before = await gaps(root);
  await Promise.all([root.getByTestId("banner").waitFor(), world.server.restart()]);
  await live(root, 60_000);
  await until(async () => (await gaps(root)) === before + 1, "the gap");
  await until(async () => (await figure(root, "connections")) >= 1, "figures again");
}

// --- what the checks are made of

/** A page whose log-in is a token of its own: `claims` says for whom, or holds it. */
async function byToken(world, path, key, claims) {
  const page = await device(world, { path, cuts: true });
  await page.goto(page.home);
  const token = claims.token ?? world.server.token(claims);
  await page.evaluate(([name, value]) => sessionStorage.setItem(name, value), [key, JSON.stringify({ token })]);
  await page.reload();
  return page;
}

async function figure(page, id) {
  return Number((await page.getByTestId(`figure-${id}`).innerText()).replaceAll(",", ""));
}

async function figureIs(page, id, wanted) {
  await until(async () => (await figure(page, id)) === wanted, `${id}: ${wanted}`);
}

async function find(page, user) {
  await page.getByTestId("look-up-user").fill(user);
  await page.getByTestId("look-up-submit").click();
  await until(async () => (await page.getByTestId("user-found").isVisible()) && (await page.getByTestId("user-id").innerText()) === user, `the user ${user}`);
}

async function confirm(page) {
  await page.getByTestId("confirm-do").click();
}

async function announced(page, text) {
  await until(async () => (await page.getByTestId("announcer").textContent()) === text, text);
}

function connectionIds(page) {
  return page.getByTestId("connection").evaluateAll((rows) => rows.map((row) => row.dataset.key));
}

async function closesText(page) {
  return page.getByTestId("closes").innerText();
}

/** How often the page has looked whether it is hidden since it is. */
function timesLooked(page) {
  return page.evaluate(() => globalThis.timesLooked);
}

function gaps(page) {
  return page.getByTestId("card-connections").locator(".gaps rect").count();
}
