// Grids of images: a list whose items hold a link (find similar) and two buttons (add to the query, show it large).

import { count, el, round } from "./dom.js";
import { go, searchAlso, searchFor } from "./state.js";
import { showLarge } from "./viewer.js";

export const thumb = (key) => `/image/${key}?size=thumb`;

const shownItems = new Map(); // key -> item, of all images that were ever shown
const items = new WeakMap(); // <li> -> item
const enlarged = new WeakMap(); // <li> -> what else the large view shows
const pagers = new WeakMap(); // grid -> the pager that loads more of it

/** Returns the item of an image; it has no name if it was not shown yet. */
export const recall = (key) => shownItems.get(key) ?? { key };
/** Returns the item of a tile. */
export const itemOf = (node) => items.get(node);
export const remember = (item) => shownItems.set(item.key, item);

/** A square thumbnail. It takes its place before it is loaded. */
export function picture(source) {
  return el("img", {
    src: source,
    alt: "",
    width: 200,
    height: 200,
    loading: "lazy",
    decoding: "async",
    draggable: "false",
  });
}

/** Says a place on the scale of a gallery. */
export const onScale = (percent) => `more similar than ${percent} % of neighbours here`;
export const NEIGHBOURS = "Neighbours are each picture of this folder and those nearest to it.";
const RAW = "the plain number. Which number is high differs from folder to folder: the per cent tells.";

function meter({ similarity, closer_than: percent }) {
  const fill = el("span");
  fill.style.width = `${percent ?? 100 * Math.max(0, similarity)}%`; // the policy allows this way of setting a style
  const raw = `${similarity.toFixed(2)} of 1`;
  const unseen = (text) => el("span", { class: "unseen" }, text);
  const number =
    percent === null
      ? [unseen("similarity "), raw]
      : [unseen("more similar than "), `${percent} %`, unseen(` of neighbours here, similarity ${raw}`)];
  const about = `${percent} %: ${onScale(percent)}. ${NEIGHBOURS}\nSimilarity ${raw}: ${RAW}`;
  return el(
    "span",
    { class: "meter", title: percent === null ? null : about },
    el("span", { class: "number" }, number),
    el("span", { class: "bar", "aria-hidden": "true" }, fill),
  );
}

/** Lets a path wrap after its slashes, underscores and hyphens first. */
const breakable = (path) => path.split(/(?<=[/_-])/).flatMap((part) => [part, el("wbr")]);

/**
 * An image of a grid. path: shows the whole path, for images with the same name. more: nodes after the link. enlarges: the
 * link shows the image large, with what `showLarge` takes besides: badge, facts, box.
 */
export function tile(item, { path = false, more = [], enlarges = null } = {}) {
  remember(item);
  const add = (event) => (event.preventDefault(), go(searchAlso(item.key)));
  const onclick = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // a new tab
    event.preventDefault();
    large(node);
  };
  const over = el(
    "span",
    { class: "over" },
    round("plus", `Add ${item.name} to the query`, { class: "round add", tabindex: "-1", onclick: add }),
    round("large", `Show ${item.name} large`, { tabindex: "-1", onclick: () => large(node) }),
  );
  const node = el(
    "li",
    { class: enlarges ? "tile enlarges" : "tile" },
    el(
      "a",
      {
        href: searchFor(item.key),
        title: `${item.path}\n${enlarges ? "Show large" : "Find images like this"}`,
        tabindex: "-1",
        draggable: "false",
        onclick: enlarges && onclick,
        "aria-haspopup": enlarges && "dialog",
      },
      picture(thumb(item.key)),
      el("span", { class: path ? "name whole" : "name" }, path ? breakable(item.path) : item.name),
      path || !item.folder ? null : el("span", { class: "where" }, el("span", { class: "unseen" }, " in "), item.folder),
      item.similarity === undefined ? null : meter(item),
    ),
    more,
    enlarges ? null : over, // it would cover the badge
  );
  items.set(node, item);
  enlarged.set(node, enlarges);
  return node;
}

const open = (node) => node.querySelector("a");
const neighbour = (node, step) => {
  do node = step < 0 ? node.previousElementSibling : node.nextElementSibling;
  while (node?.hidden);
  return node;
};

/** Shows an image of a grid large, with steps through the grid, and on through the groups of duplicates. */
function large(node) {
  const next = (by) => neighbour(node, by) ?? beyond(node.parentElement, by);
  showLarge(items.get(node), {
    ...enlarged.get(node),
    step: (by) => {
      if (next(by)) return () => large(next(by));
      const more = by > 0 ? pagers.get(node.closest(".groups") ?? node.parentElement) : null;
      return more?.left() ? () => more.next().then(() => next(by) && large(next(by))) : null;
    },
    closed: () => choose(node, true),
  });
}

/** Puts this item in the order of Tab, alone in its grid. The arrow keys choose it. how: as `focus` of a node takes it. */
export function choose(node, focus = false, how = {}) {
  for (const other of node.parentElement.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
  for (const part of node.querySelectorAll("a, button, input")) part.tabIndex = 0;
  if (focus) open(node).focus(how);
}

/** Keeps an item in the order of Tab. Call it after items of a grid were hidden, shown or added. */
export function settle(list) {
  if (list.querySelector('li:not([hidden]) [tabindex="0"]')) return;
  const first = list.querySelector("li:not([hidden])");
  if (first) choose(first);
}

/** The nearest tile of the list before or after this one, in a view of several lists. */
function beyond(list, step) {
  const lists = [...(list.closest(".groups")?.querySelectorAll("ul.tiles") ?? [])];
  return [...(lists[lists.indexOf(list) + step]?.children ?? [])].at(step < 0 ? -1 : 0);
}

/** The nearest tile above or below this one in another list; groups may stand side by side. */
function across(node, step) {
  const place = (tile) => tile.getBoundingClientRect();
  const { top, bottom, left } = place(node);
  let nearest = [Infinity, null];
  for (const tile of node.closest(".groups")?.querySelectorAll("ul.tiles > li") ?? []) {
    const other = place(tile);
    const far = step < 0 ? top - other.bottom : other.top - bottom;
    const distance = far + Math.abs(other.left - left);
    if (far >= 0 && tile.parentElement !== node.parentElement && distance < nearest[0]) nearest = [distance, tile];
  }
  return nearest[1];
}

function onKey(event) {
  const node = event.target.closest("li");
  if (!node || event.target !== open(node) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " ") large(node);
  else if (event.key === "+" && items.has(node)) go(searchAlso(items.get(node).key));
  else {
    const all = [...node.parentElement.children].filter((other) => !other.hidden);
    const columns = all.filter((other) => other.offsetTop === all[0].offsetTop).length;
    const here = all.indexOf(node);
    const to = {
      ArrowLeft: here - 1,
      ArrowRight: here + 1,
      ArrowUp: here - columns,
      ArrowDown: here + columns,
      Home: 0,
      End: all.length - 1,
    };
    if (!(event.key in to)) return;
    const step = to[event.key] < here ? -1 : 1;
    const isUpright = event.key === "ArrowUp" || event.key === "ArrowDown";
    const next = all[to[event.key]] ?? (isUpright ? across(node, step) : beyond(node.parentElement, step));
    if (next) choose(next, true);
  }
  event.preventDefault();
}

/** Makes an empty grid; append tiles (or other <li> with one link) and call `settle`. */
export function grid(label, look = "tiles", keys = look === "tiles" ? "keys" : null) {
  const list = el("ul", { class: look, "aria-label": label, "aria-describedby": keys });
  list.addEventListener("keydown", onKey);
  list.addEventListener("focusin", (event) => choose(event.target.closest("li")));
  return list;
}

/**
 * A button that loads the next part of a long list, by a click or when it scrolls into view. `load` returns the number
 * of items left. If it fails, the button stays for another try. grid: the list, through which the large view steps.
 */
export function pager(load, failed, grid = {}) {
  let busy = null; // the promise of what is being loaded
  const button = el("button", { class: "button more", type: "button", onclick: next }, "Show more");
  const observer = new IntersectionObserver(([entry]) => entry.isIntersecting && next(), { rootMargin: "600px" });
  function next() {
    if (!button.hidden) busy ??= part().finally(() => (busy = null));
    return busy ?? Promise.resolve();
  }
  async function part() {
    try {
      update(await load());
    } catch (error) {
      observer.disconnect();
      failed(error);
    }
  }
  function update(left) {
    button.hidden = !left;
    button.textContent = `Show more (${count(left)} left)`;
    observer.disconnect();
    if (left) observer.observe(button); // again: a button that stays in view reports this only once
  }
  pagers.set(grid, { next, left: () => !button.hidden });
  return { button, update };
}

/** Blanks that pulse in place of tiles or cards while the server works. A line says what it does, how far it is, for how long. */
export function waiting(look = "tiles") {
  const started = performance.now();
  const [what, time] = [el("span", { role: "status" }), el("span", { "aria-hidden": "true" })];
  const blanks = Array.from({ length: 12 }, () => el("span", { class: "tile blank" }));
  const node = el(
    "div",
    { class: "waiting" },
    el("p", { class: "working" }, what, time),
    el("div", { class: look, "aria-hidden": "true" }, blanks),
  );
  const say = (sentence, done = 0) => {
    const text = `${sentence[0].toUpperCase()}${sentence.slice(1)} … `;
    if (what.textContent !== text) what.textContent = text; // else a screen reader would say it each second
    const seconds = Math.round((performance.now() - started) / 1000);
    time.textContent = [done && `${Math.round(100 * done)} %`, seconds > 2 && `${seconds} s`].filter(Boolean).join(" · ");
  };
  return { node, say };
}
