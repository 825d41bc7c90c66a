// The client module: runs as its reducer makes them of events, and what the client in Rust is held to as well.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { StreamFault, checkFollows, formatPosition, markGap, nextAction, parsePosition, reduceRun, restoreRun, runIdsOf } from "../../core/js/trunkline.js";

test("a large call comes in two pieces and is one call", () => {
  const head = { run_id: "run_1", status: "running", run_seq: 9 };
  const call = { tool_call_id: "c", tool_name: "sum" };
  const pieces = [
    { ...head, tools: [{ ...call, parameters: [2, 2] }] },
    { ...head, tools: [{ ...call, results: 4, success: true }] },
  ];
  const { tools, steps } = pieces.reduce((run, piece) => restoreRun(run, piece), undefined);
  assert.deepEqual([tools.length, steps.length], [1, 1]);
  assert.deepEqual([tools[0].parameters, tools[0].results, tools[0].success], [[2, 2], 4, true]);
});

test("a run is restored from the pieces of a snapshot and goes on from there", () => {
  const head = { run_id: "run_1", thread_id: "t", agent_name: "a", status: "running", run_seq: 9 };
  const pieces = [
    { ...head, thoughts: ["hm"], tools: [], parts: [] },
    { ...head, thoughts: [], tools: [{ tool_call_id: "c", tool_name: "sum", results: 4, success: true }], parts: [] },
    { ...head, thoughts: [], tools: [], parts: [{ part_id: "p", offset: 0, text: "né🙂" }] },
    { ...head, thoughts: [], tools: [], parts: [{ part_id: "p", offset: 3, text: " and" }] },
  ];
  const restored = pieces.reduce((run, piece) => restoreRun(run, piece), undefined);
  assert.equal(restored.status, "running");
  assert.deepEqual(restored.tools.map((tool) => [tool.name, tool.results, tool.success]), [["sum", 4, true]]);
  const after = reduceRun(restored, { type: "agent_delta", run_id: "run_1", part_id: "p", offset: 7, text: "!" });
  assert.equal(after.parts[0].text, "né🙂 and!");
});

const on = (type, more = {}) => ({ type, run_id: "r", thread_id: "t", agent_name: "assistant", ...more });
const fold = (events, run) => events.reduce((state, one) => reduceRun(state, one), run);
const delta = (offset, text, partId = "p") => on("agent_delta", { part_id: partId, offset, text });

test("a run unfolds: thoughts, tools, text, end", () => {
  const run = fold([
    on("agent_started"),
    on("agent_thinking", { thought: "hm", step: 1 }),
    on("tool_executing", { tool_call_id: "a", tool_name: "calculate", parameters: { x: 1 } }),
    on("tool_executing", { tool_call_id: "b", tool_name: "search" }),
    on("tool_completed", { tool_call_id: "b", tool_name: "search", results: null, success: false, error: "none" }),
    on("tool_completed", { tool_call_id: "a", tool_name: "calculate", results: 14, success: true, duration_ms: 3 }),
    delta(0, "four"),
    delta(4, "teen"),
    on("agent_completed", { final_response: "fourteen", duration_ms: 20 }),
  ]);
  assert.equal(run.status, "completed");
  assert.deepEqual(run.steps, [["thought", 0], ["tool", 0], ["tool", 1]]);
  assert.equal(run.thoughts[0].thought, "hm");
  assert.deepEqual(run.tools[0], { toolCallId: "a", name: "calculate", parameters: { x: 1 }, results: 14, success: true, error: null, durationMs: 3 });
  assert.deepEqual([run.tools[1].success, run.tools[1].error], [false, "none"]);
  assert.equal(run.parts[0].text, "fourteen");
  assert.deepEqual([run.terminal.finalResponse, run.terminal.durationMs], ["fourteen", 20]);
  assert.equal(reduceRun(run, delta(8, "!")), run);
});

test("the reducer changes nothing that it was given", () => {
  const freeze = (value) => {
    if (typeof value === "object" && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
    return value;
  };
  let run;
  for (const one of [on("agent_started"), on("tool_executing", { tool_call_id: "a", tool_name: "x" }), delta(0, "a"), delta(1, "b"), on("agent_failed")]) {
    run = freeze(reduceRun(run, one));
  }
  assert.equal(run.status, "failed");
});

test("deltas are idempotent: repetitions and overlaps are dropped, by Unicode scalar values", () => {
  const run = fold([on("agent_started"), delta(0, "a🦊b"), delta(0, "a🦊b"), delta(1, "🦊bç"), delta(3, "çd"), delta(0, "a🦊")]);
  assert.equal(run.parts[0].text, "a🦊bçd");
  assert.equal(run.parts[0].end, 5);
});

test("however a text is cut, it comes out the same", () => {
  const text = Array.from("naïve 🦊 fox, 👩‍👩‍👧 and e\u0301");
  const slice = (from, to) => delta(from, text.slice(from, to).join(""));
  for (let size = 1; size <= text.length; size += 1) {
    let run = reduceRun(undefined, on("agent_started"));
    for (let at = 0; at < text.length; at += size) {
      run = reduceRun(run, slice(Math.max(0, at - 3), at + size));
      run = reduceRun(run, slice(0, Math.min(at, 2)));
    }
    assert.equal(run.parts[0].text, text.join(""));
  }
});

test("a hole is a fault in a run that is known whole, and a visible loss in one that is not", () => {
  const whole = fold([on("agent_started"), delta(0, "abc")]);
  assert.throws(() => reduceRun(whole, delta(5, "f")), StreamFault);
  const partial = reduceRun(markGap(whole), delta(5, "f"));
  assert.deepEqual(partial.parts[0], { partId: "p", text: "abc…f", end: 6, lost: 2 });
  const late = reduceRun(undefined, delta(5, "f"));
  assert.deepEqual(late.parts[0], { partId: "p", text: "…f", end: 6, lost: 5 });
});

test("a merged window reaches each of its runs", () => {
  const parts = [
    { run_id: "r", part_id: "p", offset: 0, text: "ab" },
    { run_id: "q", part_id: "p", offset: 0, text: "xy" },
    { run_id: "r", part_id: "p", offset: 2, text: "cd" },
  ];
  const window = { type: "agent_deltas", event_id: "7-9", prev: 1, parts };
  assert.deepEqual(runIdsOf(window), ["r", "q"]);
  const run = reduceRun(reduceRun(undefined, on("agent_started")), window);
  assert.equal(run.parts[0].text, "abcd");
  assert.equal(reduceRun(undefined, window, "q").parts[0].text, "xy");
});

test("failure and cancellation close the open tools", () => {
  const open = fold([on("agent_started"), on("tool_executing", { tool_call_id: "a", tool_name: "x" })]);
  const cancelled = reduceRun(open, on("agent_cancelled", { by: "ann", reason: "enough" }));
  assert.deepEqual([cancelled.status, cancelled.tools[0].success, cancelled.terminal.by], ["cancelled", false, "ann"]);
  const failed = reduceRun(open, on("agent_failed", { reason: "producer_lost", error: "gone" }));
  assert.deepEqual([failed.status, failed.terminal.reason], ["failed", "producer_lost"]);
});

test("what comes all the same while a run waits does not end its waiting", () => {
  const waiting = fold([on("agent_started"), on("agent_suspended", { approval_id: "x", question: "sure?" })]);
  const late = [
    on("agent_thinking", { thought: "hm", flaw: "it waits" }),
    on("tool_executing", { tool_call_id: "c", tool_name: "t", flaw: "it waits" }),
    delta(0, "a"),
    { type: "agent_deltas", parts: [{ run_id: waiting.runId, part_id: "p", offset: 1, text: "b" }] },
  ];
  const run = fold(late, waiting);
  assert.deepEqual([run.status, run.approval.approvalId, run.parts[0].text], ["suspended", "x", "ab"]);
  assert.equal(reduceRun(run, on("agent_resumed", { approval_id: "x" })).status, "running");
});

test("a suspended run waits and goes on", () => {
  const waiting = fold([on("agent_started"), on("agent_suspended", { approval_id: "x", question: "sure?" })]);
  assert.deepEqual([waiting.status, waiting.approval.question], ["suspended", "sure?"]);
  assert.equal(reduceRun(waiting, on("agent_resumed", { decision: "yes" })).status, "running");
});

test("a snapshot's run keeps what it waits for, whatever piece says it", () => {
  const head = { run_id: "r", status: "suspended", run_seq: 4 };
  const asks = { ...head, approval_id: "x", question: "sure?" };
  for (const pieces of [[asks, head], [head, asks], [head, asks, head]]) {
    const run = pieces.reduce(restoreRun, undefined);
    assert.deepEqual([run.status, run.approval], ["suspended", { approvalId: "x", question: "sure?" }]);
    const resumed = reduceRun(run, on("agent_resumed", { approval_id: "x", decision: "approve" }));
    assert.deepEqual([resumed.status, resumed.approval], ["running", null]);
  }
});

test("an unknown type changes nothing, whatever its name", () => {
  const run = reduceRun(undefined, on("agent_started"));
  for (const type of ["agent_sings", "constructor", "toString"]) assert.equal(reduceRun(run, on(type)), run);
});

const vectors = JSON.parse(readFileSync(new URL("../../core/js/vectors.json", import.meta.url), "utf8"));

test("vectors: closes, positions and what follows what", () => {
  for (const { code, action } of vectors.closes) assert.equal(nextAction(code), action, `${code}`);
  for (const { text, ok } of vectors.positions) {
    if (ok) assert.equal(formatPosition(parsePosition(text)), text);
    else assert.throws(() => parsePosition(text), StreamFault, text);
  }
  for (const { at, frame, follows } of vectors.follows) {
    const follow = () => formatPosition(checkFollows(parsePosition(at), frame));
    if (follows) assert.equal(follow(), frame.event_id);
    else assert.throws(follow, StreamFault, `${at} ${JSON.stringify(frame)}`);
  }
});

/** The runs after a vector's frames, as the vector has them. */
function runsAfter(frames) {
  const runs = new Map();
  const take = (id, run) => runs.set(id, run);
  for (const frame of frames) {
    if (frame.type === "snapshot") frame.runs.forEach((piece) => take(piece.run_id, restoreRun(runs.get(piece.run_id), piece)));
    else if (!["user_message", "custom"].includes(frame.type)) runIdsOf(frame).forEach((id) => take(id, reduceRun(runs.get(id), frame, id)));
  }
  return Object.fromEntries([...runs].map(([id, run]) => [id, plain(run)]));
}

function plain({ status, threadId, agentName, parentRunId, thoughts, tools, parts, approval, terminal }) {
  const { finalResponse, error, reason } = terminal ?? {};
  const outcomes = { completed: finalResponse, failed: error, cancelled: reason };
  // For people a call that a run's end has closed has failed; nobody has said so.
  const closed = (tool) => terminal && tool.results === undefined;
  return {
    status,
    thread: threadId,
    agent: agentName,
    parent: parentRunId,
    thoughts: thoughts.map(({ thought }) => thought),
    tools: Object.fromEntries(
      tools.map((tool) => {
        const { name, parameters = null, results = null } = tool;
        const [success, said] = closed(tool) ? [null, null] : [tool.success, tool.error];
        return [tool.toolCallId, { name, parameters, results, success, error: said }];
      }),
    ),
    parts: Object.fromEntries(parts.map(({ partId, text, lost }) => [partId, { lost, text }])),
    approval: approval ? { id: approval.approvalId, question: approval.question } : null,
    outcome: outcomes[status] ?? null,
  };
}

test("vectors: runs", () => {
  for (const { name, frames, runs } of vectors.runs) assert.deepEqual(runsAfter(frames), runs, name);
});
