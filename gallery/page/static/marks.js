// Groups that someone marked, as "not duplicates" or to keep all of them: the list, and how a mark is taken back.

import { get, unmark } from "./api.js";
import { announce, count, el, empty, heading } from "./dom.js";
import { grid, pager, settle, tile, waiting } from "./grid.js";
import { gallery, link } from "./state.js";

const PAGE = 20;

/** Puts a sentence in the place of a group, with buttons, and moves the focus there. */
export function dismissed(node, sentence, ...buttons) {
  const line = el("p", { class: "line", tabindex: "-1" }, sentence);
  node.replaceChildren(el("div", { class: "head" }, line, ...buttons));
  node.classList.add("dismissed");
  line.focus();
}

/** A button that takes a mark back, then calls done(). */
export function undo(g, mark, done, failed) {
  const button = el("button", { class: "small button", type: "button", onclick: take }, "Undo");
  async function take() {
    button.disabled = true;
    try {
      await unmark(g, mark);
      done();
    } catch (error) {
      button.disabled = false;
      failed(error);
    }
  }
  return button;
}

/** A mark as a row. takenBack(): called when it is taken back. */
function row(g, { mark, items, size, same, twice }, takenBack, failed) {
  const what = same ? ", the same file: all kept" : twice ? ", all kept" : " that are not duplicates";
  const list = grid(`${count(items.length, "image")}${what}`);
  list.append(...items.map((item) => tile(item, { path: true })));
  settle(list);
  const done = () => {
    dismissed(node, "Taken back: these can be shown as duplicates again.");
    takenBack();
  };
  const head = el("div", { class: "head" }, el("h2", {}, `${count(size, "image")}${what}`), undo(g, mark, done, failed));
  const node = el("li", { class: "group" }, head, list);
  return node;
}

/** The view of all marks, the newest first. */
export async function marks(section, view) {
  const g = gallery();
  const wait = waiting();
  section.append(
    el("a", { class: "quiet", href: link("duplicates") }, "All duplicates"),
    heading("Groups you took off the list"),
    wait.node,
  );
  const list = el("ul", { class: "groups" });
  const here = () => list.querySelectorAll(":scope > li:not(.dismissed)").length;
  const summary = () => {
    const order = total > 1 ? ", the newest first" : "";
    return total ? `${count(total, "group")} not shown as duplicates${order}` : "No group was taken off the list.";
  };
  const takenBack = () => {
    total -= 1;
    line.textContent = summary();
  };
  const load = async () => {
    const answer = await get(`${g}/marks`, { start: here(), count: PAGE }, { signal: view.signal });
    ({ total } = answer);
    list.append(...answer.marks.map((mark) => row(g, mark, takenBack, view.failed)));
    return answer.marks.length ? total - here() : 0;
  };
  const more = pager(load, view.failed);
  let total = 0;
  const left = await load();
  const line = el("p", { class: "line" }, summary());
  wait.node.replaceWith(total ? line : empty(summary()), list, more.button);
  more.update(left);
  announce(summary());
}
