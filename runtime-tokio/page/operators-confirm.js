// Asks before something is done that cannot be taken back, and says what it will do.

import { $, setText } from "./page-dom.js";

/**
 * Resolves to whether the person wants it. `word`, where it is given, has to be typed first. The focus goes back to where it was, as far
 * as that is still there.
 */
export function confirm({ title, text, action, word = null }) {
  const dialog = $("confirm");
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  setText($("confirm-do"), action);
  $("confirm-typing").hidden = word === null;
  setText($("confirm-word-name"), word ?? "");
  $("confirm-word").value = "";
  const allow = () => ($("confirm-do").disabled = word !== null && $("confirm-word").value.trim() !== word);
  allow();
  $("confirm-word").oninput = allow;
  dialog.returnValue = "";
  dialog.showModal();
  (word === null ? $("confirm-cancel") : $("confirm-word")).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
  });
}

/** The form is not sent anywhere: it only closes the dialog, as whoever presses Enter in it means. */
export function wireConfirm() {
  $("confirm-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!$("confirm-do").disabled) $("confirm").close("do");
  });
  $("confirm-cancel").addEventListener("click", () => $("confirm").close(""));
}
