// The large view of an image: a dialog with its path, and steps to the images before and after it.

import { copy } from "./dom.js";
import { look } from "./fresh.js";
import { go, searchAlso, searchFor, wholePath } from "./state.js";

const dialog = document.getElementById("large");
const image = dialog.querySelector("img");
const missing = dialog.querySelector(".stage p");
const part = (name) => dialog.querySelector(`[data-do="${name}"]`);

let shown = { step: () => null, closed: () => {} };

/** Closes the view for a search: the focus goes to the results, not back to the image. */
function leave(hash) {
  shown.closed = () => {};
  go(hash);
  dialog.close();
}

/**
 * Shows an item, or an upload: {name, source, small}. step(-1 or 1): a function that shows the previous or next image, or
 * null. closed(): runs at the end. The view is a step in the history, so that Back closes it.
 */
export function showLarge(item, { step = () => null, closed = () => {} } = {}) {
  shown = { item, step, closed };
  missing.textContent = "";
  image.hidden = false;
  image.src = item.source ?? `/image/${item.key}?size=large`; // the previous image stays until this one is loaded
  image.alt = item.name;
  dialog.querySelector("h2").textContent = item.name;
  dialog.querySelector(".path").textContent = item.path;
  dialog.querySelector(".actions").hidden = !item.key;
  dialog.querySelector("a").href = item.key ? searchFor(item.key) : "#";
  part("add").onclick = () => leave(searchAlso(item.key));
  part("copy").onclick = (event) => copy(wholePath(item.path), event.currentTarget);
  for (const [name, by] of [
    ["previous", -1],
    ["next", 1],
  ]) {
    const show = step(by);
    part(name).hidden = !show;
    part(name).onclick = show;
  }
  if (dialog.open) return;
  history.pushState({ ...history.state, large: true }, "");
  dialog.showModal();
}

part("close").addEventListener("click", () => dialog.close());
dialog.querySelector("a").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab
  event.preventDefault();
  leave(event.currentTarget.hash);
});
image.addEventListener("error", () => {
  const { small } = shown.item;
  if (small && !image.src.endsWith(small)) return void (image.src = small); // the browser cannot show the file itself
  image.hidden = true;
  missing.textContent = "This picture cannot be shown: its file is gone or cannot be read.";
});
image.addEventListener("load", () => {
  image.style.maxWidth = `${3 * image.naturalWidth}px`; // a small image is not blown up
  image.style.maxHeight = `${3 * image.naturalHeight}px`;
});
dialog.addEventListener("close", () => {
  document.body.append(document.getElementById("notice")); // a message outlives the view
  image.removeAttribute("src");
  if (history.state?.large) history.back();
  shown.closed();
  if (missing.textContent) look();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // a click beside the picture
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) shown.step(by)?.();
});
