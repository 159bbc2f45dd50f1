// What someone wants to see of the duplicates: which image of a group stays, a filter, an order, a folder as reference.

import { el } from "./dom.js";
import { amend, read } from "./state.js";

const RULES = { best: "the best", oldest: "the oldest" };
const SORTS = {
  similarity: "the most similar first",
  unlike: "the least similar first",
  date: "the newest first",
  size: "the largest saving first",
  name: "by name",
};

/** The rule by which an image of each group stays. */
export const keep = (query) => (RULES[query.get("keep")] ? query.get("keep") : "best");

/** The wishes of an address, as the server takes them. */
export const wishes = (query) => ({
  keep: keep(query),
  sort: SORTS[query.get("sort")] ? query.get("sort") : "similarity",
  find: query.get("find") ?? "",
  reference: query.get("reference") ?? "",
  across: query.get("across") === "1" ? 1 : 0,
});

/** Whether groups may be hidden. */
export const isFiltered = (query) => ["find", "reference", "across"].some((name) => query.get(name));

/** A choice among {value: label} that goes to the address. The first one is the default. */
function choice(query, name, label, options, changed) {
  const [standard] = Object.keys(options);
  const box = el(
    "select",
    { id: name, onchange: () => (amend(name, box.value === standard ? null : box.value), changed()) },
    Object.entries(options).map(([value, text]) => el("option", { value, selected: value === query.get(name) }, text)),
  );
  return { box, node: el("span", { class: "option" }, el("label", { for: name }, label), box) };
}

/** A choice of the image that stays. */
export const rules = (query, changed) => choice(query, "keep", "Keep of each group", RULES, changed).node;

let order = null; // the one chosen last, for links to this view that name none

/** Puts the order that was chosen last into an address that names none. */
export function keepOrder() {
  const sort = read().query.get("sort");
  if (sort) order = sort;
  else if (order) amend("sort", order);
}

let opened = false; // the box, which stays so in the other classes

/** A box with the filter, the order and the reference. offer(folders): fills the choice of a reference. */
export function filterBox(query, changed) {
  const find = el("input", {
    id: "find",
    type: "search",
    value: query.get("find") ?? "",
    maxlength: 500,
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => (amend("find", find.value || null), changed()),
  });
  const across = el("input", {
    type: "checkbox",
    checked: query.get("across") === "1",
    onchange: () => (amend("across", across.checked ? 1 : null), changed()),
  });
  const reference = choice(query, "reference", "Only what is already in", { "": "any folder" }, () => (hint(), changed()));
  const stays = el("p", { class: "note" }, "Images in that folder always stay: they are never selected with the others.");
  const hint = () => (stays.hidden = !read().query.get("reference"));
  hint();
  const sorted = () => ((order = read().query.get("sort")), changed());
  const node = el(
    "details",
    { class: "filter", open: opened || isFiltered(query) || query.has("sort"), ontoggle: () => (opened = node.open) },
    el("summary", {}, "Filter, sort, compare with a folder"),
    el(
      "div",
      { class: "tools" },
      el("span", { class: "option" }, el("label", { for: "find" }, "Folder or name"), find),
      choice(query, "sort", "Order", SORTS, sorted).node,
      el("label", { class: "option" }, across, "Only across folders"),
      reference.node,
    ),
    stays,
  );
  const offer = (folders) => {
    const chosen = read().query.get("reference") ?? ""; // `query` is the address that the view was opened with
    const all = folders.includes(chosen) || !chosen ? folders : [chosen, ...folders];
    const option = (value) => el("option", { value, selected: value === chosen }, value);
    reference.box.replaceChildren(el("option", { value: "" }, "any folder"), ...all.map(option));
  };
  return { node, offer };
}
