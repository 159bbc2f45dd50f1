// The page: shows the view in the address, keeps earlier views for going back, moves the focus, marks the header.

import { Problem } from "./api.js";
import { announce, el, notice, problem } from "./dom.js";
import { duplicates } from "./duplicates.js";
import { watch } from "./fresh.js";
import { group, groups, unreadable } from "./groups.js";
import { map } from "./map.js";
import { marks } from "./marks.js";
import { search } from "./neighbours.js";
import { listen } from "./pick.js";
import { progress } from "./progress.js";
import { awaits } from "./select.js";
import { folder, gallery, link, read, stepBack } from "./state.js";

const VIEWS = { groups, group, search, duplicates, marks, map, unreadable };
const KEPT = 20; // views that are kept for going back
const main = document.getElementById("main");
const kept = new Map(); // entry of the history -> its view
let current = null; // {section, entry, controller, signal, failed, settled, scroll, focus}

/** Shows a problem in place of the view, with a button to try again; if the view is there already, under the header. */
function fail(view, error) {
  if (error.name === "AbortError") return;
  const sentence = error instanceof Problem ? error.message : `The page met an error: ${error.message}`;
  view.section.querySelector(".waiting")?.remove();
  if (view.settled) return notice(sentence);
  view.section.append(problem(sentence, error.final ? null : () => open(view.entry), link("groups")));
  if (!(error instanceof Problem)) throw error;
}

/** Makes the view in the address and shows it. A view that returns false lacks a part, and is made anew on return. */
async function open(entry, focus = true) {
  const { view: name } = read();
  const view = {
    section: el("section", { class: `view at-${name}` }),
    entry,
    controller: new AbortController(),
    settled: false,
  };
  view.signal = view.controller.signal;
  view.failed = (error) => fail(view, error);
  enter(view);
  scrollTo(0, 0);
  const done = (VIEWS[name] ?? groups)(view.section, view)
    .then((whole) => (view.settled = whole !== false))
    .catch(view.failed);
  title(view);
  if (focus) view.section.querySelector("h1")?.focus({ preventScroll: true });
  await done;
  if (current === view) title(view);
}

function title(view) {
  document.title = `${view.section.querySelector("h1")?.textContent ?? ""} · ${folder}`;
}

function enter(view) {
  leave();
  current = view;
  main.replaceChildren(view.section);
  mark();
  document.dispatchEvent(new Event("shown"));
}

function leave() {
  if (!current) return;
  if (!current.settled) return current.controller.abort(); // an unfinished view is made anew on return
  current.scroll = scrollY;
  current.focus = main.contains(document.activeElement) ? document.activeElement : null;
  kept.delete(current.entry);
  kept.set(current.entry, current);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
}

/** Shows a kept view again, with its scroll position and focus. */
function comeBack(view) {
  enter(view);
  scrollTo(0, view.scroll);
  (view.focus ?? view.section.querySelector("h1")).focus({ preventScroll: true });
  title(view);
  announce(view.section.querySelector("h1").textContent);
}

/** Marks the current view in the header, and keeps the header's links in the current gallery. */
function mark() {
  progress();
  const { view, query } = read();
  const tab = { group: "groups", unreadable: "groups", marks: "duplicates" }[view] ?? view;
  for (const a of document.querySelectorAll(".top .tabs a")) {
    a.href = link(a.dataset.view);
    a.ariaCurrent = a.dataset.view === tab ? "page" : null;
  }
  document.querySelector(".folder").href = link("groups");
  for (const a of document.querySelectorAll(".switch a")) {
    const g = a.dataset.gallery;
    const pairs = [...query].filter(([name]) => name !== "g" && name !== "id");
    a.href = link(view === "group" ? "groups" : view, [...pairs, ["g", g]]);
    a.ariaCurrent = (query.get("g") === "all" ? g === "all" : g === String(gallery(query))) ? "true" : null;
    if (g === "all") a.hidden = view !== "search";
  }
}

/** Names this entry of the history. Returns the name. */
function entry() {
  if (!history.state) history.replaceState({ name: `${performance.timeOrigin} ${performance.now()}` }, "");
  return history.state.name;
}

history.scrollRestoration = "manual";
addEventListener("popstate", () => {
  const name = entry();
  document.getElementById("large").close();
  if (name === current.entry) return; // only the large view was closed
  notice(null);
  if (kept.has(name)) comeBack(kept.get(name));
  else open(name);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  if (!document.getElementById("notice").hidden) notice(null);
  else current.section.dispatchEvent(new Event("escape")); // ends what is going on in the view; nobody leaves it so
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  (main.querySelector("li:not([hidden]) > a[tabindex='0'], .pin") ?? main).focus();
});
document.querySelector("#notice button").addEventListener("click", () => notice(null));
main.addEventListener("error", (event) => event.target.matches("img") && event.target.classList.add("gone"), {
  capture: true,
});

const mayFocus = "a, button, input, select, summary, [tabindex]";
/** Names what may have the focus, to find the same in a view that was made anew. Counts in a label may change. */
function nameOf(node) {
  const image = node.closest("li")?.querySelector("a[href]")?.href; // of its tile, or the first of its group
  const label = node.getAttribute("aria-label") ?? (node.matches("select") ? "" : node.textContent.replace(/[\d,]+/g, ""));
  return [node.tagName, node.id, image, label].join("\n");
}

/** Makes all views anew, after the photos changed. The current one keeps its place, and what had the focus keeps it. */
async function renew() {
  const { scrollY: place } = window;
  const focused = main.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  kept.clear();
  current.settled = false; // so it is not kept
  document.dispatchEvent(new Event("renewed"));
  await open(current.entry, false);
  scrollTo(0, place);
  if (focused !== null && document.activeElement === document.body) {
    const same = [...main.querySelectorAll(mayFocus)].find((node) => nameOf(node) === focused);
    same?.focus({ preventScroll: true });
    if (document.activeElement === document.body) main.querySelector("h1")?.focus({ preventScroll: true });
  }
  announce("The photos have changed.");
}

document.addEventListener("marked", () => {
  for (const [name, view] of kept) if (view.section.matches(".at-duplicates, .at-marks")) kept.delete(name);
});
listen();
watch(renew, awaits);
if (history.state?.large) stepBack(); // the page was reloaded while the large view was open
open(entry(), false);
