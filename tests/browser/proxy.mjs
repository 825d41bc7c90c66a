// A line to the server that can be cut, refused and slowed. Part of the harness.

import net from "node:net";

const TICK_MS = 20;

/**
 * A SOCKS5 proxy (RFC 1928, as much of it as a browser needs). The browser still asks for the server's own address, which the server
 * insists on.
 */
export async function openProxy(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  const state = { cuts: [], struck: () => {}, refusing: false, rate: Infinity, trickled: 0 };
  const server = net.createServer((client) => {
    if (state.refusing) return client.destroy();
    const upstream = net.connect(Number(port) || 80, hostname);
    const pair = { client, upstream, left: Infinity, socket: false };
    open.add(pair);
    const end = () => {
      client.destroy();
      upstream.destroy();
      open.delete(pair);
    };
    client.on("data", fromClient(pair, state));
    upstream.on("data", toClient(pair, state, end));
    for (const side of [client, upstream]) side.on("error", end).on("close", end);
    return undefined;
  });
  await new Promise((resolve, reject) => server.once("error", reject).listen(0, "127.0.0.1", resolve));
  return {
    /** For the browser's context; without the rule a browser goes to the loopback address directly. */
    settings: { server: `socks5://127.0.0.1:${server.address().port}`, bypass: "<-loopback>" },
    /** WebSockets end after so many bytes from the server: those open now by the first number, those that come after by the next ones. */
    cutAfter(bytes, then = () => {}) {
      state.cuts = [...bytes];
      state.struck = then;
      const first = state.cuts.shift();
      for (const pair of open) if (pair.socket) pair.left = first ?? Infinity;
    },
    /** Ends all connections and takes no new ones, or takes them again. */
    refuse(value) {
      state.refusing = value;
      if (value) for (const { client } of open) client.destroy();
    },
    /** WebSockets get no more bytes a second from the server than this. */
    slow(bytesPerSecond) {
      state.rate = bytesPerSecond;
    },
    /** How many bytes have come at such a rate. */
    trickled: () => state.trickled,
    close: () => server.close(),
  };
}

function fromClient(pair, state) {
  let step = 0;
  return (chunk) => {
    step += 1;
    if (step === 1) return pair.client.write(Buffer.from([5, 0]));
    if (step === 2) return pair.client.write(Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]));
    if (/^GET \/ws /.test(chunk.toString("latin1"))) Object.assign(pair, { socket: true, left: state.cuts.shift() ?? Infinity });
    return pair.upstream.write(chunk);
  };
}

function toClient(pair, state, end) {
  return (chunk) => {
    const taken = chunk.subarray(0, Math.min(pair.left, chunk.length));
    pair.left -= chunk.length;
    if (pair.socket && Number.isFinite(state.rate)) return trickle(pair, state, taken);
    pair.client.write(taken);
    if (pair.left > 0) return undefined;
    state.struck();
    return pair.client.end(end);
  };
}

/** Nothing more is read from the server until all of this has gone on, so that the server meets a slow reader. */
function trickle(pair, state, chunk) {
  pair.upstream.pause();
  const step = Number.isFinite(state.rate) ? Math.ceil((state.rate * TICK_MS) / 1000) : chunk.length;
  pair.client.write(chunk.subarray(0, step));
  if (Number.isFinite(state.rate)) state.trickled += Math.min(step, chunk.length);
  if (pair.client.destroyed) return;
  if (chunk.length > step) setTimeout(() => trickle(pair, state, chunk.subarray(step)), TICK_MS);
  else setTimeout(() => pair.upstream.resume(), Number.isFinite(state.rate) ? TICK_MS : 0);
}
