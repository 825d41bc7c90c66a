// Compiles if the types of the client's module say what it can do. `@ts-expect-error` stands before what they must not allow.

import { START, StreamFault, closeName, connect, reduceRun, restoreRun, runIdsOf } from "../../core/js/trunkline.js";
import type { RunView, State, TrunklineEvent } from "../../core/js/trunkline.js";

const runs = new Map<string, RunView>();
const states: State[] = [];
const line = connect({
  url: "ws://127.0.0.1:8787/ws",
  getToken: async () => null,
  position: START,
  topics: ["news"],
  onState: ({ state, retryAt }) => states.push(retryAt === null ? state : "offline"),
  onSnapshot: ({ runs: pieces }) => pieces.forEach((piece) => runs.set(piece.run_id, restoreRun(runs.get(piece.run_id), piece))),
  onEvent: (event) => {
    for (const id of runIdsOf(event)) runs.set(id, reduceRun(runs.get(id), event, id));
    if (event.type === "custom" && event.event_id === undefined) throw new StreamFault("not wanted");
  },
});

export async function all(): Promise<string> {
  const stop = line.on("topic", (change) => (change.left ? change.topic : change.lost?.to));
  const key: string = await line.send("t", "hello", { key: "k", metadata: { from: "here" } });
  await line.subscribe("ops", { position: "1-2" });
  for await (const event of line.events()) text(event);
  stop();
  line.close();
  return key;
}

export async function operate(): Promise<string[]> {
  const { level, metrics } = await line.inspect();
  const { connections } = await line.inspect("ann");
  const closed: number = (await line.disconnect("ann")) + (await line.disconnect("ann", connections[0]!.connection_id));
  await line.revoke("ann", { sessionId: "s" });
  await line.revoke("ann", { all: true, expires: closed });
  await line.drain();
  line.retryNow();
  line.wake();
  return [level, closeName(4005), ...metrics.map(({ name }) => name)];
}

function text(event: TrunklineEvent): string {
  switch (event.type) {
    case "agent_delta":
      return event.text;
    case "agent_completed":
      return event.final_response ?? "";
    default:
      return event.type;
  }
}

// @ts-expect-error an address must be there
connect({ token: "t" });
// @ts-expect-error there is no such listener
line.on("events", () => {});
// @ts-expect-error a state is none of the others
states.push("online");
// @ts-expect-error one thing is taken back at a time
line.revoke("ann", { sessionId: "s", all: true });
// @ts-expect-error a session, a token or all must be named
line.revoke("ann", {});
connect({ url: "ws://127.0.0.1:8787/ws", getTicket: async () => null });
// @ts-expect-error an id that may be missing does not mean all
line.disconnect("ann", [""].at(1));
