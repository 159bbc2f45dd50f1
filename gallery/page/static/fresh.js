// Notices that the photos changed: some were deleted, or embed.py renewed the gallery.

import { get } from "./api.js";
import { galleries } from "./state.js";

const EVERY = 20_000; // milliseconds between two looks
let { state } = document.body.dataset;
let changed = () => {};

/** Asks the server whether other images are shown by now, and if so tells `changed` of `watch`. */
export async function look() {
  if (document.hidden || document.querySelector("dialog[open], .reading")) return; // the next look comes soon
  const now = await get("galleries").catch(() => null); // an ended server is said where it matters
  if (!now || now.state === state) return;
  ({ state } = now);
  now.galleries.forEach(({ left_out: left, ...facts }, g) => Object.assign(galleries[g], { ...facts, left }));
  changed();
}

/** Looks now and then, and whenever someone comes back to the page. */
export function watch(then) {
  changed = then;
  setInterval(look, EVERY);
  addEventListener("focus", look);
  document.addEventListener("visibilitychange", look);
}
