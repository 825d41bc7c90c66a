// The picture of the operators' page: five minutes of a server that the test makes up, always the same ones.

import { device, logIn, until } from "./harness.mjs";
import { picture } from "./pictures.mjs";

const START_MS = Date.UTC(2026, 6, 15, 9, 20);
const UPTIME_S = 3 * 86_400 + 5 * 3_600;
const SECONDS = 300;
/** Of them the server is asked nothing in these: the page is hidden. */
const HIDDEN = { from: 140, to: 160 };
const STEP_MS = 1_000;
const LATENCY_BOUNDS = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1];
const BEHIND_BOUNDS = [0, 1, 2, 5, 10, 50, 100, 500];
const CLOSES = [
  ["1000", "client", 131],
  ["1001", "client", 84],
  ["none", "nobody", 19],
  ["4004", "server", 7],
  ["4005", "server", 2],
  ["4201", "server", 1],
];
const MIB = 1 << 20;

export async function operatorsPicture(world) {
  const page = await device(world, { path: "/operators", viewport: { width: 1280, height: 800 }, colorScheme: "light", reducedMotion: "reduce" });
  await page.clock.install({ time: START_MS });
  const server = new MadeUp();
  await page.routeWebSocket(/\/ws$/, (socket) => socket.onMessage((text) => server.answer(socket, JSON.parse(text))));
  // The clock stands still but for the seconds that are let pass.
  await page.clock.pauseAt(START_MS + STEP_MS);
  await logIn(page, "root");
  for (let second = 0; second < SECONDS; second += 1) await pass(page, server, second);
  await page.getByTestId("look-up-user").fill("ann");
  await page.getByTestId("look-up-submit").click();
  await page.getByTestId("found-run").waitFor();
  await page.evaluate(() => document.activeElement.blur());
  await page.mouse.move(0, 0);
  const note = await picture(page, "operators");
  await page.context().close();
  return note;
}

/** One second goes by, for the page and the server, and the page has what it asked for. */
async function pass(page, server, second) {
  if (second === HIDDEN.from || second === HIDDEN.to) await hide(page, second === HIDDEN.from);
  const asked = server.asked;
  server.pass();
  await page.clock.runFor(STEP_MS);
  if (second < HIDDEN.from || second > HIDDEN.to) await until(() => server.asked > asked, "the page to ask");
}

/** As a browser does with a tab that goes to the back. `timesLooked` says how often the page has looked since. */
export function hide(page, isHidden) {
  return page.evaluate((is) => {
    globalThis.timesLooked = 0;
    Object.defineProperty(document, "hidden", { configurable: true, get: () => (globalThis.timesLooked += 1) && is });
    document.dispatchEvent(new Event("visibilitychange"));
  }, isHidden);
}

/** A server under a load that swells and ebbs, with one bad time. */
class MadeUp {
  asked = 0;
  #second = 0;
  #noise = 7;
  #counters = { deliveries: 41_000, events: 19_000 };
  #resumes = { live: 96, replay: 41, snapshot: 6, reset: 3, new: 212 };
  #latency = LATENCY_BOUNDS.map(() => 0);
  #behind = BEHIND_BOUNDS.map(() => 0);
  #entries = 0;

  answer(socket, frame) {
    const reply = (fields) => socket.send(JSON.stringify({ type: "reply", id: frame.id, ok: true, ...fields }));
    if (frame.type === "hello") socket.send(JSON.stringify(welcome()));
    if (frame.type === "inspect" && frame.user_id) reply({ user: userFigures(frame.user_id) });
    if (frame.type !== "inspect" || frame.user_id) return;
    this.asked += 1;
    reply({ server: this.#figures() });
  }

  pass() {
    this.#second += 1;
    const load = this.#load();
    const events = Math.round(150 * load + 30 * this.#random());
    this.#counters.events += events;
    this.#counters.deliveries += Math.round(events * 2.2);
    const spread = this.#isBad() ? 6 : 1;
    for (let n = 0; n < events; n += 1) {
      this.#entries += 1;
      enter(this.#latency, LATENCY_BOUNDS, spread * (0.00008 + 0.002 * this.#random() ** 5));
      enter(this.#behind, BEHIND_BOUNDS, Math.floor(spread * 6 * this.#random() ** 6));
    }
    const shares = { live: 0.35, replay: 0.2, snapshot: this.#isBad() ? 0.3 : 0.02, reset: 0.02, new: 0.3 };
    const many = this.#isBad() ? 3 : 1;
    for (const [outcome, share] of Object.entries(shares)) if (this.#random() < share) this.#resumes[outcome] += many;
  }

  #load() {
    return 1 + 0.35 * Math.sin(this.#second / 40) + 0.15 * Math.sin(this.#second / 12);
  }

  #isBad() {
    return this.#second > 220 && this.#second < 240;
  }

  /** The same numbers each time, from 0 to below 1. */
  #random() {
    this.#noise = (this.#noise * 48_271) % 2_147_483_647;
    return this.#noise / 2_147_483_647;
  }

  #figures() {
    const load = this.#load();
    const devices = Math.round(48 * load);
    const time = START_MS / 1_000 + this.#second;
    const dependencies = [{ name: "search", level: "degraded", reason: "the index is rebuilt" }];
    const metrics = Object.entries({
      connections: [[{ kind: "device" }, devices], [{ kind: "producer" }, 3]],
      users: [[{ state: "connected" }, Math.round(devices * 0.7)], [{ state: "kept" }, 14]],
      deliveries_total: [[{}, this.#counters.deliveries]],
      events_total: [[{ type: "agent_delta" }, this.#counters.events]],
      delivery_seconds_bucket: buckets(LATENCY_BOUNDS, this.#latency, this.#entries),
      behind_events_bucket: buckets(BEHIND_BOUNDS, this.#behind, this.#entries),
      lagging_streams: [[{}, this.#isBad() ? 4 : 0]],
      queue_bytes: [[{}, Math.round(3_000 * load + (this.#isBad() ? 9_000 : 0))]],
      queue_bytes_max: [[{}, Math.round(700 * load + (this.#isBad() ? 5_000 : 0))]],
      runs_open: [[{}, Math.round(9 * load)]],
      requests_open: [[{}, this.#isBad() ? 3 : 1]],
      resumes_total: Object.entries(this.#resumes).map(([outcome, value]) => [{ stream: "user", outcome }, value]),
      closes_total: CLOSES.map(([code, by, value]) => [{ code, by }, value]),
      memory_bytes: [["logs", 412], ["snapshots", 38], ["keys", 190], ["inbound", 2]].map(([kind, mib]) => [{ kind }, mib * MIB]),
      memory_limit_bytes: [["logs", 1024], ["snapshots", 256], ["keys", 256], ["inbound", 256]].map(([kind, mib]) => [{ kind }, mib * MIB]),
      sockets: [[{ state: "unauthenticated" }, 2], [{ state: "authenticated" }, devices + 3]],
      sockets_limit: [[{ state: "unauthenticated" }, 100], [{ state: "all" }, 1_000]],
    }).map(([name, samples]) => ({ name: `trunkline_${name}`, samples: samples.map(([labels, value]) => ({ labels, value })) }));
    return { version: "0.1.0", started: START_MS / 1_000 - UPTIME_S, time, draining: false, level: "degraded", reason: "search: the index is rebuilt", dependencies, metrics };
  }
}

function enter(counts, bounds, value) {
  bounds.forEach((bound, index) => (counts[index] += value <= bound ? 1 : 0));
}

function buckets(bounds, counts, entries) {
  return [...bounds.map((bound, index) => [{ le: String(bound) }, counts[index]]), [{ le: "+Inf" }, entries]];
}

function welcome() {
  const stream = { stream: "user", event_id: "1784107200000000-0", head: "1784107200000000-0", mode: "live" };
  return { type: "welcome", connection_id: "conn_0", session_id: "sess_0", user_id: "root", expires_in: 3_600, heartbeat: { interval: 25, timeout: 10 }, streams: [stream] };
}

function userFigures(userId) {
  return {
    user_id: userId,
    head: "1784107200000000-812",
    connections: [
      { connection_id: "conn_0e8c3826fadd7f1cba42c5a1de93b1e4", session_id: "sess_01a2207cca706d58a91b0f6630c4e6c5", acked: "1784107200000000-812", behind: 0 },
      { connection_id: "conn_a63cb34afe2b6d0a3c1f94b7e2586d20", session_id: "sess_01a2207cca70f44bb5be27d31f8a9c11", acked: "1784107200000000-775", behind: 37 },
    ],
    runs: [{ run_id: "run_01b8ca8f3c24d6a7b0e95f1c83d2467a", thread_id: "t-budget", agent_name: "assistant", status: "running", run_seq: 31, lease_left: 24.5 }],
  };
}
