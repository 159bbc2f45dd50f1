// The bar of the selection: what is selected, and what can be done with it. The page itself moves nothing.

import { fileOf } from "./api.js";
import { announce, copy, count, el, meanwhile } from "./dom.js";
import { look } from "./fresh.js";
import { isStale, news, steps, way } from "./note.js";
import { changed, refresh, select, selection } from "./select.js";
import { read, wholePath } from "./state.js";
import { bytes } from "./traits.js";
import { wishes } from "./wishes.js";

const NOTHING = "This page changes nothing in your folder. The script moves files when you run it, and asks first.";

/** Lets the browser save a file. */
function save({ name, content }) {
  const whole = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([whole], { type: "application/octet-stream" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

const names = (number) => count(number, "name");

/** The bar of a view. more: further buttons for what is selected. */
export function bar(g, view, more = []) {
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
    selection(g).saved = saved;
    changed();
    if (!isStale(saved, items)) say(...steps(saved, items));
    look(); // and from now on more often
    announce(`Saved: ${facts.name}`);
  });
  const clear = el("button", { class: "small button", type: "button", onclick: () => select(g, chosen(), false) }, "Clear");

  const forget = () => {
    selection(g).saved = null;
    changed();
  };
  const close = el("button", { class: "small button", type: "button", onclick: forget }, "Close");
  const tools = [...more, saveScript, saveList, copyPaths, clear];

  const node = el(
    "div",
    { class: "selection", role: "region", "aria-label": "Selection", hidden: true },
    el("div", { class: "head" }, line, tools, close),
    el("div", { class: "note" }, state, note),
  );
  let before = "";
  const show = () => {
    const items = chosen();
    const { items: byKey, awaited, saved, out } = selection(g);
    node.hidden = !items.length && (!saved || awaited.size > 0);
    for (const tool of tools) tool.hidden = !items.length;
    close.hidden = !saved || items.length > 0;
    const size = items.reduce((sum, item) => sum + item.bytes, 0);
    const except = out.size ? `, ${count(out.size)} left out by hand` : "";
    const text = items.length ? `${count(items.length)} selected, ${bytes(size)}${except}` : "Nothing is selected now";
    const told = saved ? news(saved) : "";
    const stale = saved && isStale(saved, byKey);
    const now = [text, saved?.name, told, stale].join(" ");
    if (now === before) return;
    before = now;
    line.textContent = text;
    state.textContent = told;
    saveScript.textContent = stale ? "Save script again" : "Save script";
    saveScript.classList.toggle("primary", !saved || stale);
    say(...(saved ? way(saved, stale, byKey) : [el("p", {}, NOTHING)]));
    note.parentElement.classList.toggle("said", Boolean(saved));
  };
  node.addEventListener("selected", show);
  show();
  return node;
}
