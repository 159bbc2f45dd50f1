// Notices that the photos changed: some were deleted, or embed.py renewed the gallery.

import { get } from "./api.js";
import { isWorking, progress } from "./progress.js";
import { galleries } from "./state.js";

const EVERY = 20_000; // milliseconds between two looks
const SOON = 2_000; // the same while embed.py works, while `awaits` says so, and after each change
let { state } = document.body.dataset;
let changed = () => {};
let awaits = () => false;
let timer = 0;
let lively = 0; // looks that come soon

/** Asks the server whether other images are shown by now, and if so tells `changed` of `watch`. */
export async function look() {
  clearTimeout(timer);
  timer = setTimeout(look, isWorking() || awaits() || lively-- > 0 ? SOON : EVERY);
  if (document.hidden || document.querySelector("dialog[open], .reading")) return; // the next look comes soon
  const now = await get("galleries").catch(() => null); // an ended server is said where it matters
  if (!now) return;
  now.galleries.forEach(({ left_out: left, ...facts }, g) => Object.assign(galleries[g], { ...facts, left }));
  progress();
  document.dispatchEvent(new Event("looked")); // the server answers
  if (now.state === state) return;
  ({ state } = now);
  lively = 5; // a script that moves files goes on with it
  clearTimeout(timer);
  timer = setTimeout(look, SOON);
  changed();
}

/** Looks now and then, and whenever someone comes back to the page. soon(): whether the next look should come soon. */
export function watch(then, soon) {
  [changed, awaits] = [then, soon];
  timer = setTimeout(look, SOON); // what the page came with may be from before a script moved files
  addEventListener("focus", look);
  document.addEventListener("visibilitychange", look);
}
