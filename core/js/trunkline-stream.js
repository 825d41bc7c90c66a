// What a stream of trunkline.v1 must be, and what a close means. A part of trunkline.js.

/** The stream broke its contract: a hole, another epoch, a frame that is none. The answer is to close and to resume. */
export class StreamFault extends Error {
  name = "StreamFault";
}

/** A request that the server refused, or that can no longer be sent. `temporary` says whether the same may succeed later. */
export class RequestError extends Error {
  name = "RequestError";

  constructor({ code = "unknown", message, temporary = false, retry_after: retryAfter = null }) {
    super(message || code);
    Object.assign(this, { code, temporary, retryAfter });
  }
}

/** What a close code asks of a client: its range says so. */
export function nextAction(code) {
  if (code >= 4100 && code < 4200) return "later";
  if (code >= 4200 && code < 4300) return "token";
  if (code >= 4300 && code < 4400) return "afresh";
  if (code >= 4400 && code < 4500) return "stop";
  return [1000, 1002, 1003, 1007, 1009].includes(code) ? "stop" : "retry";
}

const CLOSE_NAMES = {
  1000: "normal",
  1001: "going_away",
  1002: "protocol_error",
  1003: "unsupported_data",
  1006: "connection_lost",
  1007: "invalid_payload",
  1009: "message_too_big",
  1011: "internal_error",
  1012: "service_restart",
  1013: "try_again_later",
  4001: "write_stalled",
  4002: "rate_limited",
  4003: "idle_timeout",
  4004: "heartbeat_timeout",
  4005: "disconnected",
  4040: "hello_timeout",
  4100: "evicted_for_capacity",
  4200: "token_expired",
  4201: "token_revoked",
  4300: "session_reset",
  4400: "bad_credentials",
  4403: "forbidden",
  4409: "superseded",
  4410: "too_many_connections",
};

/** What a close code is called. */
export function closeName(code) {
  return CLOSE_NAMES[code] ?? `closed_${code}`;
}

const MAX_EPOCH = 2n ** 64n - 1n;

/** An event id `<epoch>-<seq>`. The epoch stays text: it may exceed 2^53, and is only ever compared for equality. */
export function parsePosition(text) {
  const match = /^(0|[1-9]\d{0,19})-(0|[1-9]\d{0,15})$/.exec(text);
  const seq = Number(match?.[2]);
  const fits = match && BigInt(match[1]) <= MAX_EPOCH && Number.isSafeInteger(seq);
  if (!fits) throw new StreamFault("not a position");
  return { epoch: match[1], seq };
}

/** The position in front of everything, which no server continues from. */
export function isStart({ epoch, seq }) {
  return epoch === "0" && seq === 0;
}

/** A text as it fits into a close frame: 123 bytes. */
export function closeText(text) {
  let cut = text;
  while (new TextEncoder().encode(cut).length > 123) cut = cut.slice(0, -1);
  return cut;
}

export function formatPosition({ epoch, seq }) {
  return `${epoch}-${seq}`;
}

/** The position after a frame that covers `(prev, seq]`, if it follows the given one. */
export function checkFollows(position, frame) {
  const next = parsePosition(frame.event_id);
  if (frame.seq != null && frame.seq !== next.seq) throw new StreamFault("seq and event_id differ");
  const prev = frame.prev ?? next.seq - 1;
  if (next.seq <= prev) throw new StreamFault(`it covers nothing: from ${prev} to ${next.seq}`);
  if (!position) return next;
  if (next.epoch !== position.epoch) throw new StreamFault("another epoch");
  if (prev !== position.seq) throw new StreamFault(`expected ${position.seq + 1}, got ${prev + 1}`);
  return next;
}

export function parseFrame(data) {
  let frame;
  try {
    frame = JSON.parse(data);
  } catch {
    throw new StreamFault("not JSON");
  }
  if (typeof frame?.type !== "string") throw new StreamFault("not a frame");
  return frame;
}
