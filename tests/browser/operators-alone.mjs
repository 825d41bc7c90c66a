// The operators' page with a server that the test makes up: answers that are late or never come, and one operator after another.

import { device, ensure, equal, live, until } from "./harness.mjs";

const PATH = "/operators";
const STARTED = 1_700_000_000;
const VERSION = "9.9.9-first";

/** A page, and everything that it asks for over its lines; nothing is answered but what `answer` is told to. */
async function open(world, { welcome = {}, ...options } = {}) {
  const page = await device(world, { path: PATH, cuts: true, ...options });
  const made = { page, lines: [], asked: [], welcome };
  await page.clock.install();
  await page.routeWebSocket(/\/ws$/, (socket) => {
    const line = { socket, isOpen: true };
    made.lines.push(line);
    socket.onClose(() => (line.isOpen = false));
    socket.onMessage((text) => take(made, line, JSON.parse(text)));
  });
  await page.goto(page.home);
  return made;
}

function take(made, line, frame) {
  const send = (reply) => line.isOpen && line.socket.send(JSON.stringify(reply));
  if (frame.type === "hello") send({ ...WELCOME, ...made.welcome });
  if (frame.type !== "inspect") return;
  const reply = (fields) => send({ type: "reply", id: frame.id, ok: true, ...fields });
  const refuse = (code) => send({ type: "reply", id: frame.id, ok: false, error: { code, message: code, temporary: false } });
  made.asked.push({ user: frame.user_id ?? null, line, reply, refuse });
}

const WELCOME = {
  type: "welcome",
  connection_id: "conn_0",
  session_id: "sess_0",
  user_id: "root",
  expires_in: 3_600,
  heartbeat: { interval: 1_000, timeout: 1_000 },
  streams: [{ stream: "user", event_id: "1-0", head: "1-0", mode: "live" }],
};

function figures(connections) {
  const metrics = [
    { name: "trunkline_connections", samples: [{ labels: { kind: "device" }, value: connections }] },
    {
      name: "trunkline_closes_total",
      samples: [
        { labels: { code: "1000", reason: "normal", by: "client" }, value: 5 },
        { labels: { code: "1000", reason: "normal", by: "server" }, value: 3 },
        { labels: { code: "none", reason: "broken", by: "nobody" }, value: 2 },
        { labels: { code: "4005", reason: "disconnected", by: "server" }, value: 1 },
      ],
    },
  ];
  return { server: { version: VERSION, started: STARTED, time: STARTED + 60, draining: false, level: "normal", reason: "", dependencies: [], metrics } };
}

const person = (user_id) => ({ user: { user_id, head: "1-5", connections: [], runs: [] } });
const of = (made, user) => made.asked.filter((one) => one.user === user);

async function enter(page, name) {
  await page.getByTestId("login-name").fill(name);
  await page.getByTestId("login-submit").click();
  await live(page);
}

/** Waits for so many questions about a user, or about the server where it is `null`, and answers the newest. */
async function asked(made, user, many = 1) {
  await until(() => of(made, user).length >= many, `${many} questions about ${user ?? "the server"}`);
  return of(made, user).at(-1);
}

async function shown(page, testId) {
  await page.getByTestId(testId).waitFor();
}

/** A look-up whose answer takes longer than the time between two of them, and one that is refused. */
export async function lateLookUp(world) {
  const made = await open(world);
  const { page } = made;
  await enter(page, "root");
  await page.getByTestId("look-up-user").fill("ann");
  await page.getByTestId("look-up-submit").click();
  const first = await asked(made, "ann");
  await page.clock.runFor(7_000);
  equal(of(made, "ann").length, 1);
  first.reply(person("ann"));
  await shown(page, "user-found");
  // The next one goes out by itself, and one that never comes is asked again.
  await page.clock.runFor(2_000);
  await asked(made, "ann", 2);
  await page.clock.runFor(13_000);
  (await asked(made, "ann", 3)).refuse("not_found");
  await until(async () => (await page.getByTestId("user-problem").innerText()).startsWith("No such user"), "the refusal");
  await page.clock.runFor(9_000);
  equal(of(made, "ann").length, 3);
  await page.context().close();
}

/** An answer that never comes is said, and asked for again; never two questions at once. */
export async function noAnswer(world) {
  const made = await open(world);
  const { page } = made;
  await enter(page, "root");
  const first = await asked(made, null);
  await page.clock.runFor(8_000);
  equal(of(made, null).length, 1);
  equal(await page.getByTestId("no-answer").isVisible(), false);
  await page.clock.runFor(3_000);
  await shown(page, "no-answer");
  ensure((await page.getByTestId("no-answer").innerText()).startsWith("No answer"), "it does not say so");
  await page.clock.runFor(1_000);
  const second = await asked(made, null, 2);
  first.reply(figures(111));
  second.reply(figures(222));
  await shown(page, "figures");
  equal(await page.getByTestId("figure-connections").innerText(), "222");
  equal(await page.getByTestId("no-answer").isVisible(), false);
  await page.context().close();
}

/** Who closed stands beside the code, and all of it in the panel. */
export async function closesByWhom(world) {
  const made = await open(world, { viewport: { width: 1280, height: 800 } });
  const { page } = made;
  await enter(page, "root");
  (await asked(made, null)).reply(figures(1));
  await shown(page, "closes");
  const rows = (await page.getByTestId("close").allInnerTexts()).map((text) => text.trim().split(/\s+/));
  const [client, server, nobody] = rows;
  equal([client[0], client.includes("client"), client.at(-1)].join(), "1000,true,5");
  equal([server[0], server.includes("server"), server.at(-1)].join(), "1000,true,3");
  equal([nobody[0], nobody.includes("–"), nobody.at(-1)].join(), "none,true,2");
  const wider = await page.locator("#closes-table").evaluate((table) => table.getBoundingClientRect().right - table.parentElement.getBoundingClientRect().right);
  ensure(wider < -8, `the table reaches ${wider} px beyond its panel`);
  await page.context().close();
}

/** What one operator was shown is gone before the next one logs in, who may be a tenant's admin. */
export async function nextOperator(world) {
  const made = await open(world);
  const { page } = made;
  await enter(page, "root");
  (await asked(made, null)).reply(figures(1));
  await shown(page, "figures");
  await page.locator("#plots").evaluate((plots) => (plots.firstElementChild.dataset.mark = "first"));
  await page.locator("#all-figures summary").click();
  await page.getByTestId("sign-out").click();
  await shown(page, "login-name");
  ensure(!(await page.content()).includes(VERSION), "the figures are still there");
  const before = of(made, null).length;
  await enter(page, "tess");
  const first = await asked(made, null, before + 1);
  for (const part of ["figures", "budgets", "closes", "drain"]) equal(await page.getByTestId(part).isVisible(), false);
  first.refuse("forbidden");
  (await asked(made, "root")).reply(person("root"));
  await shown(page, "tenant-only");
  for (const part of ["figures", "budgets", "closes", "drain"]) equal(await page.getByTestId(part).isVisible(), false);
  await page.getByTestId("sign-out").click();
  await enter(page, "root");
  equal(await page.getByTestId("figures").isVisible(), false);
  (await asked(made, null, before + 2)).reply(figures(2));
  await shown(page, "figures");
  equal(await page.locator("#plots").evaluate((plots) => plots.firstElementChild.dataset.mark), "first");
  // One point, which is a line without a length.
  ensure(/^M[\d. ]+h0\.01$/.test(await page.getByTestId("card-connections").locator("path.line.s1").getAttribute("d")), "samples of another login");
  await page.context().close();
}

/** However often it is pressed, there is one line. */
export async function pressedTwice(world) {
  const made = await open(world);
  const { page } = made;
  const held = [];
  await page.route("**/dev/login", (route) => held.push(route));
  await page.getByTestId("login-name").fill("root");
  await page.locator("#login-form").evaluate((form) => [1, 2, 3].forEach(() => form.requestSubmit()));
  await until(() => held.length > 0, "the login");
  for (const route of held) await route.continue();
  await live(page);
  await asked(made, null);
  equal(held.length, 1);
  equal(made.lines.length, 1);
  await page.getByTestId("sign-out").click();
  await until(() => !made.lines[0].isOpen, "the end of the line");
  await page.context().close();
}

/** A token that was asked for by one operator is not the next one's. */
export async function lateToken(world) {
  const made = await open(world, { welcome: { expires_in: 60 } });
  const { page } = made;
  await enter(page, "alice");
  const held = [];
  await page.route("**/dev/login", (route) => (JSON.parse(route.request().postData()).user === "alice" ? held.push(route) : route.continue()));
  await page.clock.runFor(40_000);
  await until(() => held.length > 0, "a new token to be asked for");
  await page.getByTestId("sign-out").click();
  await enter(page, "bob");
  const stored = () => page.evaluate(() => JSON.parse(sessionStorage.getItem("trunkline.operator")));
  const before = await stored();
  await Promise.all([page.waitForResponse("**/dev/login"), held[0].fulfill({ json: { token: "of.alice.late" } })]);
  // What comes after the answer has been read.
  await page.evaluate(() => fetch("/dev/info").then((answer) => answer.text()));
  equal(JSON.stringify(await stored()), JSON.stringify(before));
  equal(before.user, "bob");
  await page.context().close();
}
