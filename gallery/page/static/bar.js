// The bar of the selection: what is selected, and what can be done with it. The page itself moves nothing.

import { fileOf } from "./api.js";
import { announce, copy, count, el, meanwhile } from "./dom.js";
import { look } from "./fresh.js";
import { earlier, isNew, isOther, lack, news, steps, way } from "./note.js";
import { close, inOneStep, putSaved, refresh, select, selection, undoStep } from "./select.js";
import { read, wholePath } from "./state.js";
import { bytes } from "./traits.js";
import { weigher } from "./weigh.js";
import { wishes } from "./wishes.js";

const NOTHING =
  "This page changes nothing in your folder. The script moves what is selected, copies or not, to a folder beside yours when you " +
  "run it, and asks first.";

/** Lets the browser save a file. */
function save({ name, content }) {
  const whole = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([whole], { type: "application/octet-stream" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const names = (number) => count(number, "name");

/** Counts what is selected, and says where it differs from "all but the best" of the groups shown in a section. */
function sum(items, { out }, section) {
  const size = items.reduce((total, item) => total + item.bytes, 0);
  const best = section.querySelectorAll(".group:not(.whole) input[data-stays]:checked").length;
  const stay = out.size ? `. You left out ${count(out.size)}` : "";
  const go = best ? `, including ${count(best)} to keep` : "";
  return `${count(items.length)} selected, ${bytes(size)}${go}${stay}`;
}

/** Says what the last step of many images did. items: key -> item of what is selected. */
function lastStep({ added, taken }, items) {
  const still = added.filter((key) => items.has(key)).length; // a group may have been marked since
  return [still && `${count(still)} added`, taken.length && `${count(taken.length)} deselected`].filter(Boolean).join(", ");
}

/** The earlier scripts that have run, and whose note is open. */
const ran = ({ older }) => older.filter(({ most, closed }) => most > 0 && !closed);

/** Puts a text in its place, if it is another one: a screen reader says what is put. */
const put = (node, text) => node.textContent !== text && (node.textContent = text);

/** The bar of a view. more: further buttons for what is selected. listed(): the settings of the groups that the view lists. */
export function bar(g, view, more = [], listed = null) {
  const line = el("p", { class: "line chosen", role: "status" });
  const note = el("div", {}, el("p", {}, NOTHING));
  const state = el("p", { class: "news", role: "status" }); // what the scripts did
  const chosen = () => [...selection(g).items.values()];

  const action = (label, act) => {
    const button = el("button", { class: "small button", type: "button" }, label);
    const failed = async (error) => {
      await refresh(); // the gallery may have been embedded again
      view.failed(error);
    };
    button.addEventListener("click", () => meanwhile(button, () => act(button).catch(failed)));
    return button;
  };
  const ask = (what) => {
    const { items, stamp, turned } = selection(g);
    const query = { ...wishes(read().query), turned: turned ? 1 : 0 };
    return fileOf(g, what, query, { keys: [...items.keys()], stamp }, view.signal);
  };
  const say = (...nodes) => {
    note.replaceChildren(...nodes.filter(Boolean));
    note.parentElement.classList.add("said");
  };

  const copyPaths = action("Copy paths", async (button) => {
    const odd = chosen().filter((item) => item.odd).length;
    await copy(
      chosen()
        .map(({ path }) => wholePath(path))
        .join("\n"),
      button,
    );
    if (odd)
      say(el("p", {}, `${names(odd)} cannot be copied as text: they are no valid text or hold a line break. The script has them.`));
  });
  const saveList = action("Save list", async () => {
    const file = await ask("list");
    save(file);
    const left = file.left ? `, without ${names(file.left)} that hold a line break: the script has them` : "";
    say(el("p", {}, `Saved: ${file.name}, a path a line${left}.`));
    announce(note.textContent);
  });
  const saveScript = action("Save script", async () => {
    const { items } = selection(g);
    const keys = [...items.keys()]; // as they are sent: until the answer comes, others may be selected
    const { content, ...facts } = await ask("script");
    save({ name: facts.name, content });
    const saved = { ...facts, keys, gone: 0, most: 0 };
    putSaved(g, saved);
    if (!isOther(saved, items)) say(...steps(saved, items), ...others());
    look(); // and from now on more often
    announce(`Saved: ${facts.name}`);
  });
  saveScript.classList.add("save");
  const others = () =>
    ran(selection(g)).map((script) => {
      const act = () => (close(g, script), (closer.hidden ? clear : closer).focus());
      return earlier(script, { word: "Close", label: "Close the note on", act });
    });
  const plain = (label, onclick) => el("button", { class: "small button", type: "button", onclick }, label);
  const clear = plain("Clear", () => {
    inOneStep(g, () => (select(g, chosen(), false), selection(g).out.clear()));
    undo.focus();
  });
  const undo = plain("Undo selecting", async () => {
    await undoStep(g);
    announce(`Undone: ${line.textContent}`);
    const there = node.hidden ? view.section.querySelector("h1") : clear.hidden ? closer : clear;
    there.focus({ preventScroll: true }); // this button is hidden now
  });
  const step = el("p", { class: "step" });
  const risk = el("p", { class: "warning", role: "status" });
  const unlisted = el("p", { class: "step", role: "status" }); // what is selected, but not in sight
  const takeOut = plain("", () => {
    inOneStep(g, () => select(g, weighed.unlisted.map((key) => ({ key })), false));
    undo.focus();
  });
  let weighed = null; // what the server says of the selection: {alone, unlisted}
  const closer = plain("Close", () => {
    close(g);
    (document.querySelector(".scripts:not([hidden]) summary") ?? view.section.querySelector("h1")).focus();
  });
  closer.classList.add("closer");
  const tools = [...more, saveScript, saveList, copyPaths, clear];

  const node = el(
    "div",
    { class: "selection", role: "region", "aria-label": "Selection", hidden: true },
    el("div", { class: "note" }, state, note), // first, as on the screen
    el("div", { class: "head" }, el("div", { class: "sum" }, line, risk, unlisted, takeOut, step, undo), tools, closer),
  );
  const isThere = () => node.isConnected;
  const weigh = listed && weigher(g, listed, isThere, (answer) => ((weighed = answer), tell()));
  /** Tells what the server says, as far as it is still selected. The note on a saved script tells the first by itself. */
  const tell = () => {
    const { items, saved } = selection(g);
    const still = (keys = []) => keys.filter((key) => items.has(key)).length;
    const [alone, others] = [still(weighed?.alone), still(weighed?.unlisted)];
    const isTold = saved?.alone.length && !isNew(saved, items) && !isOther(saved, items);
    put(risk, alone && !isTold ? lack(alone, items.size) : "");
    const which = items.size === 1 ? "It is" : `${count(others)} of them ${others === 1 ? "is" : "are"}`;
    put(unlisted, others ? `${which} not in this list` : "");
    put(takeOut, others === 1 ? "Take that one out" : `Take those ${count(others)} out`);
    takeOut.hidden = !others;
  };
  if (weigh) document.addEventListener("marked", () => isThere() && weigh(true), { signal: view.signal });
  let before = "";
  const show = () => {
    const items = chosen();
    const { items: byKey, awaited, saved, step: ended } = selection(g);
    const earlierOnes = ran(selection(g));
    const last = ended?.taken.length || ended?.added.some((key) => byKey.has(key)) ? ended : null; // else it cannot be undone
    const isKept = saved || last?.taken.length || earlierOnes.length;
    node.hidden = !items.length && (!isKept || awaited.size > 0);
    for (const tool of tools) tool.hidden = !items.length;
    closer.hidden = items.length > 0;
    const text = items.length ? sum(items, selection(g), view.section) : "Nothing is selected now";
    const told = saved ? news(saved) : "";
    const fresh = !saved || isNew(saved, byKey);
    const stale = !fresh && isOther(saved, byKey);
    weigh?.();
    tell();
    put(step, last ? lastStep(last, byKey) : "");
    put(undo, last && !last.added.length ? "Undo deselecting" : "Undo selecting");
    undo.hidden = !last;
    const now = [text, saved?.name, told, stale, ...earlierOnes.map((script) => script.name + news(script))].join(" ");
    if (now === before) return;
    before = now;
    line.textContent = text;
    state.textContent = told;
    saveScript.textContent = stale ? "Save script again" : "Save script";
    saveScript.classList.toggle("primary", stale || fresh);
    say(...(saved ? way(saved, byKey) : [el("p", {}, NOTHING)]), ...others());
    note.parentElement.classList.toggle("said", Boolean(saved));
  };
  node.addEventListener("selected", show);
  const covered = () => document.documentElement.style.setProperty("--covered", `${node.offsetHeight}px`);
  new ResizeObserver(() => node.isConnected && covered()).observe(node); // what has the focus scrolls above it
  show();
  return node;
}

/** B goes to the bar, from wherever no text is written: to what can be done with the selection, else with a script. */
document.addEventListener("keydown", (event) => {
  const writes = event.target.closest("input:not([type=checkbox]), select, textarea") || document.querySelector("dialog[open]");
  if (event.key !== "b" || event.ctrlKey || event.metaKey || event.altKey || writes) return;
  const buttons = [...document.querySelectorAll(".selection button")].filter((button) => button.checkVisibility());
  const first = (which) => buttons.find((button) => button.matches(which));
  (first(".head > :not(.closer)") ?? first(":not(.closer)") ?? buttons[0])?.focus();
});
