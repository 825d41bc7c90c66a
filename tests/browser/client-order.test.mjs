// The client module in every order of losses, timers, tokens and calls: one way forward.

import assert from "node:assert/strict";
import { test } from "node:test";
import { event, settle, world } from "./client-world.mjs";

/** Numbers in [0, 1) that follow from `seed` alone (mulberry32). */
function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** So long a token is waited for. */
const TOKEN_DEADLINE_MS = 20_000;
const LOSSES = [1001, 1006, 1012, 4000, 4001, 4100, 4200, 4201, 4300];

/** Plays a random order of everything that can befall a client, and looks at what it holds after each step. */
async function playLosses(seed) {
  const random = seeded(seed);
  const chance = (share) => random() < share;
  const pick = (list) => list[Math.floor(random() * list.length)];
  const said = [];
  const tokens = [];
  const lost = new Set();
  const getToken = () => {
    if (chance(0.5)) return Promise.resolve("T");
    return new Promise((resolve, reject) => tokens.push({ resolve, reject, at: made?.clock.time ?? 0 }));
  };
  const meddle = ({ state }) => {
    said.push(state);
    if (made && open().length > 1) throw new Error(`two sockets, seed ${seed}: ${said}`);
    // Listeners call back, also in the middle of a change.
    if (state === "offline" && chance(0.2)) made?.client.retryNow();
    if (state === "live" && chance(0.1)) made?.client.retryNow();
    if (chance(0.005)) made?.client.close();
  };
  let made;
  const open = () => made.sockets.filter((socket) => !socket.closed && !lost.has(socket));
  made = await world({ token: undefined, getToken, random, onState: meddle });
  const { client, clock, sockets } = made;
  const steps = {
    lose: () => {
      const [socket] = open();
      if (!socket) return;
      lost.add(socket);
      socket.drop(pick(LOSSES));
    },
    // A socket that was left behind still has its say.
    echo: () => {
      const socket = pick(sockets);
      if (!socket || open().includes(socket)) return;
      pick([() => socket.onopen({}), () => socket.receive(event(1)), () => socket.drop(pick(LOSSES))])();
    },
    welcome: () => open().includes(made.socket()) && client.state === "connecting" && made.welcome(),
    fault: () => open()[0]?.receive("{"),
    leave: () => client.state === "live" && open()[0].receive({ type: "going_away", deadline: 1, reconnect_after: random() * 9 }),
    token: () => {
      const [asked] = tokens.splice(Math.floor(random() * tokens.length), 1);
      if (chance(0.3)) asked?.reject(new Error("not now"));
      else asked?.resolve("T");
    },
    retryNow: () => client.retryNow(),
    wake: () => client.wake(),
    start: () => client.start(),
    next: () => clock.pass(Math.max(0, Math.min(...[...clock.timers.values()].map(({ at }) => at), clock.time + 60_000) - clock.time)),
    pass: () => clock.pass(random() * 40_000),
  };
  let over = false;
  const look = (after) => {
    const ways = {
      socket: open().length,
      timer: client.state === "offline" ? clock.timers.size : 0,
      token: client.state === "connecting" ? tokens.filter(({ at }) => clock.time - at < TOKEN_DEADLINE_MS).length : 0,
    };
    const where = `seed ${seed}, after ${after}: ${client.state} ${JSON.stringify(ways)}`;
    if (over || client.state === "stopped") {
      over = true;
      assert.deepEqual([client.state, open().length, clock.timers.size], ["stopped", 0, 0], where);
    }
    if (!over) assert.equal(ways.socket + ways.timer + ways.token, 1, where);
  };
  const names = Object.keys(steps);
  const played = [];
  for (let step = 0; step < 80; step += 1) {
    const name = pick(names);
    played.push(name);
    await steps[name]();
    await settle();
    look(played.slice(-6).join(", "));
  }
  // Left alone, it has a socket again no later than its longest wait.
  tokens.splice(0).forEach(({ resolve }) => resolve("T"));
  await settle();
  for (let tries = 0; client.state === "offline" && tries < 100; tries += 1) {
    await clock.pass(30_000);
    tokens.splice(0).forEach(({ resolve }) => resolve("T"));
    await settle();
  }
  if (client.state !== "stopped") assert.equal(open().length, 1, `seed ${seed}: ${client.state}`);
  return { sockets: sockets.length, stopped: client.state === "stopped" };
}

test("whatever the order of losses, timers, tokens and retryNow: one way forward, never two sockets", async (t) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  t.diagnostic(`SEED=${seed}`);
  let sockets = 0;
  for (let round = 0; round < 300; round += 1) sockets += (await playLosses(seed + round)).sockets;
  assert.ok(sockets > 1_000, `only ${sockets} sockets in all: the orders are too tame`);
});
