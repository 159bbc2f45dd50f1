// The large view of an image: a dialog with its path, and steps to the images before and after it.

import { copy } from "./dom.js";
import { look } from "./fresh.js";
import { go, searchAlso, searchFor, wholePath } from "./state.js";

const dialog = document.getElementById("large");
const image = dialog.querySelector("img");
const missing = dialog.querySelector(".stage p");
const part = (name) => dialog.querySelector(`[data-do="${name}"]`);

/** Closes the view for a search: the focus goes to the results, not back to the image. */
function leave(then = () => {}) {
  shown.closed = then;
  dialog.close();
}

let shown = { step: () => null, closed: () => {} };

/** Shows an item. step(-1 or 1): a function that shows the previous or next image, or null. closed(): runs at the end. */
export function showLarge(item, { step = () => null, closed = () => {} } = {}) {
  shown = { step, closed };
  missing.textContent = "";
  image.hidden = false;
  image.src = `/image/${item.key}?size=large`; // the previous image stays until this one is loaded
  image.alt = item.name;
  dialog.querySelector("h2").textContent = item.name;
  dialog.querySelector(".path").textContent = item.path;
  dialog.querySelector("a").href = searchFor(item.key);
  part("add").onclick = () => leave(() => go(searchAlso(item.key)));
  part("copy").onclick = (event) => copy(wholePath(item.path), event.currentTarget);
  for (const [name, by] of [
    ["previous", -1],
    ["next", 1],
  ]) {
    const show = step(by);
    part(name).hidden = !show;
    part(name).onclick = show;
  }
  if (!dialog.open) dialog.showModal();
}

part("close").addEventListener("click", () => dialog.close());
dialog.querySelector("a").addEventListener("click", () => leave());
image.addEventListener("error", () => {
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
  shown.closed();
  if (missing.textContent) look();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // a click beside the picture
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) shown.step(by)?.();
});
