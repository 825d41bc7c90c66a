// Where a text in Markdown that is still coming can be cut: into blocks that nothing that comes later changes.
//
// The cut is a function of the text alone, however it was split on its way: lines are looked at once they are whole. It errs on the side
// of long blocks, whose parts the lexer then tells apart.

/** A block with more letters is shown as plain text: what a lexer costs may grow faster than its text. */
export const MOST_LETTERS = 4_096;
/** A list with more letters goes on as another one, at its next item. */
const LONG_LIST = 1_024;

const BLANK = /^[ \t]*$/;
const INDENTED = /^[ \t]/;
const LIST_ITEM = /^ {0,3}(?:([*+-])|\d{1,9}([.)]))(?:[ \t]|$)/;
const HTML = /^ {0,3}</;
// What follows the backticks is short, so that the beginning of a line tells.
const FENCE = /^( {0,3})(`{3,}|~{3,})([^\n]{0,100})$/;
/** No longer line ends one. */
const LONG_END = 200;

/**
 * Takes a text in pieces of any size and tells its blocks to `sink`:
 * - `block(text)`: one in Markdown, whole;
 * - `openCode(language)`, `code(text)`, `closeCode()`: a fenced one, as it comes;
 * - `openPlain()`, `plain(text)`, `closePlain()`: one that is too long for the lexer, as it comes.
 */
export class BlockCutter {
  #sink;
  #return = false;
  /** The lines of the block that is open, and the beginning of the line that is coming. */
  #block = "";
  #line = "";
  /** Whether that line holds nothing so far, so that only what comes is looked at. */
  #lineIsBlank = true;
  #blank = false;
  #kind = null;
  #item = null;
  #fence = null;
  /** How much of the line that is coming was told already, and the line breaks that wait for more. */
  #told = 0;
  #held = "";

  constructor(sink) {
    this.#sink = sink;
  }

  /** What was not told yet: it may still change its meaning. */
  get open() {
    return ["code", "plain"].includes(this.#kind) ? "" : this.#block + this.#line;
  }

  feed(text) {
    const lines = this.#plainBreaks(text).split("\n");
    for (const [index, part] of lines.entries()) {
      if (index > 0) this.#endLine();
      this.#line += part;
      this.#lineIsBlank &&= BLANK.test(part);
      this.#growLine();
    }
  }

  /** The text is over: whatever is open ends. */
  finish() {
    if (this.#return) this.#endLine();
    this.#return = false;
    if (this.#line !== "") this.#endLine();
    this.#close();
  }

  /** Line breaks of any kind as one; the first half of one may stand at the end of a piece. */
  #plainBreaks(text) {
    if (text === "") return text;
    const whole = this.#return ? `\r${text}` : text;
    this.#return = whole.endsWith("\r");
    return (this.#return ? whole.slice(0, -1) : whole).replace(/\r\n?/gu, "\n");
  }

  /** A line of which more may come. */
  #growLine() {
    if (this.#kind === "code") return this.#tellCode(false);
    if (this.#kind === "plain" && this.#told > 0) return this.#tellPlain();
    if (this.#line.length <= MOST_LETTERS || this.#lineIsBlank) return undefined;
    // Whatever block it belongs to is too long, and which one that is its beginning tells.
    this.#place(this.#line);
    if (this.#kind !== "plain") this.#turnPlain();
    return this.#tellPlain();
  }

  #endLine() {
    const line = this.#line;
    if (this.#kind === "code") this.#endCodeLine();
    else if (this.#kind === "plain" && this.#told > 0) this.#endPlainLine();
    else if (this.#lineIsBlank) this.#endBlankLine(line);
    else this.#endTextLine(line);
    this.#line = "";
    this.#lineIsBlank = true;
    this.#told = 0;
  }

  #endBlankLine(line) {
    if (this.#kind === null) return;
    this.#blank = true;
    if (this.#kind === "plain") this.#held += "\n";
    else this.#block += `${line}\n`;
  }

  #endTextLine(line) {
    const fence = this.#opensFence(line);
    if (fence) return this.#openFence(fence);
    this.#place(line);
    if (this.#kind !== "plain" && this.#block.length + line.length > MOST_LETTERS) this.#turnPlain();
    if (this.#kind === "plain") {
      this.#tellPlain();
      return this.#endPlainLine();
    }
    this.#block += `${line}\n`;
    return undefined;
  }

  /** Ends the block that is open if the line is not of it, and opens another. */
  #place(line) {
    const item = LIST_ITEM.exec(line);
    if (this.#kind !== null && !this.#goesOn(line, item)) this.#close();
    this.#blank = false;
    if (this.#kind === null) {
      this.#kind = item ? "list" : HTML.test(line) ? "html" : "text";
      this.#item = item && (item[1] ?? item[2]);
    } else if (item && this.#kind === "text") {
      // A list may follow a paragraph without a blank line.
      this.#kind = "list";
    }
  }

  #goesOn(line, item) {
    const sameList = item && this.#item === (item[1] ?? item[2]) && !INDENTED.test(line);
    if (sameList && this.#kind === "list" && this.#block.length > LONG_LIST) return false;
    return !this.#blank || INDENTED.test(line) || (this.#kind === "list" && item !== null);
  }

  #close() {
    if (this.#kind === "code") this.#sink.closeCode();
    else if (this.#kind === "plain") this.#sink.closePlain();
    else if (this.#kind !== null) this.#sink.block(this.#block);
    this.#block = "";
    this.#held = "";
    this.#blank = false;
    this.#kind = null;
    this.#item = null;
  }

  // --- fences

  #opensFence(line) {
    // In an item it is the item's, and between tags it is none.
    if (this.#kind === "html" && !this.#blank) return null;
    if (this.#kind === "list" && INDENTED.test(line)) return null;
    const [, indent, marks, info] = FENCE.exec(line) ?? [];
    if (marks === undefined || (marks[0] === "`" && info.includes("`"))) return null;
    return { indent: indent.length, marks, language: info.trim().split(/\s/u)[0] };
  }

  #openFence(fence) {
    this.#close();
    this.#kind = "code";
    this.#fence = fence;
    this.#held = "";
    this.#sink.openCode(fence.language);
  }

  /** As long as the line may become the end of the fence, nothing of it is told. */
  #tellCode(isWhole) {
    const { indent, marks } = this.#fence;
    const line = this.#line;
    if (this.#told === 0) {
      const mayEnd = line.length < LONG_END && new RegExp(`^ {0,3}${marks[0]}*[ \\t]*$`, "u").test(line);
      if (mayEnd && !isWhole) return;
      const spaces = /^ */u.exec(line)[0].length;
      this.#told = Math.min(spaces, indent);
      this.#sink.code(this.#held);
      this.#held = "";
    }
    this.#sink.code(line.slice(this.#told));
    this.#told = line.length;
    // What was told is not looked at again.
    if (!isWhole) this.#forgetTold();
  }

  #endCodeLine() {
    const { marks } = this.#fence;
    const mayEnd = this.#told === 0 && this.#line.length < LONG_END;
    const ends = mayEnd && new RegExp(`^ {0,3}${marks[0]}{${marks.length},}[ \\t]*$`, "u").test(this.#line);
    if (ends) return this.#close();
    if (this.#told === 0) this.#tellCode(true);
    this.#held = "\n";
    return undefined;
  }

  // --- what is too long

  #turnPlain() {
    this.#kind = "plain";
    this.#sink.openPlain();
    // Of the blank lines at its end nothing is said until more follows.
    const text = this.#block.replace(/[ \t\n]+$/u, "");
    this.#sink.plain(text);
    this.#held = this.#block.slice(text.length).replace(/[ \t]/gu, "");
    this.#block = "";
  }

  #tellPlain() {
    if (this.#told === 0) this.#sink.plain(this.#held);
    this.#held = "";
    this.#sink.plain(this.#line.slice(this.#told));
    this.#told = this.#line.length;
    this.#forgetTold();
  }

  #endPlainLine() {
    this.#held = "\n";
  }

  #forgetTold() {
    this.#line = this.#line.slice(-1);
    this.#told = this.#line.length;
  }
}
