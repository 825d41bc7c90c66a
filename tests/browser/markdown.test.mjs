// The page's Markdown without a browser: that streaming changes nothing, that nothing unsafe comes out, that nothing hangs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { FakeElement, fakeDocument } from "./fake-dom.mjs";

globalThis.document = fakeDocument;
const { MarkdownStream } = await import("../../runtime-tokio/page/chat-markdown.js");
const { BlockCutter, MOST_LETTERS } = await import("../../runtime-tokio/page/chat-blocks.js");
const { Lexer, defaults } = await import("../../runtime-tokio/page/vendor/marked.esm.js");

const CASES = Number(process.env.MARKDOWN_CASES ?? 1_500);
const ELEMENTS = [
  ..."p h3 h4 h5 h6 ul ol li blockquote pre code strong em del hr br a figure figcaption span button".split(" "),
  ..."div table thead tbody tr th td".split(" "),
];
const ATTRIBUTES = ["class", "type", "data-copy", "tabindex", "role", "aria-label", "start", "scope", "href", "target", "rel"];

// --- helpers

/** Numbers that are the same for the same seed (mulberry32). */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function stream(pieces, { eachDrawn = false } = {}) {
  const root = new FakeElement("div");
  const markdown = new MarkdownStream(root);
  for (const piece of pieces) {
    markdown.append(piece);
    if (eachDrawn) markdown.draw();
  }
  markdown.finish();
  assert.ok(markdown.draw());
  return root;
}

const render = (text) => stream([text]);
/** The blocks of a short text, which stand in one group. */
const shown = (text) => render(text).children.flatMap((group) => group.children).join("");

/** Whole characters are not kept together: a split may go through one. */
function split(text, next) {
  const pieces = [];
  for (let at = 0; at < text.length; ) {
    const size = 1 + next(next(4) === 0 ? 200 : 9);
    pieces.push(text.slice(at, at + size));
    at += size;
  }
  return pieces;
}

const BITS = [
  "word ", "two words", "\n", "\n", "\n\n", "\n\n", "# ", "## ", "- ", "- [x] ", "* ", "1. ", "2) ", "> ", "```\n", "```js\n", "~~~\n", "   ```\n", "    ",
  "  ", "\t", "**", "*", "_", "`", "~~", "[a]", "(http://b.c)", "[a]: http://d.e\n", "![i](http://j.k)", "<b>", "</b>", "<!-- ", "| a | b |\n", "|---|:-:|\n",
  "---\n", "===\n", "\\", "&amp;", "&lt;", "🦊", "é", "\r\n", "\r", "http://l.m ", "n@o.p ", "<http://q.r>", "2*(3+4)", "[x](javascript:alert(1))", "\u0000",
];

function written(next) {
  return Array.from({ length: 1 + next(60) }, () => BITS[next(BITS.length)]).join("");
}

// --- what it shows

test("what people write", () => {
  const table = [
    ["one", "<p>one</p>"],
    ["2*(3+4) = 14", "<p>2*(3+4) = 14</p>"],
    ["a *b* **c** `d *e*` ~~f~~", "<p>a <em>b</em> <strong>c</strong> <code>d *e*</code> <del>f</del></p>"],
    ["a\nb", "<p>a<br></br>b</p>"],
    ["# t\n## u\n### v", "<h3>t</h3><h3>u</h3><h4>v</h4>"],
    ["- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"],
    ["3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'],
    ["- [ ] a\n- [x] b", "<ul><li>☐ a</li><li>☑ b</li></ul>"],
    ["> a\n\nb", "<blockquote><p>a</p></blockquote><p>b</p>"],
    ["a & b &amp; &lt;b&gt; &#x41; &nope;", "<p>a & b & \\<b> A &nope;</p>"],
    ["---", "<hr></hr>"],
  ];
  for (const [text, expected] of table) assert.equal(shown(text), expected, text);
});

test("code, as it comes: with its language, its indentation, and without its end", () => {
  const code = (text) => [...render(text).elements()].filter(({ tag }) => tag === "code").map((one) => one.textContent);
  assert.deepEqual(code("```js\nlet a;\n\n  b\n```\nafter"), ["let a;\n\n  b"]);
  assert.deepEqual(code("  ```\n  a\n    b\n c\n  ```"), ["a\n  b\nc"]);
  assert.deepEqual(code("````\n```\n````"), ["```"]);
  assert.deepEqual(code("~~~\n```\nnever closed"), ["```\nnever closed"]);
  assert.deepEqual(code("``` not`a fence\nx"), []);
  assert.match(shown("```rust ignore\nx\n```"), /<span>rust<\/span>/u);
});

test("a table scrolls by itself and aligns its cells", () => {
  const found = shown("| a | b |\n|---|--:|\n| 1 | *2* |");
  assert.match(found, /^<div class="table" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th scope="col">a<\/th>/u);
  assert.match(found, /<td>1<\/td><td class="right"><em>2<\/em><\/td>/u);
});

test("links go where they say, elsewhere, and without a word of where from; others are text", () => {
  const safe = 'target="_blank" rel="noopener noreferrer"';
  assert.equal(shown("[a](https://b.c/?d=1&amp;e)"), `<p><a href="https://b.c/?d=1&e" ${safe}>a</a></p>`);
  assert.equal(shown("[a](mailto:b@c.d)"), `<p><a href="mailto:b@c.d" ${safe}>a</a></p>`);
  assert.equal(shown("![a](http://b.c/d.png)"), `<p><a href="http://b.c/d.png" ${safe}>🖼 a</a></p>`);
  for (const address of ["javascript:alert(1)", "&#106;avascript:a", "JaVaScRiPt&colon;a", "data:text/html,a", "vbscript:a", "file:///a", "/a", "a", "//a.b", "blob:http://a"]) {
    assert.equal(shown(`[x](${address})`), "<p>x</p>", address);
    assert.equal(shown(`![x](${address})`), "<p>🖼 x</p>", address);
  }
});

test("a definition of a link counts from its own block on, under any name", () => {
  assert.match(shown("[a]: http://b.c\n\n[a]"), /<a href="http:\/\/b\.c\/"/u);
  assert.match(shown("[a]: http://b.c\n\nx\n\n[d][a]"), /<a href="http:\/\/b\.c\/"/u);
  assert.equal(shown("[constructor] [toString][]"), "<p>[constructor] [toString][]</p>");
});

test("raw HTML is text", () => {
  assert.equal(shown("a <b onclick=x>c</b>"), "<p>a \\<b onclick=x>c\\</b></p>");
  assert.equal(render("<script>alert(1)</script>").textContent, "<script>alert(1)</script>");
  assert.equal(render('<img src=x onerror="a">').textContent, '<img src=x onerror="a">');
});

// --- that it streams

test("property: streamed in any split is what it is whole", () => {
  for (let seed = 0; seed < CASES; seed += 1) {
    const next = numbers(seed);
    const text = written(next);
    const whole = String(render(text));
    assert.equal(String(stream(split(text, next))), whole, `seed ${seed}: ${JSON.stringify(text)}`);
    if (seed % 5 === 0) assert.equal(String(stream(split(text, next), { eachDrawn: true })), whole, `drawn, seed ${seed}`);
  }
});

test("property: the same for blocks that are too long", () => {
  for (let seed = 0; seed < CASES / 30; seed += 1) {
    const next = numbers(seed);
    const long = () => BITS[next(BITS.length)].repeat(next(2 * MOST_LETTERS));
    const text = [written(next), long(), written(next), long(), written(next)].join(next(2) ? "\n\n" : "\n");
    assert.equal(String(stream(split(text, next))), String(render(text)), `seed ${seed}`);
  }
});

/** What the lexer makes of a text, without the blank lines between. */
function kinds(text) {
  const lexer = new Lexer({ ...defaults, breaks: true });
  return lexer.lex(text).filter(({ type }) => type !== "space").map(({ type, raw }) => `${type} ${raw.trim()}`);
}

test("property: the blocks that are cut are those that the lexer sees in the whole", () => {
  // Blocks as they are written, with their spaces; raw HTML is left out, of which all is text anyway.
  const blocks = [
    "A paragraph\nof two lines, *with* `code`.", "# Title", "Title\n===", "- one\n- two\n  more\n\n  and a paragraph\n- three", "1. one\n\n2. two\n   - nested", "> quote\nlazy\n> more",
    "> - list\n>   in it", "| a | b |\n|---|---|\n| 1 | 2 |", "```js\nlet a = 1;\n\n# no title\n```", "~~~\nno end of ``` it\n~~~", "    indented\n\n    code", "***", "Intro:\n- a\n- b",
    "Intro:\n```\ncode\n```", "* [ ] todo\n* [x] done", "- ```\n  code in an item\n  ```\n- after",
  ];
  for (let seed = 0; seed < CASES; seed += 1) {
    const next = numbers(seed);
    const text = Array.from({ length: 1 + next(7) }, () => blocks[next(blocks.length)]).join("\n\n");
    const cut = [];
    const sink = { block: (one) => cut.push(...kinds(one)), openCode: () => (sink.text = ""), code: (more) => (sink.text += more), closeCode: () => cut.push(`code ${sink.text}`) };
    const cutter = new BlockCutter(sink);
    cutter.feed(text);
    cutter.finish();
    const plain = (one) => one.replace(/^code (```|~~~)(js)?\n(.*)\n(```|~~~)$/su, "code $3");
    assert.deepEqual(cut, kinds(text).map(plain), `seed ${seed}: ${JSON.stringify(text)}`);
  }
});

test("what is settled is drawn once", () => {
  const root = new FakeElement("div");
  const markdown = new MarkdownStream(root);
  markdown.append("# one\n\ntwo\n\nthree\n\nfo");
  markdown.draw();
  const [group] = root.children;
  const settled = group.children.slice(0, 2);
  assert.deepEqual(settled.map(({ tag }) => tag), ["h3", "p"]);
  for (const piece of ["ur *", "five*\n", "\n```\nco", "de"]) {
    markdown.append(piece);
    markdown.draw();
    assert.ok(settled.every((node, index) => node === group.children[index]));
  }
  const [code] = [...root.elements()].filter(({ tag }) => tag === "code");
  markdown.append(" grows\n```\n");
  markdown.draw();
  assert.equal(code.textContent, "code grows");
});

test("a piece costs the same at the end of a long text as at its beginning", () => {
  const paragraph = "Some *words* and `code` and [a link](http://b.c), and then some more.\n\n";
  const cost = (times) => {
    let lexed = 0;
    const cutter = new BlockCutter({ block: ({ length }) => (lexed += length) });
    for (let i = 0; i < times; i += 1) {
      cutter.feed(paragraph);
      lexed += cutter.open.length;
    }
    return lexed;
  };
  assert.equal(cost(1_000) - cost(900), cost(200) - cost(100));
});

test("time that is over is not exceeded by more than a slice", () => {
  const root = new FakeElement("div");
  let clock = 0;
  const markdown = new MarkdownStream(root, { now: () => (clock += 1) });
  markdown.append("word ".repeat(20_000));
  assert.equal(markdown.draw(3), false);
  let draws = 1;
  while (!markdown.draw(clock + 3)) draws += 1;
  assert.ok(draws > 10, `${draws}`);
});

// --- that it is safe

function assertSafe(root, label) {
  for (const found of root.elements()) {
    assert.ok(ELEMENTS.includes(found.tag), `${label}: <${found.tag}>`);
    for (const [name, value] of found.attributes) {
      assert.ok(ATTRIBUTES.includes(name), `${label}: ${name}`);
      if (name === "href") assert.match(value, /^(https?:|mailto:)/u, label);
    }
    if (found.attributes.has("href")) assert.equal(found.attributes.get("rel"), "noopener noreferrer");
  }
}

test("fuzz: no element, attribute or address that is not allowed", () => {
  const hostile = [
    ..."<script>|<img src=x onerror=a>|<a href='javascript:a'>|<iframe>|<svg/onload=a>|](javascript:a)|[a](|[a]:|javascript:|<javascript:a>|data:|\"onclick=a|![|&#x6a;|\n<div>|\n\n".split("|"),
    "| a |\n|-|\n", "`", "<style>*{}</style>", "<math><mi//xlink:href='javascript:a'>", " \u0001javascript:a", "java\nscript:a", "[a](<javascript:a>)", "[a]: javascript:a\n\n",
  ];
  for (let seed = 0; seed < CASES; seed += 1) {
    const next = numbers(seed ^ 0x5eed);
    const text = Array.from({ length: 1 + next(30) }, () => (next(2) ? hostile[next(hostile.length)] : BITS[next(BITS.length)])).join("");
    assertSafe(render(text), `seed ${seed}: ${JSON.stringify(text)}`);
  }
});

/** How many letters regular expressions are given to look at. */
function lettersLookedAt(run) {
  const { exec } = RegExp.prototype;
  let letters = 0;
  RegExp.prototype.exec = function counted(text) {
    letters += String(text).length - (this.global || this.sticky ? this.lastIndex : 0);
    return exec.call(this, text);
  };
  try {
    run();
  } finally {
    RegExp.prototype.exec = exec;
  }
  return letters;
}

/** A text twice as long may cost twice as much, and something. */
function assertLinear(cost, label) {
  const [once, twice] = [cost(50_000), cost(100_000)];
  assert.ok(twice < 2.5 * once + 100_000, `${label}: ${once} letters, then ${twice}`);
}

test("inputs that a lexer finds hard cost as much as they are long, and no letter of plain ones is lost", () => {
  const units = ["*a ", "_a_", "[", "[a](", "`a``", ">", "> ", "- ", "|", "<", "<a ", "<!--", "~a", "**", "*_**", "a@", "www.", "[a][b]", "[a]: <b\n", "#", "\\", "![", "http://a(", "***a ", "a\n", "1. a\n", "-\ta\n\n", "a\n=\n"];
  for (const unit of [...units, " "]) {
    assertLinear((length) => lettersLookedAt(() => render(`x${unit.repeat(length / unit.length)}y`)), JSON.stringify(unit));
  }
  const long = "word ".repeat(50_000);
  assert.equal(render(long).textContent, long);
});

test("a blank line that grows is looked at once", () => {
  const cost = (length) =>
    lettersLookedAt(() => {
      const cutter = new BlockCutter({});
      for (let at = 0; at < length; at += 50) cutter.feed(" ".repeat(50));
    });
  assertLinear(cost, "spaces");
});

test("what is open and long is drawn without the lexer", () => {
  const root = new FakeElement("div");
  const markdown = new MarkdownStream(root, { now: () => 0 });
  const drawn = (text) => {
    markdown.append(text);
    markdown.draw();
    return root.children.at(-1).children[0].attributes.get("class");
  };
  const line = "*a* ".repeat(MOST_LETTERS / 4 - 8);
  assert.equal(drawn(line), undefined);
  assert.equal(drawn(`\n${line}`), "plain");
});

test("deep nesting comes out as text at some depth", () => {
  assert.ok(render(`${">".repeat(2_000)} deep`).textContent.includes("deep"));
  assertSafe(render(Array.from({ length: 60 }, (_, i) => `${"  ".repeat(i)}- a`).join("\n")), "lists");
});

test("the lexer is the published one, and its licence is with it", () => {
  const vendored = (name) => readFileSync(new URL(`../../runtime-tokio/page/vendor/${name}`, import.meta.url), "utf8");
  const published = (name) => readFileSync(new URL(`./node_modules/marked/${name}`, import.meta.url), "utf8");
  assert.ok(vendored("marked.esm.js") === published("lib/marked.esm.js"), "the vendored file differs from the package's");
  assert.ok(vendored("marked.LICENSE") === published("LICENSE"));
  const { devDependencies } = JSON.parse(readFileSync(new URL("./package.json", import.meta.url), "utf8"));
  assert.ok(vendored("marked.esm.js").includes(`marked v${devDependencies.marked} `));
});
