// Drives the pages of a running server in headless Chromium.
//
//   TRUNKLINE_BIN=path/to/trunkline node run.mjs              starts `trunkline serve --dev` itself (and restarts it)
//   TRUNKLINE_URL=http://127.0.0.1:8080 node run.mjs          uses one that runs in development mode
//   TRUNKLINE_BIN=path/to/trunkline node run.mjs badLines     some of it
//
//   UPDATE_PICTURES=1 TRUNKLINE_BIN=… node run.mjs pictures operators   writes the README's pictures anew
//
// What else can be set is in `harness.mjs`.

import { check, faults, foreign, nothingIn, withWorld } from "./harness.mjs";
import { conversation } from "./chat.mjs";
import { access } from "./chat-access.mjs";
import { agents } from "./chat-agents.mjs";
import { badLines } from "./chat-lines.mjs";
import { load } from "./chat-load.mjs";
import { logins } from "./chat-login.mjs";
import { scripted } from "./chat-scripted.mjs";
import { operators } from "./operators.mjs";
import { pictures } from "./pictures.mjs";

const SECTIONS = { conversation, agents, logins, scripted, badLines, access, load, pictures, operators };

await withWorld(async (world) => {
  const named = process.argv.slice(2);
  for (const name of named.length > 0 ? named : Object.keys(SECTIONS)) await SECTIONS[name](world);
  await check("no console error and no policy violation", () => nothingIn(faults));
  await check("nothing is loaded from outside", () => nothingIn(foreign));
});
