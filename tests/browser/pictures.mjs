// The pictures of the README: always of the same content, so that only a change of the page changes them.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { OUT, check, device, ensure, equal, logIn } from "./harness.mjs";
import { ended } from "./chat-steps.mjs";
import { withFewColours } from "./png.mjs";

const PICTURES = fileURLToPath(new URL("./pictures/", import.meta.url));
const MOST_BYTES = 150_000;
/** Fonts differ between machines: what is less is not worth a word. */
const NOTABLE_SHARE = 0.02;

export async function pictures(world) {
  await check("the chat's picture", () => chatPicture(world));
}

/**
 * Shoots the page as `out/NAME.png`, and answers a note where that differs from `pictures/NAME.png`, which is compared by eye. With
 * `UPDATE_PICTURES=1` that one is written in its place.
 */
export async function picture(page, name) {
  const shot = withFewColours(await page.screenshot({ path: `${OUT}${name}.png`, animations: "disabled", caret: "hide" }));
  ensure(shot.length < MOST_BYTES, `${name}.png has ${shot.length} bytes`);
  if (process.env.UPDATE_PICTURES) {
    mkdirSync(PICTURES, { recursive: true });
    writeFileSync(`${PICTURES}${name}.png`, shot);
    return "written";
  }
  const share = await difference(page, readFileSync(`${PICTURES}${name}.png`), shot);
  return share > NOTABLE_SHARE ? `look at it: ${(share * 100).toFixed(1)} % of its pixels differ from pictures/${name}.png` : undefined;
}

/** The share of pixels that are not alike. The browser reads both. */
async function difference(page, one, other) {
  const reader = await page.context().browser().newPage();
  try {
    return await reader.evaluate(async (files) => {
      const [a, b] = await Promise.all(
        files.map(async (file) => {
          const image = new Image();
          image.src = `data:image/png;base64,${file}`;
          await image.decode();
          const canvas = new OffscreenCanvas(image.width, image.height);
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0);
          return context.getImageData(0, 0, image.width, image.height);
        }),
      );
      if (a.width !== b.width || a.height !== b.height) return 1;
      let unlike = 0;
      for (let at = 0; at < a.data.length; at += 4) {
        const away = Math.max(...[0, 1, 2].map((channel) => Math.abs(a.data[at + channel] - b.data[at + channel])));
        if (away > 24) unlike += 1;
      }
      return unlike / (a.width * a.height);
    }, [one.toString("base64"), other.toString("base64")]);
  } finally {
    await reader.close();
  }
}

async function chatPicture(world) {
  const page = await device(world, { viewport: { width: 1280, height: 800 }, colorScheme: "light", reducedMotion: "reduce" });
  await page.routeWebSocket(/\/ws$/, (socket) => socket.onMessage((text) => (JSON.parse(text).type === "hello" ? tell(socket) : undefined)));
  await logIn(page, "ann");
  await page.locator("#threads li").nth(2).waitFor();
  await page.locator("#threads li").first().locator("button").click();
  const run = page.getByTestId("run").first();
  await ended(run, "completed");
  await page.getByTestId("tool").locator("summary").click();
  equal(await run.getByTestId("run").count(), 1);
  await page.getByTestId("composer").focus();
  const note = await picture(page, "chat");
  await page.context().close();
  return note;
}

const ANSWER = [
  "You can **launch on Tuesday**:\n\n",
  "| check | result | owner |\n|---|---|---|\n| load test | 12,400 requests/s | `edge` |\n| error budget | 97 % left | `payments` |",
].join("");

/** A conversation, told by a server of the test's own. */
function tell(socket) {
  let seq = 0;
  const put = (type, thread, run, more) =>
    socket.send(JSON.stringify({ type, event_id: `9-${(seq += 1)}`, seq, timestamp: 1, user_id: "ann", thread_id: thread, run_id: run, agent_name: "assistant", ...more }));
  const tool = (thread, run, id, name, parameters, results, duration, more) => {
    put("tool_executing", thread, run, { tool_call_id: id, tool_name: name, parameters, ...more });
    put("tool_completed", thread, run, { tool_call_id: id, tool_name: name, results, success: true, duration_ms: duration, ...more });
  };
  const streams = [{ stream: "user", event_id: "9-0", head: "9-1", mode: "reset" }];
  socket.send(JSON.stringify({ type: "welcome", session_id: "s", user_id: "ann", service_level: "normal", streams }));
  for (const [thread, text] of [["t1", "what is 2*(3+4)?"], ["t2", "Invite the team to the review"]]) {
    put("user_message", thread, `${thread}-r`, { content: text });
    put("agent_started", thread, `${thread}-r`);
  }
  put("agent_completed", "t1", "t1-r", { final_response: "14", duration_ms: 106 });
  put("agent_suspended", "t2", "t2-r", { approval_id: "a", question: "May I send 6 invitations?" });
  put("user_message", "t3", "r", { content: "Can we launch on Tuesday?" });
  put("agent_started", "t3", "r");
  put("agent_thinking", "t3", "r", { thought: "Two questions: does it hold the load, and is there error budget left?" });
  const named = { agent_name: "researcher" };
  put("agent_started", "t3", "s", { ...named, parent_run_id: "r" });
  tool("t3", "s", "c1", "error_budget", { service: "payments" }, { left: 0.97 }, 131, named);
  put("agent_completed", "t3", "s", { ...named, duration_ms: 530 });
  put("agent_delta", "t3", "r", { part_id: "answer", offset: 0, text: ANSWER });
  put("agent_completed", "t3", "r", { final_response: ANSWER, duration_ms: 1840 });
}
