// The line under the header: what embed.py does at the moment, and what the page still lacks.

import { el } from "./dom.js";
import { galleries, gallery } from "./state.js";

const line = document.getElementById("progress");

/** Says what is done for the gallery that is shown; hides the line when there is nothing to say. */
export function progress() {
  const { work } = galleries[gallery()];
  line.hidden = !work;
  if (!work) return;
  const [sentence, bar] = line.children;
  if (sentence.textContent !== work.sentence) sentence.textContent = work.sentence;
  const value = work.images ? { max: work.images, value: work.done } : {};
  bar.replaceWith(el("progress", { "aria-label": "Embedded images", ...value }));
}

/** Tells whether a gallery is being made or renewed. */
export const isWorking = () => galleries.some(({ work }) => work);
