// Groups of duplicates in three classes: same file, copies, look-alikes. The server remembers dismissed groups.

import { get } from "./api.js";
import { bar } from "./bar.js";
import { allButFirst, row } from "./copies.js";
import { announce, count, el, empty, heading, meanwhile } from "./dom.js";
import { itemOf, pager, waiting } from "./grid.js";
import { scripts } from "./scripts.js";
import { inOneStep, select, selectable, selectMany } from "./select.js";
import { amend, galleries, gallery, link, read } from "./state.js";
import { BADGES } from "./traits.js";
import { filterBox, isFiltered, keep, keepOrder, rules, wishes } from "./wishes.js";

const PAGE = 20;
const PAUSE = 300; // milliseconds after the last step of a slider
const KINDS = {
  copies: {
    name: "All copies",
    says: "The same file, or the same picture resized, compressed again or slightly cropped.",
    none: "No picture was found twice.",
  },
  identical: {
    name: "Same file",
    says: "Files with the same bytes under several names.",
    none: "No file is there twice.",
  },
  near: {
    name: "Near copies",
    says: "The same picture, resized, compressed again or slightly cropped.",
    none: "No near copies were found.",
  },
  burst: {
    name: "Bursts",
    says: "Shots by one camera within 10 seconds. Also pictures that differ in one place only: something moved, or one has a caption.",
    none: "No bursts were found.",
  },
  alike: {
    name: "Look-alikes",
    says: "Different pictures that are at least as similar as the slider says.",
    none: "No images are that similar.",
  },
};

const SAFE = ["copies", "identical", "near"]; // classes of which all but the best may go

/** Says the keys, to all whose device is likely to have some, and to a screen reader at each group. */
const keysLine = () =>
  el(
    "p",
    { class: "keys", id: "keys-select" },
    "Arrow keys move between images, Space selects one, Shift with Space or an arrow selects several, ",
    "B goes to what can be done with them, Enter shows it large.",
  );

function tabs(kind) {
  return el(
    "nav",
    { class: "tabs small", "aria-label": "Kinds of duplicates" },
    Object.entries(KINDS).map(([name, { name: label }]) =>
      el("a", { href: link("duplicates", { kind: name }), "aria-current": name === kind ? "page" : null }, label),
    ),
  );
}

const classOf = (query) => (KINDS[query.get("kind")] ? query.get("kind") : "copies");

/** The threshold of look-alikes: as the user set it, or the default of the gallery. */
const threshold = (query) => query.get("threshold") ?? galleries[gallery(query)].alike;

/** The settings by which the server lists groups, from an address. */
const listing = (query) => ({
  kind: classOf(query),
  ...wishes(query),
  threshold: threshold(query),
  turned: query.get("turned") ?? 0,
});

/** The settings of a class of duplicates; `changed` is called after each change. */
function settings(kind, query, changed) {
  if (kind === "near" || kind === "copies") {
    const box = el("input", {
      type: "checkbox",
      checked: query.get("turned") === "1",
      onchange: () => (amend("turned", box.checked ? 1 : null), changed()),
    });
    return el("label", { class: "option" }, box, "Also mirrored and turned ones");
  }
  if (kind === "alike") {
    const output = el("output", { for: "threshold" });
    const show = () => (output.textContent = `${Number(slider.value).toFixed(2)} of 1`);
    const slider = el("input", {
      id: "threshold",
      type: "range",
      min: 0.2,
      max: 1,
      step: 0.01,
      value: threshold(query),
      oninput: show,
      onchange: () => (amend("threshold", slider.value), changed()),
    });
    show();
    return el("span", { class: "option" }, el("label", { for: "threshold" }, "At least this similar"), slider, output);
  }
  return null;
}

/** Buttons that select all but the best: of the groups shown, or of all. update(total, here): how many there are now. */
function spares({ g, list, rule, ask, about, failed }) {
  let total = 0;
  const ofShown = () => {
    const groups = [...list.querySelectorAll(".group:not(.dismissed) ul.tiles")];
    inOneStep(g, () => groups.forEach((group) => allButFirst(g, [...group.children].map(itemOf), about())));
    say(groups.length);
  };
  const ofAll = async () => {
    const { items, kept, stamp } = await ask("spares");
    const best = kept.map((key) => ({ key }));
    inOneStep(g, () => {
      selectMany(g, items, { ...about(), stamp });
      select(g, best, false);
    });
    say(total);
  };
  const say = (groups) => announce(`Selected all but one of ${count(groups, "group")}`);
  const shown = el("button", { class: "small button", type: "button", onclick: ofShown });
  const onclick = () => meanwhile(every, () => ofAll().catch(failed));
  const every = el("button", { class: "small button", type: "button", onclick });
  const node = el("div", { class: "tools" }, el("span", {}, `Select all but the ${rule}`), every, shown);
  const update = (number, here) => {
    total = number;
    node.hidden = !total;
    every.textContent = total === 1 ? "of the group" : `of all ${count(total, "group")}`;
    shown.textContent = `of the ${count(here, "group")} shown`;
    shown.hidden = here >= total;
  };
  return { node, update };
}

/** Says how many images and groups there are, and how many copies of a class of which all but the best may go. */
function summary(kind, isPlain, { total, images }) {
  if (!total) return KINDS[kind].none;
  const copies = images - total === 1 ? "copy" : "copies";
  const parts = isPlain ? `: ${count(total)} to keep, ${count(images - total)} ${copies}` : ""; // whatever the user decides
  return `${count(images, "image")} in ${count(total, "group")}${parts}.`;
}

/** Asks for the groups with the settings of `query`, and shows them in `place`. */
async function fill({ head, place, kind, view, filters, off }, query, signal) {
  const g = gallery(query);
  const wait = waiting();
  const list = el("ul", { class: "groups" });
  head.replaceChildren();
  place.replaceChildren(wait.node);
  const ask = (what, part = {}) => get(`${g}/${what}`, { ...listing(query), ...part }, { signal, working: wait.say });
  const first = await ask("duplicates", { start: 0, count: PAGE });
  const { groups, folders, stamp, rule } = first;
  announce(summary(kind, false, first));
  filters.offer(folders);
  off.hidden = !first.marks;
  if (!first.total) {
    const hint = kind === "alike" ? "Move the slider to the left to see more." : "Nothing to tidy up here.";
    const none = isFiltered(query) ? empty("No group is left by the filter.") : empty(summary(kind, false, first), hint);
    place.replaceChildren(none);
    return select(g, [], true); // the bar warns of what is still selected
  }
  const about = () => ({ stamp, turned: query.get("turned") === "1" });
  const isSafe = SAFE.includes(kind);
  const buttons = isSafe ? spares({ g, list, rule: keep(query), ask, about, failed: view.failed }) : null;
  const sum = el("span");
  const here = () => list.querySelectorAll(":scope > li:not(.dismissed)").length;
  let { total } = first;
  const tell = (answer) => {
    ({ total } = answer);
    sum.textContent = summary(kind, isSafe && !query.get("reference"), answer);
    off.hidden = !answer.marks;
    buttons?.update(total, here());
    more.update(Math.max(0, total - here()));
  };
  const add = (parts) => {
    const before = list.children.length;
    const made = (group, i) => {
      const place = `group ${count(before + i + 1)} of ${count(total)}`;
      return row(g, group, { kind, keep: keep(query), about, failed: view.failed, place });
    };
    list.append(...parts.map(made));
    buttons?.update(total, here());
    select(g, [], true); // shows what is selected among the new ones
    return parts.length ? total - here() : 0;
  };
  const more = pager(async () => add((await ask("duplicates", { start: here(), count: PAGE })).groups), view.failed, list);
  let latest = null; // only the answer to the last question counts
  const recount = async () => {
    const question = (latest = ask("duplicates", { start: 0, count: 1 }));
    const answer = await question;
    if (question === latest) tell(answer);
  };
  document.addEventListener("marked", () => recount().catch(view.failed), { signal });
  selectable(list, g, about);
  const turned = new URLSearchParams(query);
  turned.set("sort", "unlike");
  const unlike = el("a", { class: "quiet", href: link("duplicates", turned) }, "Look at the least similar first");
  const isOffered = ["copies", "near"].includes(kind) && total > 1 && wishes(query).sort !== "unlike";
  const what = el("p", { class: "line" }, sum, ` ${BADGES[keep(query)]}: ${rule}. `, isOffered ? unlike : "");
  head.replaceChildren(what, buttons?.node ?? "", keysLine());
  place.replaceChildren(list, more.button);
  add(groups);
  tell(first);
}

/** Fills the place, again after changes: many steps of a slider make one request, which ends an older one. */
function filler(parts) {
  const { view } = parts;
  let timer;
  let older = new AbortController();
  const start = (query) => {
    older.abort();
    older = new AbortController();
    return fill(parts, query, AbortSignal.any([view.signal, older.signal]));
  };
  const again = (query) =>
    start(query)
      .then(() => (view.settled = true))
      .catch(view.failed);
  const changed = () => {
    view.settled = false; // whoever leaves before the answer finds the view made anew
    clearTimeout(timer);
    timer = setTimeout(again, PAUSE, read().query);
  };
  return { start, changed };
}

export async function duplicates(section, view) {
  keepOrder();
  const { query } = read();
  const kind = classOf(query);
  const head = el("div"); // before the bar, which comes before the groups: so it is near by keyboard, too
  const place = el("div");
  const filters = filterBox(query, () => changed());
  const off = el("a", { class: "quiet", href: link("marks"), hidden: true }, "Groups you took off the list");
  const { start, changed } = filler({ head, place, kind, view, filters, off });
  section.append(
    heading("Duplicates"),
    tabs(kind),
    el("p", {}, KINDS[kind].says, " ", off),
    el("div", { class: "tools" }, rules(query, changed), settings(kind, query, changed) ?? ""),
    filters.node,
    scripts(gallery(query)),
    head,
    bar(gallery(query), view, [], () => listing(read().query)),
    place,
  );
  await start(query);
}
