// As much of a document as the page's Markdown needs, for tests without a browser. It takes elements and text, and no markup.

export class FakeNode {
  parentNode = null;

  remove() {
    if (!this.parentNode) return;
    this.parentNode.children.splice(this.parentNode.children.indexOf(this), 1);
    this.parentNode = null;
  }
}

export class FakeText extends FakeNode {
  constructor(data) {
    super();
    this.data = String(data);
  }

  appendData(more) {
    this.data += more;
  }
}

export class FakeElement extends FakeNode {
  children = [];
  attributes = new Map();

  constructor(tag) {
    super();
    this.tag = tag;
  }

  setAttribute(name, value) {
    this.attributes.set(name, String(value));
  }

  append(...nodes) {
    for (const node of nodes) {
      const child = node instanceof FakeNode ? node : new FakeText(node);
      child.remove();
      child.parentNode = this;
      this.children.push(child);
    }
  }

  replaceChildren(...nodes) {
    for (const child of [...this.children]) child.remove();
    this.append(...nodes);
  }

  /** All elements below it. */
  *elements() {
    for (const child of this.children) {
      if (!(child instanceof FakeElement)) continue;
      yield child;
      yield* child.elements();
    }
  }

  get textContent() {
    return this.children.map((child) => child.textContent ?? child.data).join("");
  }

  /** One spelling for one tree: neighbouring texts are one. */
  toString() {
    const attributes = [...this.attributes].map(([name, value]) => ` ${name}=${JSON.stringify(value)}`).join("");
    const children = this.children.map((child) => (child instanceof FakeText ? child.data.replace(/[<\\]/gu, "\\$&") : String(child)));
    return `<${this.tag}${attributes}>${children.join("")}</${this.tag}>`;
  }
}

export const fakeDocument = {
  createElement: (tag) => new FakeElement(tag),
  createTextNode: (data) => new FakeText(data),
};
