// Groups of duplicates in three classes: same file, copies, look-alikes. The server remembers dismissed groups.

import { get, notDuplicates } from "./api.js";
import { announce, copy, count, el, empty, heading } from "./dom.js";
import { grid, pager, settle, tile, waiting } from "./grid.js";
import { dismissed, undo } from "./marks.js";
import { amend, galleries, gallery, link, read, wholePath } from "./state.js";

const PAGE = 20;
const PAUSE = 300; // milliseconds after the last step of a slider
const KINDS = {
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
  alike: {
    name: "Look-alikes",
    says: "Different pictures that are at least as similar as the slider says.",
    none: "No images are that similar.",
  },
};

function tabs(kind) {
  return el(
    "nav",
    { class: "tabs small", "aria-label": "Kinds of duplicates" },
    Object.entries(KINDS).map(([name, { name: label }]) =>
      el("a", { href: link("duplicates", { kind: name }), "aria-current": name === kind ? "page" : null }, label),
    ),
  );
}

/** The threshold of look-alikes: as the user set it, or the default of the gallery. */
const threshold = (query) => query.get("threshold") ?? galleries[gallery(query)].alike;

/** The settings of a class of duplicates; `changed` is called after each change. */
function settings(kind, query, changed) {
  if (kind === "near") {
    const box = el("input", {
      type: "checkbox",
      checked: query.get("turned") === "1",
      onchange: () => (amend("turned", box.checked ? 1 : null), changed()),
    });
    return el("label", { class: "tools" }, box, "Also mirrored and turned ones");
  }
  if (kind === "alike") {
    const output = el("output", { for: "threshold" });
    const show = () => (output.textContent = Number(slider.value).toFixed(2));
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
    return el("div", { class: "tools" }, el("label", { for: "threshold" }, "At least this similar"), slider, output);
  }
  return null;
}

/** A group as a row. Identical files cannot be dismissed: they are duplicates in any case. */
function row(g, group, kind, failed) {
  const { items, size } = group;
  const list = grid(`${count(items.length, "image")}, duplicates of each other`);
  list.append(...items.map((item) => tile({ ...item, similarity: undefined }, { path: true })));
  settle(list);
  const paths = items.map(({ path }) => wholePath(path)).join("\n");
  const dismiss = async ({ currentTarget: button }) => {
    button.disabled = true;
    try {
      const keys = items.map(({ key }) => key);
      const mark = await notDuplicates(g, keys);
      const back = undo(g, mark, restore, failed);
      dismissed(node, "Remembered: these are not shown as duplicates of each other again.", back);
    } catch (error) {
      failed(error);
    }
    button.disabled = false;
  };
  const restore = () => {
    node.classList.remove("dismissed");
    node.replaceChildren(...content);
    node.querySelector(".dismiss").focus();
  };
  const likeness = kind === "identical" ? "" : `, similarity ${group.similarity.toFixed(2)}`;
  const content = [
    el(
      "div",
      { class: "head" },
      el(
        "h2",
        {},
        `${count(size, "image")}${likeness}${size > items.length ? `, the first ${count(items.length)} shown` : ""}`,
      ),
      el(
        "button",
        { class: "small button", type: "button", onclick: (event) => copy(paths, event.currentTarget) },
        "Copy paths",
      ),
      kind === "identical"
        ? null
        : el("button", { class: "small button dismiss", type: "button", onclick: dismiss }, "These are not duplicates"),
    ),
    list,
  ];
  const node = el("li", { class: "group" }, content);
  return node;
}

/** Asks for the groups with the settings of `query`, and shows them in `place`. */
async function fill(place, kind, view, query, signal) {
  const g = gallery(query);
  const wait = waiting();
  const list = el("ul", { class: "groups" });
  place.replaceChildren(wait.node);
  const ask = (start) =>
    get(
      `${g}/duplicates`,
      { kind, start, count: PAGE, threshold: threshold(query), turned: query.get("turned") ?? 0 },
      { signal, working: wait.say },
    );
  const { total, images, groups } = await ask(0);
  const summary = total ? `${count(images, "image")} in ${count(total, "group")}` : KINDS[kind].none;
  announce(summary);
  if (!total)
    return place.replaceChildren(
      empty(summary, kind === "alike" ? "Move the slider to the left to see more." : "Nothing to tidy up here."),
    );
  let loaded = 0;
  const add = (parts) => {
    loaded += parts.length;
    list.append(...parts.map((group) => row(g, group, kind, view.failed)));
    return parts.length ? total - loaded : 0;
  };
  const more = pager(async () => add((await ask(loaded)).groups), view.failed);
  place.replaceChildren(el("p", { class: "line" }, summary), list, more.button);
  more.update(add(groups));
}

/** Fills the place, again after changes: many steps of a slider make one request, which ends an older one. */
function filler(place, kind, view) {
  let timer;
  let older = new AbortController();
  const start = (query) => {
    older.abort();
    older = new AbortController();
    return fill(place, kind, view, query, AbortSignal.any([view.signal, older.signal]));
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
  const { query } = read();
  const kind = KINDS[query.get("kind")] ? query.get("kind") : "identical";
  const place = el("div");
  const { start, changed } = filler(place, kind, view);
  section.append(
    heading("Duplicates"),
    tabs(kind),
    el("p", {}, KINDS[kind].says, " ", el("a", { class: "quiet", href: link("marks") }, "Marked as not duplicates")),
    settings(kind, query, changed) ?? "",
    place,
  );
  await start(query);
}
