// Draws what has changed, a few milliseconds in each frame, so that the page stays usable however much comes in.

/** What is drawn must be laid out and painted in the same frame, which takes about three times as long. */
const BUDGET_MS = 5;
/** A hidden page draws no frames and is woken seldom, but its text is still read by whoever asks. */
const HIDDEN_BUDGET_MS = 30;
const HIDDEN_PAUSE_MS = 50;

const waiting = new Set();
let isScheduled = false;

/** Has `view.draw(deadline)` called, in the next frame and, for as long as it answers that it is not done, in those after it. */
export function drawSoon(view) {
  waiting.add(view);
  if (!isScheduled) schedule();
}

function schedule() {
  isScheduled = true;
  if (document.hidden) setTimeout(drawWaiting, HIDDEN_PAUSE_MS);
  else requestAnimationFrame(drawWaiting);
}

function drawWaiting() {
  isScheduled = false;
  const deadline = performance.now() + (document.hidden ? HIDDEN_BUDGET_MS : BUDGET_MS);
  for (const view of [...waiting]) {
    // Who is not done goes behind the others.
    waiting.delete(view);
    if (!view.draw(deadline)) waiting.add(view);
    if (performance.now() > deadline) break;
  }
  if (waiting.size > 0) schedule();
}
