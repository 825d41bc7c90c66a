// When the chat page draws, without a browser: with the next frame, by a timer where there are none, and whoever fails.

import assert from "node:assert/strict";
import test from "node:test";

const frames = new Map();
const listeners = [];
globalThis.document = { hidden: false, addEventListener: (name, listen) => listeners.push(listen) };
globalThis.requestAnimationFrame = (draw) => frames.set(frames.size + 1, draw).size;
globalThis.cancelAnimationFrame = (id) => frames.delete(id);
const { drawSoon } = await import("../../runtime-tokio/page/chat-frames.js");

function nextFrame() {
  const due = [...frames.values()];
  frames.clear();
  for (const draw of due) draw();
}

function hide(hidden) {
  document.hidden = hidden;
  for (const listen of listeners) listen();
}

const view = (draw) => ({ draw });

test("one that fails strands none of the others", () => {
  let drawn = 0;
  drawSoon(view(() => {
    throw new Error("broken");
  }));
  drawSoon(view(() => (drawn += 1)));
  assert.throws(nextFrame, /broken/u);
  assert.equal(frames.size, 1);
  nextFrame();
  assert.equal(drawn, 1);
  assert.equal(frames.size, 0);
});

test("who waits for a frame is drawn by a timer once the page is hidden, and only then", async () => {
  let drawn = null;
  const isDrawn = new Promise((resolve) => (drawn = resolve));
  drawSoon(view(() => drawn() ?? true));
  assert.equal(frames.size, 1);
  hide(true);
  assert.equal(frames.size, 0);
  await isDrawn;
  hide(false);
  hide(true);
  assert.equal(frames.size, 0);
  hide(false);
});
