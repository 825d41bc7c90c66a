// Types of trunkline.js. What the frames say is in core/PROTOCOL.md; a server may be newer than this: events of types that are not
// here come all the same.

/** An event id: `<epoch>-<seq>`. */
export type Position = string;
/** The position in front of everything: a resume from here replays all that the server keeps. */
export const START: Position;

/** `lagging` is live, and so far behind that texts come merged. */
export type State = "connecting" | "live" | "lagging" | "offline" | "stopped";

export interface StateChange {
  state: State;
  /** Why, where there is a reason: a close's, such as `token_expired`, or this client's own, such as `connection_lost`. */
  reason: string | null;
  /** The code of the close. */
  code: number | null;
  /** While `offline`: when it tries again, in milliseconds on the clock of `now`. */
  retryAt: number | null;
}

/** A part of a stream that is gone. */
export interface Lost {
  from: Position;
  to: Position;
}

export interface Reset {
  lost: Lost | null;
  /** Whether to drop what was built so far. */
  afresh: boolean;
}

/** A topic is followed, what of it is gone, and whether to drop what was built of it; or it is left: the token does not grant it. */
export type TopicChange = { topic: string; lost: Lost | null; afresh: boolean; left?: undefined } | { topic: string; left: true };

interface Placed {
  event_id: Position;
  seq: number;
  /** The seq that it follows, where that is not the one before it. */
  prev?: number;
  /** `topic:<name>`; absent for the user's own. */
  stream?: string;
  /** Seconds since 1970. */
  timestamp: number;
  /** Not on topics. */
  user_id?: string;
}

interface Run extends Placed {
  thread_id?: string;
  run_id: string;
  run_seq: number;
  agent_name?: string;
  /** Why it should not have come now, in a run that lets such events in. */
  flaw?: string;
}

export interface UserMessageEvent extends Placed {
  type: "user_message";
  thread_id?: string;
  run_id?: string;
  content: string;
  metadata?: unknown;
}

export interface AgentStarted extends Run {
  type: "agent_started";
  parent_run_id?: string;
  message?: string;
}

export interface AgentThinking extends Run {
  type: "agent_thinking";
  thought: string;
  step?: number;
  /** The share that is done, 0 to 1. */
  progress?: number;
}

export interface ToolExecuting extends Run {
  type: "tool_executing";
  tool_call_id: string;
  tool_name: string;
  parameters?: unknown;
}

export interface ToolCompleted extends Run {
  type: "tool_completed";
  tool_call_id: string;
  tool_name: string;
  results: unknown;
  success: boolean;
  duration_ms?: number;
  error?: string;
}

/** A piece of streamed text. `offset` counts Unicode scalar values. */
export interface AgentDelta extends Run {
  type: "agent_delta";
  part_id: string;
  offset: number;
  text: string;
}

/** A window of the log that holds streamed text and nothing else, of several runs perhaps. */
export interface AgentDeltas extends Placed {
  type: "agent_deltas";
  parts: { run_id: string; part_id: string; offset: number; text: string; run_seq: number }[];
}

export interface AgentSuspended extends Run {
  type: "agent_suspended";
  approval_id: string;
  question?: string;
}

export interface AgentResumed extends Run {
  type: "agent_resumed";
  approval_id: string;
  decision?: string;
}

export interface AgentCompleted extends Run {
  type: "agent_completed";
  final_response?: string;
  result?: unknown;
  duration_ms: number;
}

export interface AgentFailed extends Run {
  type: "agent_failed";
  reason: "error" | "producer_lost" | "timeout" | "other" | (string & {});
  error: string;
}

export interface AgentCancelled extends Run {
  type: "agent_cancelled";
  by: string;
  reason: string;
}

/** The application's own. One that is for now only has no `event_id`, `seq` or `prev`. */
export interface ApplicationEvent extends Partial<Omit<Placed, "timestamp">> {
  type: "custom";
  timestamp: number;
  thread_id?: string;
  name: string;
  data: unknown;
}

export type TrunklineEvent =
  | UserMessageEvent
  | AgentStarted
  | AgentThinking
  | ToolExecuting
  | ToolCompleted
  | AgentDelta
  | AgentDeltas
  | AgentSuspended
  | AgentResumed
  | AgentCompleted
  | AgentFailed
  | AgentCancelled
  | ApplicationEvent;

/** What is known of a run that a snapshot tells of; one run may come in several pieces. */
export interface SnapshotRun {
  run_id: string;
  thread_id?: string;
  agent_name?: string;
  parent_run_id?: string;
  status: Exclude<RunStatus, "pending">;
  run_seq: number;
  approval_id?: string;
  question?: string;
  shortened?: boolean;
  thoughts?: string[];
  tools?: { tool_call_id: string; tool_name: string; parameters?: unknown; results?: unknown; success?: boolean; error?: string }[];
  parts?: { part_id: string; offset: number; text: string }[];
}

export interface Snapshot {
  type: "snapshot";
  stream: string;
  event_id: Position;
  part: number;
  of: number;
  lost?: Lost;
  runs: SnapshotRun[];
}

export interface StreamEntry {
  stream: string;
  event_id: Position;
  head: Position;
  mode: "live" | "replay" | "snapshot" | "reset";
  lost?: Lost;
}

export interface Welcome {
  type: "welcome";
  connection_id: string;
  session_id: string;
  user_id: string;
  server_time: number;
  expires_in: number;
  heartbeat: { interval: number; timeout: number };
  limits: { message_bytes: number; messages_per_second: number; message_burst: number; event_bytes: number };
  service_level: ServiceLevel;
  streams: StreamEntry[];
}

export type ServiceLevel = "normal" | "degraded" | "emergency";

export type Notice =
  | { type: "error"; code: string; message: string; run_id?: string; n?: number }
  | { type: "lag"; stream: string; behind: number; merging: boolean }
  | { type: "service_level"; level: ServiceLevel; reason: string; capabilities: string[] }
  | { type: "going_away"; deadline: number; reconnect_after: number };

/** What `revoke` takes back. */
export type Revoked = (
  | { sessionId: string; tokenId?: undefined; all?: undefined }
  | { tokenId: string; sessionId?: undefined; all?: undefined }
  | { all: true; sessionId?: undefined; tokenId?: undefined }
) & {
  /** Seconds since 1970: when the last of what is taken back would have ended by itself. */
  expires?: number;
};

/** One metric, as `/metrics` has it. Names that end in `_total` only rise while the server lives. */
export interface Metric {
  name: string;
  samples: { labels?: Record<string, string>; value: number }[];
}

/** What `inspect` says of the server. */
export interface ServerFigures {
  version: string;
  /** Seconds since 1970. */
  started: number;
  time: number;
  draining: boolean;
  level: ServiceLevel;
  /** For people. */
  reason: string;
  /** What an operator has ordered. */
  ordered?: ServiceLevel | null;
  /** What is reported of the things that the server depends on. */
  dependencies: { name: string; level: ServiceLevel; reason?: string }[];
  metrics: Metric[];
}

/** What `inspect` says of a user: nothing of what was said. */
export interface UserFigures {
  user_id: string;
  /** The end of its stream. */
  head?: Position;
  connections: { connection_id: string; session_id: string; acked?: Position; behind: number }[];
  runs: {
    run_id: string;
    thread_id: string;
    agent_name: string;
    status: Exclude<RunStatus, "pending">;
    run_seq: number;
    /** Seconds; absent while a connection or the server holds the run. */
    lease_left?: number;
    cancel_requested_by?: string;
  }[];
}

/** What each listener is called with. */
export interface Heard {
  state: StateChange;
  event: TrunklineEvent;
  reset: Reset;
  snapshot: Snapshot;
  notice: Notice;
  welcome: Welcome;
  topic: TopicChange;
}

export interface Options {
  /** Of the endpoint, `ws:` or `wss:`. */
  url: string;
  /** What lets in; without it `getToken` is asked, or `getTicket`. One of the three must be there. */
  token?: string;
  /**
   * `null` says that there is no token to be had, and the client stops; a rejection says "not now". It is called ahead of a token's
   * expiry, too, where `null` says "not now" as well. It is waited for 20 s: then that is "not now", the next try asks again, and an
   * answer that comes later counts no more.
   */
  getToken?: () => Promise<string | null> | string | null;
  /**
   * In the place of both: a one-time ticket, which is asked for ahead of every connection. `null` stops; a rejection, or 20 s without an
   * answer, says "not now".
   */
  getTicket?: () => Promise<string | null> | string | null;
  /** Where to go on; `START` for all that is kept, absent for what comes from now on. */
  position?: Position;
  /** Ids of the conversations to watch, at most 100; absent or empty for all. */
  threads?: string[];
  /** Names of topics to follow from the start, at most 100. */
  topics?: string[];
  onState?: (change: StateChange) => void;
  /** Every event once, in order. One that throws `StreamFault` refuses the event: the client resumes in front of it. */
  onEvent?: (event: TrunklineEvent) => void;
  onReset?: (reset: Reset) => void;
  /** One that throws `StreamFault` refuses it, too. */
  onSnapshot?: (snapshot: Snapshot) => void;
  onNotice?: (notice: Notice) => void;
  onWelcome?: (welcome: Welcome) => void;
  onTopic?: (change: TopicChange) => void;
  /** Stand-ins for those of the platform. Node has a WebSocket of its own from version 22 on. */
  WebSocket?: new (url: string, protocols: string[]) => unknown;
  setTimeout?: (run: () => void, ms: number) => unknown;
  clearTimeout?: (id: never) => void;
  /** Milliseconds. */
  now?: () => number;
  /** From 0 to below 1. */
  random?: () => number;
}

/** Opens a connection and keeps it open until `close()`. */
export function connect(options: Options): Trunkline;

export class Trunkline {
  constructor(options: Options);
  readonly state: State;
  readonly sessionId: string | undefined;
  /** Up to where everything was delivered. */
  readonly position: Position | null;
  /** Whether everything that was in the log at the time of the welcome was delivered. */
  readonly caughtUp: boolean;
  start(): void;
  /** Tries at once instead of at the end of the wait, also where the server asked for it: for a person who wants so. */
  retryNow(): void;
  /** The same by itself, as when the network is back or the page is seen again: not before the time that a server has asked for. */
  wake(): void;
  /** Sends a message; resolves to the id of its run. Whoever repeats a message passes the key of the first try. */
  send(threadId: string, content: string, options?: { key?: string; metadata?: unknown }): Promise<string>;
  /** Asks the application for something of its own; resolves to its answer. */
  command(name: string, args?: unknown, options?: { key?: string }): Promise<unknown>;
  /** Asks for the end of a run; resolves to what has become of it. Where that is `requested`, the outcome comes as an event. */
  cancel(runId: string): Promise<"requested" | "cancelled" | "ended">;
  /** Decides what a run waits for; resolves when this decision counts. */
  approve(approvalId: string, decision: string, data?: unknown): Promise<void>;
  /** Follows a topic from a position, or from its end, over this connection and the next ones; resolves once the server lets it. */
  subscribe(topic: string, options?: { position?: Position }): Promise<void>;
  /** Leaves a topic at once. */
  unsubscribe(topic: string): Promise<void>;
  /**
   * For operators, as the three below: the figures of the server. Each is refused with `not_connected` where there is no connection, and
   * with `unanswered` where that ends before the answer: none is ever sent twice.
   */
  inspect(): Promise<ServerFigures>;
  /** A user's connections and runs, of the token's own tenant. */
  inspect(userId: string): Promise<UserFigures>;
  /** Closes all connections of a user; they come back by themselves. Resolves to how many it closed. */
  disconnect(userId: string): Promise<number>;
  /** Closes one of them. */
  disconnect(userId: string, connectionId: string): Promise<number>;
  /** Takes a session, a token or all tokens of a user back. Resolves to how many connections it closed. */
  revoke(userId: string, what: Revoked): Promise<number>;
  /** Shuts the server down, and every connection with it. */
  drain(): Promise<void>;
  /** Adds a listener; answers what takes it out again. */
  on<Name extends keyof Heard>(name: Name, listener: (value: Heard[Name]) => void): () => void;
  /** The events from here on, until the client has stopped. Whoever takes too slowly gets a `RequestError` with the code `overrun`. */
  events(): AsyncIterableIterator<TrunklineEvent>;
  /** Ends everything for good. */
  close(): void;
}

/** The stream broke its contract. */
export class StreamFault extends Error {}

/** A request that was refused, or that can no longer be sent. */
export class RequestError extends Error {
  constructor(error: { code?: string; message?: string; temporary?: boolean; retry_after?: number | null });
  readonly code: string;
  /** Whether the same may succeed later. */
  readonly temporary: boolean;
  /** Seconds. */
  readonly retryAfter: number | null;
}

export type RunStatus = "pending" | "running" | "suspended" | "completed" | "failed" | "cancelled";

export interface ToolView {
  toolCallId: string;
  name: string;
  parameters: unknown;
  results: unknown;
  /** `null` while it is open. */
  success: boolean | null;
  error: string | null;
  durationMs: number | null;
}

/** A streamed text. */
export interface PartView {
  partId: string;
  text: string;
  /** Where it ends, in Unicode scalar values. */
  end: number;
  /** How many of them are missing. */
  lost: number;
}

/** A run as its events tell it. */
export interface RunView {
  runId: string;
  threadId: string | null;
  agentName: string | null;
  parentRunId: string | null;
  status: RunStatus;
  /** It is known only in part. */
  partial: boolean;
  /** In which order thoughts and tools came, each by its place in its list. */
  steps: ["thought" | "tool", number][];
  thoughts: { thought: string; step: number | null; progress: number | null }[];
  tools: ToolView[];
  parts: PartView[];
  approval: { approvalId: string; question: string | null } | null;
  terminal: {
    finalResponse: string | null;
    result: unknown;
    durationMs: number | null;
    reason: string | null;
    error: string | null;
    by: string | null;
  } | null;
}

/** The runs that an event speaks of. */
export function runIdsOf(event: TrunklineEvent): string[];
/** The run after an event. Throws `StreamFault` at a hole in its text, unless it is known only in part. */
export function reduceRun(run: RunView | undefined, event: TrunklineEvent, runId?: string): RunView;
/** The run after one of its pieces in a snapshot. */
export function restoreRun(run: RunView | undefined, piece: SnapshotRun): RunView;
/** The run, known only in part from here on. */
export function markGap(run: RunView): RunView;

/** What a close code is called, as in core/PROTOCOL.md. */
export function closeName(code: number): string;
/** What a close code asks of a client. */
export function nextAction(code: number): "stop" | "retry" | "later" | "token" | "afresh";
export function parsePosition(text: string): { epoch: string; seq: number };
export function formatPosition(position: { epoch: string; seq: number }): Position;
/** The position after a frame, if it follows the given one. Throws `StreamFault` otherwise. */
export function checkFollows(
  position: { epoch: string; seq: number } | undefined,
  frame: { event_id: Position; seq?: number; prev?: number },
): { epoch: string; seq: number };
/** 128 random bits, for a message's key. */
export function newKey(): string;
