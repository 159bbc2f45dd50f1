// A group of duplicates as a row: its images with what people compare them by, and what can be done with the group.

import { notDuplicates } from "./api.js";
import { copy, count, el } from "./dom.js";
import { grid, settle, tile } from "./grid.js";
import { dismissed, undo } from "./marks.js";
import { inOneStep, isSelected, select, selectMany, tick } from "./select.js";
import { wholePath } from "./state.js";
import { BADGES, facts, traits } from "./traits.js";

const BESIDE = 3; // images of a group that may stand beside another one
const WHOLE = "All are selected: none would stay.";

const NOT = "These are not duplicates"; // untrue of a group in which a file is there twice: those are kept instead
const UNLIKE = { burst: "These do not belong together", alike: "These do not look alike" }; // nobody called them duplicates
const APART = "Remembered: these are not shown as duplicates of each other again.";
const KEPT = "Remembered: all of these stay, and are not shown as duplicates of each other again.";

/** Says how alike the images of a group are. Near copies get a third digit: they would all have 1.00. */
function likeness(kind, { same, similarity }) {
  if (kind === "burst") return []; // some are found by their time, others by what differs: two scales
  if (kind === "alike") return [`, similarity ${similarity.toFixed(2)} of 1`];
  if (same) return [": the same file, byte for byte"];
  return [": nearly the same picture ", el("small", { class: "size" }, `similarity ${similarity.toFixed(3)} of 1`)];
}

/** Tells whether an item of a group stays: the first one, which is the best, and images of the reference folder. */
const stays = (item, place) => place === 0 || item.stays;

/** Selects the items of a group that do not stay. about: see `select`. */
export function allButFirst(g, items, about) {
  const spare = items.filter((item, place) => !stays(item, place));
  selectMany(g, spare, about);
  select(g, items.filter(stays), false);
}

/**
 * Makes the row. kind: the class of duplicates. keep: the rule by which the first image stays. about, failed: see `select`
 * and page.js. place: says which group of how many this is.
 */
export function row(g, group, { kind, keep, about, failed, place: groupPlace }) {
  const { items, size, twice } = group;
  const list = grid(`${count(items.length, "image")}, duplicates of each other`, "tiles", "keys-select");
  const word = (item, place) => (place ? item.stays && "Stays" : BADGES[keep]) || "";
  list.append(
    ...items.map((item, place) => {
      const [badge, box] = [word(item, place), tick(g, item, stays(item, place))];
      const more = [box, badge && el("span", { class: "badge" }, badge), traits(item)].filter(Boolean);
      const about = [...facts(item), `${count(place + 1)} of ${count(size)} in this group`, groupPlace].join(" · ");
      return tile(item, { path: true, enlarges: { badge, facts: about, box }, more });
    }),
  );
  settle(list);
  const button = (label, onclick, look = "") =>
    el("button", { class: `small button ${look}`, type: "button", onclick }, label);

  const dismiss = async ({ currentTarget: button }) => {
    button.disabled = true;
    try {
      const keys = items.map(({ key }) => key);
      const mark = await notDuplicates(g, keys);
      const chosen = items.filter(({ key }) => isSelected(g, key));
      select(g, chosen, false);
      dismissed(node, twice ? KEPT : APART, undo(g, mark, () => restore(chosen), failed));
    } catch (error) {
      failed(error);
    }
    button.disabled = false;
  };
  const restore = (chosen) => {
    node.classList.remove("dismissed");
    node.replaceChildren(...content);
    select(g, chosen, true, about()); // and shows what is selected
    node.querySelector(".dismiss").focus();
  };
  const paths = items.map(({ path }) => wholePath(path)).join("\n");
  const part = size > items.length ? `, the first ${count(items.length)} shown` : "";
  const content = [
    el(
      "div",
      { class: "head" },
      el("h2", {}, el("span", {}, count(size, "image"), likeness(kind, group), part), el("span", { class: "warning" }, WHOLE)),
      button(`Select all but the ${keep}`, () => inOneStep(g, () => allButFirst(g, items, about()))),
      button("Copy paths", (event) => copy(paths, event.currentTarget)),
      button(twice ? "Keep all of these" : (UNLIKE[kind] ?? NOT), dismiss, "dismiss"),
    ),
    list,
  ];
  const node = el("li", { class: items.length > BESIDE ? "group" : "group small" }, content);
  return node;
}
