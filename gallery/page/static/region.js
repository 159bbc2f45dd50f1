// Selecting on the map: what a rectangle holds, or all that is in view. Below the map the selected images are shown.

import { itemsOf, MOST } from "./api.js";
import { bar } from "./bar.js";
import { announce, count, el, meanwhile } from "./dom.js";
import { grid, pager, settle, tile } from "./grid.js";
import { inOneStep, isSelected, select, selectable, selection, selectMany, tick } from "./select.js";
import { link } from "./state.js";

const PAGE = 60;

/** Selects images by their keys, which are all the map knows of most of them. */
async function selectKeys(g, keys, view) {
  if (!keys.length) return announce("No image is there");
  const { items, stamp } = await itemsOf(g, keys, view.signal);
  inOneStep(g, () => selectMany(g, items, { stamp }));
  const { items: all, step } = selection(g);
  announce(`${count(step?.added.length ?? 0)} added, ${count(all.size, "image")} selected`);
}

/** Buttons that select on the map. What `hand` draws is selected too. */
export function selectors(g, view, atlas, hand) {
  const hint = el("span", { class: "line" });
  const draw = (on) => {
    hand.draw(on);
    toggle.ariaPressed = String(on);
    hint.classList.toggle("mouse", !on); // fingers have no Shift
    hint.textContent = on ? "Now drag over the map" : "or drag with Shift to select";
  };
  const toggle = el(
    "button",
    {
      class: "small button",
      type: "button",
      "aria-pressed": "false",
      onclick: () => draw(!hand.draws),
    },
    "Select a region",
  );
  const inView = el(
    "button",
    {
      class: "small button",
      type: "button",
      onclick: () => meanwhile(inView, () => selectKeys(g, atlas.within(), view).catch(view.failed)),
    },
    "Select what is in view",
  );
  hand.drawn = (box, { shiftKey }) => {
    if (!shiftKey) draw(false); // else the next drag, meant to move the map, would select
    selectKeys(g, atlas.within(box), view).catch(view.failed);
  };
  view.section.addEventListener("escape", () => draw(false));
  draw(false);
  return [toggle, inView, hint];
}

/** The bar of the selection, and the selected images as a grid. Both are hidden while nothing is selected. */
export function chosen(g, view, atlas) {
  let shown = []; // items in the grid and still to come; one that is not selected any more can be ticked again
  const title = el("h2", { tabindex: "-1" }, "Selected images");
  const together = el("a", { class: "quiet" });
  const place = el("div");
  const node = el("section", { class: "picked" }, el("div", { class: "head" }, title, together), place);
  const showThem = el("button", { class: "small button", type: "button" }, "Show them");
  showThem.addEventListener("click", () => (title.focus({ preventScroll: true }), node.scrollIntoView()));
  const tools = bar(g, view, [showThem]);

  const made = (item) => {
    const box = tick(g, item);
    return tile(item, { enlarges: { box }, more: [box] });
  };
  const fill = (items) => {
    shown = items;
    const list = grid("Selected images", "tiles", "keys-select");
    const add = () => {
      const from = list.children.length;
      list.append(...shown.slice(from, from + PAGE).map(made));
      settle(list);
      select(g, [], true); // shows what is selected among the new ones
      return shown.length - list.children.length;
    };
    selectable(list, g, () => ({ stamp: selection(g).stamp }));
    const more = pager(async () => add(), view.failed, list);
    place.replaceChildren(list, more.button);
    more.update(add());
  };
  const show = () => {
    const { items, out } = selection(g);
    const keys = new Set(shown.map(({ key }) => key));
    atlas.keep(items.size > 0); // else the grid would take of its height
    if (!items.size) shown = [];
    else if ([...items.keys()].some((key) => !keys.has(key)))
      fill([...items.values(), ...shown.filter(({ key }) => out.has(key))]);
    node.hidden = !items.size;
    together.hidden = items.size > MOST;
    together.href = together.hidden ? "" : link("search", [...items.keys()].map((key) => ["image", key]));
    together.textContent = items.size > 1 ? `Find images like these ${items.size}` : "Find images like this one";
    atlas.move(0, 0);
  };
  tools.addEventListener("selected", show);
  return { tools, node, show };
}
