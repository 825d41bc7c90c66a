// The look-up of one user: connections, positions and runs, and what can be done about them. Nothing of what was said is shown.

import { confirm } from "./operators-confirm.js";
import { within } from "./operators-data.js";
import { UNKNOWN, announce, count, plural, say, span, syncRows } from "./operators-dom.js";
import { $, element, setText } from "./page-dom.js";

const ANSWER_MS = 10_000;
const REFUSED = ["not_found", "forbidden", "identity_mismatch"];

/** `line()` is the client, or `null`. */
export class LookUp {
  #line;
  #userId = null;
  /** The look-up whose answer counts, and whether it is still to come. */
  #asked = 0;
  #isAsking = false;
  /** This user is not this token's to see, however often it is asked. */
  #isRefused = false;
  /** Who is logged in: what another one did is not said to the next. */
  #login = {};

  constructor(line) {
    this.#line = line;
    $("look-up").addEventListener("submit", (event) => this.#submit(event));
    $("close-all").addEventListener("click", () => this.#closeAll());
    $("revoke-all").addEventListener("click", () => this.#revokeAll());
  }

  clear() {
    this.#userId = null;
    this.#asked += 1;
    this.#isAsking = false;
    this.#login = {};
    for (const id of ["connections", "runs", "user-id", "user-summary", "user-head"]) $(id).replaceChildren();
    $("look-up-user").value = "";
    $("user-found").hidden = true;
    $("user-hint").hidden = false;
    setText($("user-problem"), "");
  }

  /** Asks again about the user that is shown, unless that is being asked: an answer may take longer than the time between two calls. */
  async refresh() {
    if (!this.#isAsking && !this.#isRefused) await this.#ask();
  }

  /** Asks, and takes no answer any more to what was asked before. */
  async #ask() {
    const line = this.#line();
    if (this.#userId === null || !line) return;
    const asked = (this.#asked += 1);
    this.#isAsking = true;
    try {
      const user = await within(ANSWER_MS, line.inspect(this.#userId));
      if (asked === this.#asked) this.#show(user);
    } catch (error) {
      if (asked === this.#asked) this.#failed(error);
    } finally {
      if (asked === this.#asked) this.#isAsking = false;
    }
  }

  async #submit(event) {
    event.preventDefault();
    const userId = $("look-up-user").value.trim();
    if (!userId) return $("look-up-user").focus();
    this.#userId = userId;
    this.#isRefused = false;
    $("user-found").hidden = true;
    $("user-hint").hidden = true;
    setText($("user-problem"), "Looking …");
    await this.#ask();
    if ($("user-found").hidden) return undefined;
    return say($("user-summary").textContent);
  }

  /** What may pass is asked again by itself. */
  #failed(error) {
    if (error.code === "no_answer") return setText($("user-problem"), "No answer. Asking again …");
    if (error.temporary || error.code === "unanswered") return undefined;
    this.#isRefused = true;
    $("user-found").hidden = true;
    return setText($("user-problem"), REFUSED.includes(error.code) ? "No such user for this token." : `Not looked up: ${error.message}`);
  }

  #show({ user_id: userId, head, connections, runs }) {
    setText($("user-problem"), "");
    $("user-found").hidden = false;
    setText($("user-id"), userId);
    setText($("user-summary"), `${plural(connections.length, "connection")}, ${plural(runs.length, "open run")}`);
    // The tables show as much to whoever looks.
    $("user-summary").classList.toggle("sr-only", connections.length + runs.length > 0);
    setText($("user-head"), head ? `stream ends at ${head}` : "no stream yet");
    $("close-all").disabled = connections.length === 0;
    $("connections-table").hidden = connections.length === 0;
    $("runs-table").hidden = runs.length === 0;
    syncRows($("connections"), connections, {
      key: ({ connection_id: id }) => id,
      make: (connection) => this.#connectionRow(connection),
      update: updateConnection,
    });
    syncRows($("runs"), runs, { key: ({ run_id: id }) => id, make: runRow, update: updateRun });
  }

  #connectionRow({ connection_id: id, session_id: session }) {
    const close = element("button", { type: "button", class: "quiet", "data-testid": "close-one", "aria-label": `Close connection ${id}` }, "Close");
    const revoke = element("button", { type: "button", class: "quiet danger", "data-testid": "revoke-one", "aria-label": `Revoke session ${session}` }, "Revoke");
    close.addEventListener("click", () => this.#closeOne(id));
    revoke.addEventListener("click", () => this.#revokeOne(session));
    return element(
      "tr",
      { "data-testid": "connection" },
      idCell("th", id),
      idCell("td", session),
      element("td", { class: "id position" }),
      element("td", { class: "number" }),
      element("td", { class: "actions" }, close, revoke),
    );
  }

  // --- what can be done; each asks first, and says what became of it

  #closeOne(connectionId) {
    const user = this.#userId;
    return this.#act(
      {
        title: "Close this connection?",
        text: `Connection ${connectionId} of ${user} closes with 4005. The device comes back by itself and goes on where it was: nothing is lost.`,
        action: "Close it",
      },
      (line) => line.disconnect(user, connectionId),
    );
  }

  #closeAll() {
    const user = this.#userId;
    return this.#act(
      {
        title: `Close all connections of ${user}?`,
        text: "Each closes with 4005. The devices come back by themselves and go on where they were: nothing is lost.",
        action: "Close all",
      },
      (line) => line.disconnect(user),
    );
  }

  #revokeOne(sessionId) {
    const user = this.#userId;
    return this.#act(
      {
        title: "Revoke this session?",
        text: `Session ${sessionId} of ${user} closes with 4201 and is never let in again. The device is signed out, unless it can get a new token by itself; then it comes back as a new session.`,
        action: "Revoke it",
      },
      (line) => line.revoke(user, { sessionId }),
    );
  }

  #revokeAll() {
    const user = this.#userId;
    return this.#act(
      {
        title: `Revoke all of ${user}?`,
        text: "Every token that was issued until now is refused from now on, all connections close with 4201, and all sessions are forgotten. Devices are signed out, unless they can get a new token by themselves.",
        action: "Revoke all",
      },
      (line) => line.revoke(user, { all: true }),
    );
  }

  async #act(question, run) {
    if (!(await confirm(question))) return;
    const login = this.#login;
    const tell = (text) => (login === this.#login ? announce(text) : undefined);
    try {
      const closed = await run(this.#line());
      tell(closed === 0 ? "Done. No connection was open." : `Done. ${plural(closed, "connection")} closed.`);
    } catch (error) {
      tell(`Not done: ${REFUSED.includes(error.code) ? "this token may not, or nothing of that name is there." : error.message}`);
    }
    await this.#ask();
  }
}

function updateConnection(row, { acked, behind }) {
  setText(row.cells[2], acked ?? "nothing yet");
  setText(row.cells[3], count(behind));
}

function runRow({ run_id: id, thread_id: thread, agent_name: agent }) {
  const cells = Array.from({ length: 4 }, () => element("td", {}));
  return element("tr", { "data-testid": "found-run" }, idCell("th", id), element("td", {}, agent ?? UNKNOWN), idCell("td", thread ?? UNKNOWN), ...cells);
}

function updateRun(row, { status, run_seq: seq, lease_left: lease, cancel_requested_by: by }) {
  [status, String(seq), lease == null ? "held" : span(lease), by ? `by ${by}` : "no"].forEach((text, index) => setText(row.cells[3 + index], text));
}

/** Ids are long: they are cut at the sight, and whole in what is copied, read out or pointed at. */
function idCell(tag, id) {
  return element(tag, { ...(tag === "th" && { scope: "row" }), class: "id", title: id }, id);
}
