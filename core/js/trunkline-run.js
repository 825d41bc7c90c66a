// The state of a run, built from its events. A part of trunkline.js.

import { StreamFault } from "./trunkline-stream.js";

/** The runs that an event speaks of. */
export function runIdsOf(event) {
  if (event.type === "agent_deltas") return [...new Set(event.parts.map((part) => part.run_id))];
  return event.run_id ? [event.run_id] : [];
}

/** A run that the reader knows only in part: from here on a hole in its text is a loss to show, not a fault. */
export function markGap(run) {
  return run.terminal ? run : { ...run, partial: true };
}

function newRun(runId, event) {
  return {
    runId,
    threadId: event.thread_id ?? null,
    agentName: event.agent_name ?? null,
    parentRunId: null,
    status: "pending",
    partial: !["agent_started", "user_message"].includes(event.type),
    steps: [],
    thoughts: [],
    tools: [],
    parts: [],
    approval: null,
    terminal: null,
  };
}

/**
 * The run after an event; pure. `runId` is needed only for a first event that is `agent_deltas`, which speaks of several runs.
 *
 * `status` is `pending`, `running`, `suspended`, `completed`, `failed` or `cancelled`; `steps` is the order in which
 * `thoughts` and `tools` came, as `[kind, index]`; `parts` holds the streamed text. Throws `StreamFault` at a hole in it.
 */
export function reduceRun(run, event, runId = run?.runId ?? event.run_id) {
  const before = run ?? newRun(runId, event);
  if (before.terminal) return before;
  const reduce = Object.hasOwn(REDUCERS, event.type) ? REDUCERS[event.type] : null;
  if (!reduce) return before;
  const named = { ...before, agentName: event.agent_name ?? before.agentName, threadId: event.thread_id ?? before.threadId };
  return { ...named, ...reduce(named, event) };
}

/** The run after one of its pieces in a snapshot; pure. Its beginning may be missing, so a hole in its text is no fault. */
export function restoreRun(run, piece) {
  const before = run ?? newRun(piece.run_id, { type: "snapshot" });
  const events = [
    ...(piece.thoughts ?? []).map((thought) => ({ type: "agent_thinking", thought })),
    ...(piece.tools ?? []).flatMap((tool) => {
      // A large call comes in two pieces: the second one is no other call.
      const known = before.tools.some((other) => other.toolCallId === tool.tool_call_id);
      const opened = known ? [] : [{ ...tool, type: "tool_executing" }];
      return tool.success == null ? opened : [...opened, { ...tool, type: "tool_completed" }];
    }),
    ...(piece.parts ?? []).map((part) => ({ ...part, type: "agent_delta" })),
  ];
  const head = { thread_id: piece.thread_id, agent_name: piece.agent_name };
  const after = events.reduce((state, event) => reduceRun(state, { ...head, ...event }), before);
  return {
    ...after,
    threadId: piece.thread_id ?? after.threadId,
    agentName: piece.agent_name ?? after.agentName,
    parentRunId: piece.parent_run_id ?? after.parentRunId,
    status: piece.status,
    approval: piece.approval_id ? { approvalId: piece.approval_id, question: piece.question ?? null } : after.approval,
  };
}

const REDUCERS = {
  agent_started: (run, event) => ({ status: "running", parentRunId: event.parent_run_id ?? null }),
  agent_thinking: (run, event) => ({
    status: working(run),
    steps: [...run.steps, ["thought", run.thoughts.length]],
    thoughts: [...run.thoughts, { thought: event.thought, step: event.step ?? null, progress: event.progress ?? null }],
  }),
  tool_executing: (run, event) => ({
    status: working(run),
    steps: [...run.steps, ["tool", run.tools.length]],
    tools: [...run.tools, newTool(event)],
  }),
  tool_completed: completeTool,
  agent_delta: (run, event) => ({ status: working(run), parts: applyDelta(run, run.parts, event) }),
  agent_deltas: (run, event) => ({
    status: working(run),
    parts: event.parts.filter((part) => part.run_id === run.runId).reduce((parts, part) => applyDelta(run, parts, part), run.parts),
  }),
  agent_suspended: (run, event) => ({
    status: "suspended",
    approval: { approvalId: event.approval_id, question: event.question ?? null },
  }),
  agent_resumed: () => ({ status: "running", approval: null }),
  agent_completed: (run, event) => end(run, "completed", event),
  agent_failed: (run, event) => end(run, "failed", event),
  agent_cancelled: (run, event) => end(run, "cancelled", event),
};

/** A run that waits goes on by `agent_resumed` alone, whatever comes meanwhile. */
function working({ status }) {
  return status === "suspended" ? status : "running";
}

function newTool(event) {
  return {
    toolCallId: event.tool_call_id,
    name: event.tool_name,
    parameters: event.parameters ?? undefined,
    results: undefined,
    success: null,
    error: null,
    durationMs: null,
  };
}

function completeTool(run, event) {
  const at = run.tools.findIndex((tool) => tool.toolCallId === event.tool_call_id);
  const done = {
    ...(at < 0 ? newTool(event) : run.tools[at]),
    results: event.results,
    success: event.success,
    error: event.error ?? null,
    durationMs: event.duration_ms ?? null,
  };
  if (at >= 0) return { tools: run.tools.map((tool, i) => (i === at ? done : tool)) };
  return { steps: [...run.steps, ["tool", run.tools.length]], tools: [...run.tools, done] };
}

/** Offsets count Unicode scalar values. What is already there is dropped; what would leave a hole is a fault. */
function applyDelta(run, parts, { part_id: partId, offset, text }) {
  const at = parts.findIndex((part) => part.partId === partId);
  const part = at < 0 ? { partId, text: "", end: 0, lost: 0 } : parts[at];
  const hole = offset - part.end;
  if (hole > 0 && !run.partial) throw new StreamFault(`a hole in the text: ${part.end} to ${offset}`);
  const scalars = Array.from(text);
  const fresh = hole >= 0 ? text : scalars.slice(-hole).join("");
  const grown = {
    partId,
    text: part.text + (hole > 0 ? "…" : "") + fresh,
    end: Math.max(part.end, offset + scalars.length),
    lost: part.lost + Math.max(0, hole),
  };
  return at < 0 ? [...parts, grown] : parts.map((other, i) => (i === at ? grown : other));
}

/** A terminal event; tools still open end with it. */
function end(run, status, event) {
  return {
    status,
    approval: null,
    tools: run.tools.map((tool) => (tool.success === null ? { ...tool, success: false, error: `the run ${status}` } : tool)),
    terminal: {
      finalResponse: event.final_response ?? null,
      result: event.result ?? null,
      durationMs: event.duration_ms ?? null,
      reason: event.reason ?? null,
      error: event.error ?? null,
      by: event.by ?? null,
    },
  };
}
