// A minute of work for the picture of the operators' page: users who ask, lose their lines and come back.

import WebSocket from "ws";
import { connect } from "../../core/js/trunkline.js";

const DEVICES = 14;
const USERS = 9;
const MINUTE_MS = 75_000;
const ASK_MS = 700;
const CUT_MS = 2_600;

/** Resolves after a minute, with `busiest`, whose run goes on for a while; the users are there until `end()`. */
export async function busyMinute(world) {
  const sockets = [];
  class Cuttable extends WebSocket {
    constructor(...given) {
      super(...given);
      sockets.push(this);
    }
  }
  const url = new URL("/ws", world.server.url.replace("http", "ws")).href;
  const names = Array.from({ length: DEVICES }, (_, index) => `user-${1 + (index % USERS)}`);
  const lines = names.map((user) => connect({ url, token: world.server.token({ user }), WebSocket: Cuttable, position: "0-0" }));
  const repeat = (line, times) => line.send("main", `please repeat this: ${"and on, ".repeat(times)}`).catch(() => {});
  const timers = [
    setInterval(() => repeat(any(lines), 20 + Math.random() * 120), ASK_MS),
    setInterval(() => any(sockets.filter(({ readyState }) => readyState === WebSocket.OPEN))?.terminate(), CUT_MS),
  ];
  await new Promise((resolve) => setTimeout(resolve, MINUTE_MS));
  await repeat(lines[0], 2_000);
  const end = () => {
    timers.forEach(clearInterval);
    lines.forEach((line) => line.close());
  };
  return { busiest: names[0], end };
}

function any(some) {
  return some[Math.floor(Math.random() * some.length)];
}
