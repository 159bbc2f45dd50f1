// Asks the server what a selection leaves behind: which images have no copy that stays, and which are not in the list shown.

import { weigh } from "./api.js";
import { selection } from "./select.js";

const PAUSE = 150; // milliseconds after the last change

/**
 * Returns a function to call after each change of the selection or the list. A moment later it calls told({alone, unlisted})
 * with keys, or with null if there is no answer. listed(): the settings of the list. isThere(): whether the view is shown.
 */
export function weigher(g, listed, isThere, told) {
  let [before, timer] = ["", 0];
  let older = new AbortController();
  const ask = async () => {
    if (!isThere()) before = ""; // asked when it is shown again
    const { items, stamp, turned } = selection(g);
    if (!isThere() || !items.size) return;
    const query = { ...listed(), copies_turned: turned ? 1 : 0 };
    const { signal } = (older = new AbortController());
    const answer = await weigh(g, query, { keys: [...items.keys()], stamp }, signal).catch(() => null);
    if (!signal.aborted) told(answer);
  };
  /** again: also if the selection and the list are as before. */
  return (again = false) => {
    const { items, turned } = selection(g);
    const now = JSON.stringify([[...items.keys()].join(), turned, listed()]);
    if (now === before && !again) return;
    before = now;
    older.abort();
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE);
  };
}
