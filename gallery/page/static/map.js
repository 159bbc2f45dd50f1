// The map: look-alikes lie close together, groups have colours, and a region can be selected.

import { get, itemsOf } from "./api.js";
import { Atlas } from "./atlas.js";
import { announce, count, el, heading, round } from "./dom.js";
import { remember, waiting } from "./grid.js";
import { Hand } from "./hand.js";
import { legend } from "./legend.js";
import { chosen, selectors } from "./region.js";
import { gallery, link } from "./state.js";

export async function map(section, view) {
  const g = gallery();
  const title = heading("Map");
  const line = el("p", { class: "line" }, "Look-alikes lie close together");
  const wait = waiting();
  section.append(el("div", { class: "head" }, title, line), wait.node);
  const answer = await get(`${g}/map`, {}, { signal: view.signal, working: wait.say });
  const { groups, shown, total } = answer;
  const whole = `${shown < total ? `${count(shown)} of ` : ""}${count(total, "image")}, look-alikes close together`;

  const named = async (keys) => (await itemsOf(g, keys, view.signal)).items.forEach(remember);
  const atlas = new Atlas(g, answer, named);
  const hand = new Hand(atlas);
  const colours = legend(groups, (group) => {
    atlas.choose(group?.id ?? null);
    if (!group) return line.replaceChildren(whole);
    const open = el("a", { class: "quiet", href: link("group", { id: group.id }) }, "Open this group");
    const clear = () => (colours.clear(), title.focus({ preventScroll: true }));
    const none = el("button", { class: "quiet", type: "button", onclick: clear }, "Show all");
    line.replaceChildren(`${group.name}: ${count(group.size, "image")}. `, open, " ", none);
  });
  const zoom = el(
    "div",
    { class: "zoom", role: "group", "aria-label": "Zoom" },
    round("plus", "Zoom in", { onclick: () => atlas.step(1.5) }),
    round("minus", "Zoom out", { onclick: () => atlas.step(1 / 1.5) }),
    round("whole", "Show the whole map", { onclick: () => atlas.step(0) }),
  );
  const picked = chosen(g, view, atlas);
  const tools = el("div", { class: "tools" }, selectors(g, view, atlas, hand));
  wait.node.replaceWith(colours.node, tools, picked.tools, el("div", { class: "map" }, atlas.frame, zoom), picked.node);
  picked.show();
  line.textContent = whole;
  announce(`Map of ${whole}`);
}
