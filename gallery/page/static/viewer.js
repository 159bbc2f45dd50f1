// The large view of an image: a dialog with its path, steps to the images before and after it, and of duplicates more.

import { itemsOf } from "./api.js";
import { copy, el } from "./dom.js";
import { look } from "./fresh.js";
import { afterStep, gallery, go, read, searchAlso, searchFor, stepBack, wholePath } from "./state.js";
import { facts as factsOf, unbroken } from "./traits.js";

const dialog = document.getElementById("large");
const image = dialog.querySelector("img");
const missing = dialog.querySelector(".stage p");
const part = (name) => dialog.querySelector(`[data-do="${name}"]`);
const find = dialog.querySelector("a");
const pick = dialog.querySelector("input");
const traitsLine = dialog.querySelector(".facts");
const TIMES = 2; // a small picture is not blown up further, lest it look worse than it is

let shown = { step: () => null, closed: () => {} };

/** Closes the view for a search: the focus goes to the results, not back to the image. */
function leave(hash) {
  shown.closed = () => {};
  go(hash);
  dialog.close();
}

/** Says what is known of an image whose tile does not say it: its size and date. They are asked for once. */
async function describe(item) {
  if (!item.date) Object.assign(item, (await itemsOf(gallery(), [item.key])).items[0]);
  if (item.date && shown.item === item) traitsLine.replaceChildren(...unbroken(factsOf(item).join(" · ")));
}

/**
 * Shows an item, or an upload: {name, source, small}. step(-1 or 1): a function that shows the previous or next image, or
 * null. closed(): runs at the end. badge, facts: texts of a duplicate. box: its tick box in the grid, which is ticked here,
 * too. The view is a step in the history, so that Back closes it.
 */
export function showLarge(item, { step = () => null, closed = () => {}, badge = "", facts = "", box = null } = {}) {
  shown = { item, step, closed, box };
  missing.textContent = "";
  image.hidden = false;
  image.src = item.source ?? `/image/${item.key}?size=large`; // the previous image stays until this one is loaded
  image.alt = item.name;
  dialog.querySelector("h2").textContent = item.name;
  dialog.querySelector(".path").textContent = item.path;
  traitsLine.replaceChildren(badge && el("strong", {}, badge), ...unbroken(facts || "\u00a0")); // a line, so that nothing moves later
  if (!facts && item.key) describe(item).catch(() => {}); // the picture itself says what is wrong
  showPick();
  dialog.querySelector(".actions").hidden = !item.key;
  find.href = item.key ? searchFor(item.key) : "#";
  part("add").hidden = read().view !== "search"; // else there is no query
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
  if (dialog.open) return; // else the first control takes the focus: the tick box, where there is one
  afterStep(() => {
    if (!history.state?.large) history.pushState({ ...history.state, large: true }, "");
    dialog.showModal();
  });
}

/** Shows whether the image is selected, and warns where nothing of its group would stay. */
function showPick() {
  const { box } = shown;
  pick.parentElement.hidden = !box;
  find.classList.toggle("primary", !box);
  pick.checked = Boolean(box?.checked);
  dialog.querySelector(".warning").textContent = box?.closest(".group.whole")?.querySelector(".warning").textContent ?? "";
}

function turn() {
  shown.box.click();
  showPick();
}

pick.addEventListener("change", turn);
part("close").addEventListener("click", () => dialog.close());
find.addEventListener("click", (event) => {
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
  image.style.maxWidth = `${TIMES * image.naturalWidth}px`;
  image.style.maxHeight = `${TIMES * image.naturalHeight}px`;
});
dialog.addEventListener("close", () => {
  if (dialog.open) return; // another image was opened meanwhile
  document.body.append(document.getElementById("notice")); // a message outlives the view
  image.removeAttribute("src");
  if (history.state?.large) stepBack();
  shown.closed();
  if (missing.textContent) look();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // a click beside the picture
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) shown.step(by)?.();
  if (event.key !== " " || !shown.box || event.target.closest("button, input")) return; // those do their own
  event.preventDefault();
  turn();
});
