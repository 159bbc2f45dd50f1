// The list of saved scripts whose notes were closed. So their commands are found again, above all the one that undoes.

import { count, el } from "./dom.js";
import { earlier, news } from "./note.js";
import { forget, selection } from "./select.js";

const FEW = 2; // scripts that do not push the groups far down
let opened = null; // whether someone opened or closed the list; it stays so when the view is made anew

/** The list, which is hidden while there is nothing in it. */
export function scripts(g) {
  const summary = el("summary", { onclick: () => (opened = !node.open) });
  const lines = el("div", { class: "note said" });
  const node = el("details", { class: "filter scripts" }, summary, lines);
  let before = null;
  /** A line on a script. It can be removed while none of its files lies where it puts them: then nothing is left to undo. */
  const line = (script) => {
    const act = () => {
      forget(g, script);
      (node.hidden ? node.closest("section").querySelector("h1") : summary).focus();
    };
    return earlier(script, script.gone > (script.lost ?? 0) ? {} : { word: "Remove", label: "Remove from this list:", act });
  };
  const show = () => {
    const closed = selection(g).older.filter((script) => script.closed);
    const now = JSON.stringify(closed.map((script) => [script.name, news(script), script.own?.length]));
    if (now === before) return; // else the button that has the focus would go
    before = now;
    node.hidden = !closed.length;
    node.open = opened ?? closed.length <= FEW;
    summary.textContent = `Earlier scripts: ${count(closed.length)}`;
    lines.replaceChildren(...closed.map(line));
  };
  node.addEventListener("selected", show);
  show();
  return node;
}
