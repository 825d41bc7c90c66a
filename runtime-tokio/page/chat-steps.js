// What a run does on its way: thoughts, decisions, and tool calls as cards that open.

import { asText, duration, element, preview, setText } from "./chat-dom.js";

export function thoughtView({ thought, progress }) {
  const share = typeof progress === "number" && progress > 0 ? ` (${Math.round(progress * (progress <= 1 ? 100 : 1))} %)` : "";
  return element("li", { class: "thinking", "data-testid": "thinking" }, asText(thought) + share);
}

/** `question` is what was asked; without a decision the agent went on by itself. */
export function decisionView(question, decision) {
  const words = { approve: "Approved", allow: "Approved", decline: "Declined", deny: "Declined" };
  const word = decision == null ? "Went on without a decision" : Object.hasOwn(words, decision) ? words[decision] : `Decided “${asText(decision)}”`;
  const text = question ? `${word}: ${asText(question)}` : word;
  return element("li", { class: "decision", "data-testid": "decision", "data-decision": decision ?? "" }, text);
}

export class ToolView {
  #name = element("span", { class: "name" });
  #gist = element("span", { class: "gist" });
  #outcome = element("span", { class: "outcome" });
  #fields = element("dl", {});
  #details = element("details", {}, element("summary", {}, this.#name, this.#gist, this.#outcome), this.#fields);
  root = element("li", { class: "tool", "data-testid": "tool" }, this.#details);
  #drawn = null;

  draw(tool) {
    if (tool === this.#drawn) return;
    this.#drawn = tool;
    this.root.dataset.toolName = tool.name;
    this.root.dataset.success = tool.success === null ? "" : String(tool.success);
    const result = tool.success ? preview(tool.results) : "";
    setText(this.#name, tool.name);
    setText(this.#gist, `${preview(tool.parameters)}${result && ` → ${result}`}`);
    setText(this.#outcome, outcomeText(tool));
    this.#details.open ||= tool.success === false;
    this.#fields.replaceChildren(...fieldsOf(tool).flatMap(fieldView));
  }
}

function fieldsOf({ parameters, results, error, durationMs }) {
  const shown = [
    ["Parameters", parameters],
    ["Results", error && results === null ? undefined : results],
    ["Error", error ?? undefined],
  ];
  const values = shown.filter(([, value]) => value !== undefined).map(([name, value]) => [name, valueView(name, asText(value, 2))]);
  return durationMs == null ? values : [...values, ["Duration", duration(durationMs)]];
}

/** What is long scrolls by itself, also by the keyboard. */
function valueView(name, text) {
  const scrolls = text.length > 200 ? { tabindex: "0", role: "group", "aria-label": name } : {};
  return element("pre", scrolls, text);
}

function fieldView([name, value]) {
  return [element("dt", {}, name), element("dd", {}, value)];
}

function outcomeText({ success, durationMs }) {
  if (success === null) return "running …";
  return `${success ? "✓ done" : "✗ failed"}${durationMs != null ? ` · ${duration(durationMs)}` : ""}`;
}
