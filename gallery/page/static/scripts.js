// The list of saved scripts whose notes were closed. So their commands are found again, above all the one that undoes.

import { count, el } from "./dom.js";
import { earlier, news } from "./note.js";
import { selection } from "./select.js";

let opened = true; // the list, which stays so when the view is made anew

/** The list, which is hidden while there is nothing in it. */
export function scripts(g) {
  const summary = el("summary");
  const lines = el("div", { class: "note said" });
  const node = el("details", { class: "filter scripts", open: opened, ontoggle: () => (opened = node.open) }, summary, lines);
  let before = null;
  const show = () => {
    const closed = selection(g).older.filter((script) => script.closed);
    const now = JSON.stringify(closed.map((script) => [script.name, news(script)]));
    if (now === before) return; // else the button that has the focus would go
    before = now;
    node.hidden = !closed.length;
    summary.textContent = `Earlier scripts: ${count(closed.length)}`;
    lines.replaceChildren(...closed.map((script) => earlier(script)));
  };
  node.addEventListener("selected", show);
  show();
  return node;
}
