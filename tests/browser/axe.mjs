// What axe-core finds on a page, by the rules of WCAG 2.2 A and AA and its own best practices.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { ensure } from "./harness.mjs";

const SOURCE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Holds where axe finds nothing on the page as it is now. */
export async function accessible(page) {
  // By the debugger's hand: the page's own policy lets no script in.
  await page.evaluate(SOURCE);
  const violations = await page.evaluate(async (values) => {
    const found = await globalThis.axe.run(document, { runOnly: { type: "tag", values } });
    return found.violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}\n      ${failureSummary}`));
  }, TAGS);
  ensure(violations.length === 0, violations.join("\n    "));
}
