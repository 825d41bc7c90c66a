// Draws what has changed, a few milliseconds in each frame, so that the page stays usable however much comes in.

/** What is drawn must be laid out and painted in the same frame, which takes about three times as long. */
const BUDGET_MS = 5;
/** A hidden page draws no frames and is woken seldom, but its text is still read by whoever asks. */
const HIDDEN_BUDGET_MS = 30;
const HIDDEN_PAUSE_MS = 50;

const waiting = new Set();
let isScheduled = false;
let frame = null;

// A page that is hidden is given no frame, not even the one that it waits for.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden || frame === null) return;
  cancelAnimationFrame(frame);
  schedule();
});

/** Has `view.draw(deadline)` called, in the next frame and, for as long as it answers that it is not done, in those after it. */
export function drawSoon(view) {
  waiting.add(view);
  if (!isScheduled) schedule();
}

function schedule() {
  isScheduled = true;
  frame = null;
  if (document.hidden) setTimeout(drawWaiting, HIDDEN_PAUSE_MS);
  else frame = requestAnimationFrame(drawWaiting);
}

function drawWaiting() {
  isScheduled = false;
  frame = null;
  const deadline = performance.now() + (document.hidden ? HIDDEN_BUDGET_MS : BUDGET_MS);
  try {
    for (const view of [...waiting]) {
      // Who is not done goes behind the others, and who fails strands none of them.
      waiting.delete(view);
      if (!view.draw(deadline)) waiting.add(view);
      if (performance.now() > deadline) break;
    }
  } finally {
    if (waiting.size > 0 && !isScheduled) schedule();
  }
}
