// The images that are selected, by tick boxes and keys. The selection lasts as long as the tab, in all its views.

import { itemsOf, present } from "./api.js";
import { el } from "./dom.js";
import { look } from "./fresh.js";
import { choose, itemOf } from "./grid.js";
import { put as keep, take } from "./kept.js";
import { galleries } from "./state.js";

/**
 * Of each gallery: key -> item, the keys of those that were taken out by hand, the stamp of the gallery in which they were
 * selected, whether copies may be turned, and the scripts that were saved last, until their note is closed. alone: the keys
 * of selected images without a copy that stays, as the server found when it made the script; empty after a change.
 */
const selections = galleries.map(() => ({
  items: new Map(),
  out: new Set(),
  stamp: "",
  turned: false,
  saved: null,
  alone: new Set(),
}));
const unread = new Set(galleries.keys()); // those whose kept selection is not back yet
export const selection = (g) => selections[g];
export const isSelected = (g, key) => selections[g].items.has(key);

/** Shows the selection in all tick boxes and bars of the view. */
export function changed() {
  for (const box of document.querySelectorAll("input[data-key]")) show(box);
  for (const group of document.querySelectorAll(".group")) showWhole(group);
  for (const bar of document.querySelectorAll(".selection")) bar.dispatchEvent(new Event("selected"));
}

function show(box) {
  box.checked = isSelected(box.dataset.gallery, box.dataset.key);
  const { classList } = box.closest(".tile");
  classList.toggle("selected", box.checked);
  classList.toggle("alone", selections[box.dataset.gallery].alone.has(box.dataset.key));
}

/** Warns in a group of which nothing would stay. */
function showWhole(group) {
  const boxes = [...group.querySelectorAll("input[data-key]")];
  group.classList.toggle("whole", boxes.length > 0 && boxes.every((box) => box.checked));
}

/** Selects items, or takes them out of the selection. stamp: of the gallery; turned: whether its copies may be turned. */
export function select(g, items, on, { stamp, turned } = {}) {
  const { items: chosen, out, alone } = selections[g];
  if (items.length) alone.clear();
  if (stamp && !chosen.size) Object.assign(selections[g], { stamp, turned: false });
  selections[g].turned ||= Boolean(turned);
  for (const item of items) {
    if (on) chosen.set(item.key, item);
    else chosen.delete(item.key);
  }
  if (!chosen.size) out.clear();
  changed();
}

/** Selects many items at once, but none that was taken out by hand. about: see `select`. */
export function selectMany(g, items, about) {
  const { out } = selections[g];
  select(
    g,
    items.filter(({ key }) => !out.has(key)),
    true,
    about,
  );
}

/** A tick box for a tile. */
export function tick(g, item) {
  const label = `Select ${item.path}`;
  return el("input", {
    type: "checkbox",
    class: "tick",
    tabindex: "-1",
    checked: isSelected(g, item.key),
    "aria-label": label,
    title: "Select",
    "data-key": item.key,
    "data-gallery": g,
  });
}

/** Lets a list of groups be selected from: by click or Space, and with Shift up to the image that was chosen before. */
export function selectable(list, g, how) {
  let anchor = null;
  const box = (node) => node.querySelector("input[data-key]");

  function put(node, on, range) {
    const nodes = [...list.querySelectorAll(".tile")].filter(box);
    const [from, to] = [nodes.indexOf(anchor), nodes.indexOf(node)].sort((a, b) => a - b);
    const picked = range && from >= 0 ? nodes.slice(from, to + 1) : [node];
    anchor = node;
    const { out } = selection(g);
    for (const { key, spare } of picked.map(itemOf)) {
      if (on) out.delete(key);
      else if (spare) out.add(key); // the one that stays is in no way "left out"
    }
    select(g, picked.map(itemOf), on, how());
  }

  list.addEventListener("click", (event) => {
    const node = event.target.closest(".tile");
    if (!node || event.target !== box(node)) return;
    put(node, event.target.checked, event.shiftKey);
    if (event.detail) choose(node, true); // by mouse: the keys go on from here
  });
  list.addEventListener(
    "keydown",
    (event) => {
      const node = event.target.closest(".tile");
      if (!node || !event.target.matches("a") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "b") return document.querySelector(".selection:not([hidden]) button")?.focus();
      if (event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation(); // elsewhere Space shows the image large
      put(node, !box(node).checked, event.shiftKey);
    },
    { capture: true },
  );
  list.addEventListener("keydown", (event) => {
    const before = event.target.closest(".tile");
    const node = document.activeElement.closest(".tile");
    if (!event.shiftKey || !event.key.startsWith("Arrow") || !before || node === before) return;
    anchor ??= before;
    put(node, true, true);
  });
}

/** Drops what is gone from the selections, and takes them over into galleries that were embedded again. */
export async function refresh() {
  for (const [g, { items, stamp, saved }] of selections.entries()) {
    if (!items.size && !saved) continue;
    const there = await present(g, [...new Set([...items.keys(), ...(saved?.keys ?? [])])], stamp).catch(() => null);
    if (!there) continue;
    const keys = new Set(there.keys);
    selections[g].stamp = there.stamp;
    for (const key of [...items.keys()]) if (!keys.has(key)) items.delete(key);
    if (saved) tally(saved, keys);
  }
  changed();
}

/** Counts which files of a script are gone by now, and which are back. */
function tally(saved, keys) {
  saved.gone = saved.keys.filter((key) => !keys.has(key)).length;
  saved.most = Math.max(saved.most, saved.gone);
}

/** Whether scripts are saved whose files may move at any moment. */
export const awaits = () => selections.some(({ saved }) => saved);

/** Keeps the selections for a reload. Returns whether all of them are kept. */
function keepAll() {
  return selections.every(({ items, out, stamp, turned, saved }, g) => {
    if (unread.has(g)) return !items.size;
    return keep(g, items.size || saved ? { keys: [...items.keys()], out: [...out], stamp, turned, saved } : null);
  });
}

/** Takes up what was kept before a reload. The server tells what is there by now. */
async function takeUp(g) {
  const { keys = [], out, stamp, turned, saved } = take(g) ?? {};
  const asked = [...new Set([...keys, ...(saved?.keys ?? [])])];
  if (!asked.length) return unread.delete(g);
  const there = await itemsOf(g, asked); // if it does not answer, all stays kept
  const items = new Map(there.items.map((item) => [item.key, item]));
  for (const key of keys) if (items.has(key)) selections[g].items.set(key, items.get(key));
  if (saved) tally(saved, items);
  Object.assign(selections[g], { out: new Set(out), stamp: there.stamp, turned, saved });
  unread.delete(g);
  changed();
  if (saved) look();
}

document.addEventListener("shown", changed);
document.addEventListener("renewed", refresh);
addEventListener("beforeunload", (event) => keepAll() || event.preventDefault()); // the browser asks if something gets lost
addEventListener("pagehide", keepAll);
for (const g of galleries.keys()) takeUp(g).catch(() => {});
