// A minute of work for the picture of the operators' page: users who ask, lose their lines and come back.

import WebSocket from "ws";
import { connect } from "../../core/js/trunkline.js";

const USERS = 12;
const MINUTE_MS = 75_000;
const ASK_MS = 1_400;
const CUT_MS = 2_600;

let lines = [];
let timers = [];

/** Resolves after a minute; the users are there until `busyMinute.end()`. */
export async function busyMinute(world) {
  const url = new URL("/ws", world.server.url.replace("http", "ws")).href;
  const sockets = [];
  class Cuttable extends WebSocket {
    constructor(...given) {
      super(...given);
      sockets.push(this);
    }
  }
  lines = Array.from({ length: USERS }, (_, index) => {
    const token = world.server.token({ user: `user-${1 + (index % (USERS - 4))}` });
    return connect({ url, token, WebSocket: Cuttable, position: "0-0" });
  });
  const any = (some) => some[Math.floor(Math.random() * some.length)];
  timers = [
    setInterval(() => any(lines).send("main", `please repeat this: ${"and on, ".repeat(5 + Math.random() * 60)}`).catch(() => {}), ASK_MS),
    setInterval(() => any(sockets.filter(({ readyState }) => readyState === WebSocket.OPEN))?.terminate(), CUT_MS),
  ];
  await new Promise((resolve) => setTimeout(resolve, MINUTE_MS));
}

busyMinute.end = () => {
  timers.forEach(clearInterval);
  lines.forEach((line) => line.close());
};
