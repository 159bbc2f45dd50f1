// The images that are selected, by tick boxes and keys. The selection lasts as long as the tab, in all its views.

import { itemsOf, present } from "./api.js";
import { el } from "./dom.js";
import { choose, itemOf } from "./grid.js";
import { put as keep, take } from "./kept.js";
import { isOther, isReplaced } from "./note.js";
import { galleries } from "./state.js";

const LOOKS = 150; // that come soon after a note was closed, or after the last change since: five minutes

/**
 * The selection of each gallery. items: key -> item. awaited: keys of images that were selected before a reload, until the
 * server describes them. out: keys of images that were taken out by hand, until "Clear". stamp: of the gallery in which they were selected.
 * turned: whether copies may be turned. saved: the scripts that were saved last, until their note is closed. It has the keys
 * of their images, and in `alone` the keys of images without a copy that stays. older: the same of scripts that were saved
 * earlier, or whose note is `closed`. step: what the last step of many images added and took out, as long as it can be undone.
 */
const selections = galleries.map((_, g) => {
  const { keys, out, stamp = "", turned = false, saved = null, older = [] } = take(g) ?? {};
  return { items: new Map(), awaited: new Set(keys), out: new Set(out), stamp, turned, saved, older, step: null };
});
export const selection = (g) => selections[g];
export const isSelected = (g, key) => selections[g].items.has(key);

/** Shows the selection in all tick boxes and bars of the view. */
export function changed() {
  const alone = selections.map(({ items, saved }) => new Set(saved && !isOther(saved, items) ? saved.alone : []));
  for (const box of document.querySelectorAll("input[data-key]")) show(box, alone[box.dataset.gallery]);
  for (const group of document.querySelectorAll(".group")) showWhole(group);
  for (const part of document.querySelectorAll(".selection, .scripts")) part.dispatchEvent(new Event("selected"));
}

/** Shows the selection in a tick box and its tile. alone: keys of images without a copy that stays. */
function show(box, alone) {
  box.checked = isSelected(box.dataset.gallery, box.dataset.key);
  const { classList } = box.closest(".tile");
  classList.toggle("selected", box.checked);
  classList.toggle("alone", alone.has(box.dataset.key));
}

/** Warns in a group of which nothing would stay. */
function showWhole(group) {
  const boxes = [...group.querySelectorAll("input[data-key]")];
  group.classList.toggle("whole", boxes.length > 0 && boxes.every((box) => box.checked));
}

/** Selects items, or takes them out of the selection. stamp: of the gallery; turned: whether its copies may be turned. */
export function select(g, items, on, { stamp, turned } = {}) {
  const { items: chosen, awaited } = selections[g];
  if (stamp && !chosen.size && !awaited.size) Object.assign(selections[g], { stamp, turned: false });
  selections[g].turned ||= Boolean(turned);
  for (const item of items) {
    if (on) chosen.set(item.key, item);
    else [chosen, awaited].forEach((keys) => keys.delete(item.key));
  }
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

/** Does a step that selects many images, or takes many out. It can be undone until the next one, or a change by hand. */
export function inOneStep(g, act) {
  const { items, out, turned } = selections[g];
  const before = { items: new Map(items), out: new Set(out) };
  act();
  const added = [...items.keys()].filter((key) => !before.items.has(key));
  const taken = [...before.items.values()].filter(({ key }) => !items.has(key));
  if (added.length || taken.length) selections[g].step = { added, taken, out: before.out, turned };
  changed();
}

/** Undoes the last step of many images. */
export function undoStep(g) {
  const { added, taken, out, turned } = selections[g].step;
  selections[g].step = null;
  const back = added.map((key) => ({ key }));
  select(g, back, false);
  select(g, taken, true, { turned });
  for (const key of out) if (!isSelected(g, key)) selections[g].out.add(key);
  return refresh(); // what came back may be gone by now
}

/** A tick box for a tile. stays: whether the image is the one of its group that stays. */
export function tick(g, item, stays = false) {
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
    "data-stays": stays,
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
    selection(g).step = null; // "Undo" would take back more than this
    for (const { dataset } of picked.map(box)) {
      if (on) out.delete(dataset.key);
      else if (!("stays" in dataset)) out.add(dataset.key); // the one that stays is in no way "left out"
    }
    select(g, picked.map(itemOf), on, how());
  }

  list.addEventListener("click", (event) => {
    const node = event.target.closest(".tile");
    if (!node || event.target !== box(node)) return;
    put(node, event.target.checked, event.shiftKey);
    if (event.detail) choose(node, true, { preventScroll: true }); // by mouse: the keys go on from here
  });
  list.addEventListener(
    "keydown",
    (event) => {
      const node = event.target.closest(".tile");
      if (!node || !event.target.matches("a") || event.ctrlKey || event.metaKey || event.altKey) return;
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
  for (const [g, { items, awaited, stamp, step }] of selections.entries()) {
    const selected = new Set([...items.keys(), ...awaited]); // also what is gone since
    if (awaited.size) await takeUp(g);
    const scripts = scriptsOf(selections[g]);
    const taken = (step?.taken ?? []).map(({ key }) => key);
    if (!items.size && !scripts.length && !taken.length) continue;
    const ofScripts = scripts.flatMap(({ keys }) => keys);
    const asked = new Set([...items.keys(), ...ofScripts, ...taken]); // not what is selected before the answer
    const there = await present(g, [...asked], stamp).catch(() => null);
    if (!there) continue;
    const keys = new Set(there.keys);
    selections[g].stamp = there.stamp;
    for (const script of scripts) tally(script, { keys, lost: new Set(there.lost), selected }, items);
    for (const key of asked) if (!keys.has(key)) items.delete(key);
    if (step) step.taken = step.taken.filter(({ key }) => keys.has(key)); // what is gone cannot come back
  }
  changed();
}

const scriptsOf = ({ saved, older }) => (saved ? [saved, ...older] : older);

/**
 * Counts which files of a script are gone by now. keys: of images that are there; lost: of images that are neither there nor
 * where the script puts them; selected: of images that were selected. A script in whose place there is a newer one has run
 * only if one of its `own` files is gone. late: files that were not selected any more when it began.
 */
function tally(script, { keys, lost, selected }, items) {
  const isGone = (key) => !keys.has(key);
  const away = (script.own ?? script.keys).some(isGone) ? script.keys.filter(isGone) : [];
  if (!script.gone && away.length) {
    script.closed = false; // whoever is below the list of scripts sees it, too
    script.late = isOther(script, items) ? script.keys.filter((key) => !selected.has(key)) : [];
  }
  if (away.length !== script.gone) script.calm = 0;
  if (away.length > script.gone) script.most = away.length;
  const before = new Set(script.missing); // a gallery that was embedded again no longer knows them
  script.missing = away.filter((key) => lost.has(key) || before.has(key));
  const missing = new Set(script.missing);
  const moved = new Set(away.filter((key) => !missing.has(key)));
  const strays = script.late?.filter((key) => moved.has(key)).length;
  Object.assign(script, { gone: away.length, lost: missing.size, strays });
}

/** Keeps the facts of a saved script. An earlier one stays, unless it was undone and the new one has all its files. */
export function putSaved(g, saved) {
  const keys = new Set(saved.keys);
  const older = scriptsOf(selections[g]);
  for (const script of older) if (!script.gone) script.own = (script.own ?? script.keys).filter((key) => !keys.has(key));
  for (const script of older) if (isReplaced(script)) script.closed = true;
  Object.assign(selections[g], { saved, older: older.filter((script) => !isReplaced(script) || !script.most) });
  changed();
}

/** Forgets an earlier script. */
export function forget(g, script) {
  selections[g].older = selections[g].older.filter((other) => other !== script);
  changed();
}

/** Closes the note on an earlier script, or all notes. The scripts stay in their list. */
export function close(g, script = null) {
  for (const each of script ? [script] : scriptsOf(selections[g])) Object.assign(each, { closed: true, calm: 0 });
  if (!script) Object.assign(selections[g], { saved: null, older: scriptsOf(selections[g]), step: null });
  changed();
}

/** Whether the page should look soon: files of saved scripts may move, or a selection is not back after a reload. */
export const awaits = () =>
  selections.some((each) => scriptsOf(each).some(({ closed, calm = 0 }) => !closed || calm < LOOKS) || each.awaited.size);

/** Keeps the selections for a reload. Returns whether all of them are kept. */
function keepAll() {
  const kept = selections.map(({ items, awaited, out, stamp, turned, saved, older }, g) => {
    const keys = [...items.keys(), ...awaited];
    return keep(g, keys.length || out.size || saved || older.length ? { keys, out: [...out], stamp, turned, saved, older } : null);
  });
  return kept.every(Boolean);
}

/** Asks for the images that were selected before a reload. If the server does not answer, the next look asks again. */
async function takeUp(g) {
  const { items, awaited } = selections[g];
  const there = await itemsOf(g, [...awaited]).catch(() => null);
  if (!there) return;
  for (const item of there.items) if (awaited.has(item.key)) items.set(item.key, item); // unless taken out meanwhile
  awaited.clear();
  selections[g].stamp = there.stamp;
}

document.addEventListener("shown", changed);
document.addEventListener("renewed", refresh);
document.addEventListener("looked", () => {
  if (selections.some(({ awaited }) => awaited.size)) refresh();
  const scripts = selections.flatMap(scriptsOf);
  for (const script of scripts) script.calm = (script.calm ?? 0) + 1;
  if (scripts.length) changed();
});
addEventListener("beforeunload", (event) => keepAll() || event.preventDefault()); // the browser asks if something gets lost
addEventListener("pagehide", keepAll);
refresh();
