// What the connection does, said in words: the badge, the banner with its countdown, the service's level.

import { $, announce, setText } from "./chat-dom.js";

const STATE_NAMES = { connecting: "Connecting", live: "Live", lagging: "Catching up", offline: "Offline", stopped: "Stopped" };
const LEVEL_NAMES = { degraded: "Limited service", emergency: "Emergency service" };
const REASONS = {
  connection_lost: "The connection was lost.",
  no_answer: "The server does not answer.",
  heartbeat_timeout: "The line went silent.",
  going_away: "The server is shutting down.",
  service_restart: "The server is restarting.",
  try_again_later: "The server has no room right now.",
  disconnected: "An operator has closed this connection.",
  token_unavailable: "No new token could be had yet.",
  token_expired: "Your login has expired.",
  token_revoked: "Your login was revoked.",
  bad_credentials: "The server does not accept this login.",
  no_token: "Your login has expired.",
  unusable_token: "This is not a token.",
  superseded: "This session was taken over by a newer connection.",
  too_many_connections: "You have too many open connections.",
};
const COUNTDOWN_MS = 500;

export const reasonText = (reason) => REASONS[reason] ?? `The connection ended (${reason}).`;

/** Whether nothing but another login helps. */
export function endsLogin({ code, reason }) {
  return code === 4400 || (code >= 4200 && code < 4300) || reason === "no_token" || reason === "unusable_token";
}

export class ConnectionView {
  #change = { state: "connecting" };
  #wasLost = false;
  #notice = "";

  /** `again({state, endsLogin})` is what the banner's button does. */
  constructor(again) {
    $("retry").addEventListener("click", () => again({ state: this.#change.state, endsLogin: endsLogin(this.#change) }));
    setInterval(() => this.#showBanner(), COUNTDOWN_MS);
  }

  show(change) {
    const wasLost = this.#wasLost;
    this.#change = change;
    this.#notice = "";
    this.#wasLost = change.state === "offline" || change.state === "stopped" || (change.state === "connecting" && wasLost);
    $("state").dataset.state = change.state;
    setText($("state"), STATE_NAMES[change.state]);
    this.#showBanner();
    if (this.#wasLost && !wasLost) announce(`${reasonText(change.reason)} ${this.#advice()}`);
    if (!this.#wasLost && wasLost) announce("Connected again.");
  }

  goingAway() {
    this.#notice = "The server restarts soon. This page will come back by itself.";
    this.#showBanner();
    announce(this.#notice);
  }

  /** Nothing is shown while all works. */
  showLevel(level, reason) {
    $("level").hidden = !(level in LEVEL_NAMES);
    $("level").dataset.level = level;
    setText($("level"), [LEVEL_NAMES[level], reason].filter(Boolean).join(": "));
  }

  #showBanner() {
    const { state } = this.#change;
    const isShown = this.#wasLost || this.#notice !== "";
    $("banner").hidden = !isShown;
    if (!isShown) return;
    $("banner").dataset.tone = state === "stopped" ? "bad" : "warn";
    $("retry").hidden = state !== "offline" && state !== "stopped";
    setText($("retry"), this.#buttonText());
    setText($("banner-text"), this.#text());
  }

  #buttonText() {
    if (this.#change.state !== "stopped") return "Try now";
    return endsLogin(this.#change) ? "Log in again" : "Connect again";
  }

  #text() {
    const { state, reason, retryAt } = this.#change;
    if (!this.#wasLost) return this.#notice;
    if (state === "connecting") return "Reconnecting …";
    if (state === "stopped") return `${reasonText(reason)} ${this.#advice()}`;
    const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    const why = navigator.onLine ? reasonText(reason) : "This device is offline.";
    return `${why} Next try ${left > 0 ? `in ${left} s` : "now"}. What you send meanwhile waits.`;
  }

  #advice() {
    if (this.#change.state !== "stopped") return "Trying again by itself.";
    return endsLogin(this.#change) ? "What you have written is kept." : "";
  }
}
