// On a narrow screen the list of threads lies over the conversation while it is asked for.

import { $ } from "./chat-dom.js";

export function wireDrawer() {
  const [toggle, list] = [$("threads-toggle"), $("threads-nav")];
  const isOpen = () => toggle.getAttribute("aria-expanded") === "true";
  const set = (open) => {
    toggle.setAttribute("aria-expanded", String(open));
    list.dataset.open = String(open);
  };
  toggle.addEventListener("click", () => {
    set(!isOpen());
    if (isOpen()) (list.querySelector('[aria-current="true"]') ?? list.querySelector("button")).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !isOpen()) return;
    set(false);
    toggle.focus();
  });
  // A choice is made, or the person is elsewhere.
  list.addEventListener("click", (event) => event.target.closest("button") && set(false));
  list.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && relatedTarget !== toggle && !list.contains(relatedTarget)) set(false);
  });
  $("log").addEventListener("pointerdown", () => set(false));
}
