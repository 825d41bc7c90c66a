// The conversation's scroll: it stays at its end while that is where the person is, and never moves them otherwise.

const NEAR_PX = 48;

export class Log {
  #box;
  #jump;
  #top = 0;
  #height = 0;
  #sticks = true;

  constructor(box, content, jump) {
    this.#box = box;
    this.#jump = jump;
    box.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    // After the layout, so that nothing has to be laid out for it.
    const observer = new ResizeObserver(() => (this.#sticks ? this.#follow() : this.#showJump()));
    observer.observe(content);
    observer.observe(box);
  }

  toEnd() {
    this.#sticks = true;
    this.#follow();
  }

  #follow() {
    this.#box.scrollTop = this.#box.scrollHeight;
    this.#remember();
    this.#showJump();
  }

  /** The content may have grown or shrunk since the scrolling: only a way up in what is no shorter is the person's. */
  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#box;
    if (scrollHeight - scrollTop - clientHeight < NEAR_PX) this.#sticks = true;
    else if (scrollTop < this.#top && scrollHeight >= this.#height) this.#sticks = false;
    this.#remember();
    this.#showJump();
  }

  #remember() {
    this.#top = this.#box.scrollTop;
    this.#height = this.#box.scrollHeight;
  }

  #showJump() {
    this.#jump.hidden = this.#sticks;
  }
}
