// The legend of the map: the groups with their colours. A chosen one stands out on the map.

import { colour } from "./atlas.js";
import { announce, count, el } from "./dom.js";

const FEW = 8; // groups that are shown at first, the largest ones
const [HEAD, TAIL] = [7, 12]; // letters that are left of a long name: names of folders often differ at their ends

const short = (name) => (name.length > HEAD + TAIL + 1 ? `${name.slice(0, HEAD)}…${name.slice(-TAIL)}` : name);

function entry({ id, name, size }, choose) {
  const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = colour(id);
  const label = [swatch, el("span", { class: "name" }, short(name)), el("span", { class: "size" }, count(size))];
  const whole = short(name) === name ? null : `${name}, ${count(size)}`;
  const attributes = { class: "small button", type: "button", title: name, "aria-label": whole, "aria-pressed": "false" };
  const button = el("button", { ...attributes, "data-group": id, onclick: () => choose(id) }, label);
  return el("li", {}, button);
}

/**
 * The legend. groups: {id, name, size}, the largest first. chosen(group): called with the group that was chosen, or null
 * when none is any more. Returns the element, and clear(), which chooses none.
 */
export function legend(groups, chosen) {
  let now = null;
  let whole = false;
  const list = el("ul", { "aria-label": "Groups by colour" });
  const more = el("button", { class: "small button", type: "button", hidden: groups.length <= FEW });
  const node = el("div", { class: "legend" }, list, more);
  const show = () => {
    node.classList.toggle("whole", whole);
    for (const [place, entry] of [...list.children].entries()) {
      const pressed = entry.firstChild.dataset.group === String(now?.id);
      entry.firstChild.ariaPressed = String(pressed);
      entry.hidden = !whole && place >= FEW && !pressed;
    }
    more.textContent = whole ? "Fewer groups" : `All ${count(groups.length)} groups …`;
    more.ariaExpanded = String(whole);
  };
  const choose = (id) => {
    now = now?.id === id ? null : groups.find((group) => group.id === id);
    show();
    chosen(now);
    announce(now ? `${now.name} stands out` : "All groups stand out");
  };
  more.addEventListener("click", () => ((whole = !whole), show()));
  list.append(...groups.map((group) => entry(group, choose)));
  show();
  return { node, clear: () => choose(now.id) };
}
