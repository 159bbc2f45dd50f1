// The bar of the selection: what is selected, and what can be done with it. The page itself moves nothing.

import { fileOf } from "./api.js";
import { announce, copy, count, el, meanwhile } from "./dom.js";
import { refresh, select, selection } from "./select.js";
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

const code = (text) => el("code", {}, text);
const names = (number) => count(number, "name");

/** What to do with the scripts, in steps. */
function steps({ name, folder, to, files, alone }) {
  return [
    el("p", {}, el("strong", {}, `Saved for ${count(files, "file")}: `), code(name)),
    alone ? el("p", { class: "warning" }, `${count(alone)} of them have no copy that stays.`) : null,
    el(
      "ol",
      {},
      el("li", {}, "Unpack it, and open a terminal in the folder that holds the zip."),
      el("li", {}, code(`sh ${folder}/tidy.sh`), ` says what it will do, asks, and moves them to “${to}”, beside your folder.`),
      el("li", {}, "This page then drops them by itself."),
      el("li", {}, code(`sh ${folder}/tidy-undo.sh`), " moves them back."),
    ),
  ];
}

/** The same in short, for as long as it may be needed. gone: how many of the files the page has dropped since. */
function way({ name, folder, files, gone }) {
  return el(
    "p",
    {},
    el("strong", {}, "Saved: "),
    code(name),
    `. ${gone ? `${count(gone)} of ${count(files, "file")} ${gone === 1 ? "is" : "are"} gone from here by now. ` : ""}`,
    code(`sh ${folder}/tidy.sh`),
    ` moves ${count(files, "file")} away, `,
    code(`sh ${folder}/tidy-undo.sh`),
    " brings them back.",
  );
}

/** The bar of a view. more: further buttons for what is selected. */
export function bar(g, view, more = []) {
  const line = el("p", { class: "line chosen", role: "status" });
  const note = el("div", { class: "note" }, el("p", {}, NOTHING));
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
    note.classList.add("said");
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
    const file = await ask("script");
    save(file);
    selection(g).saved = { ...file, content: null, keys: [...selection(g).items.keys()], gone: 0 };
    show();
    say(...steps(file));
    announce(`Saved: ${file.name}`);
  });
  saveScript.classList.add("primary");
  const clear = el("button", { class: "small button", type: "button", onclick: () => select(g, chosen(), false) }, "Clear");

  const forget = () => {
    selection(g).saved = null;
    select(g, [], true); // shows it in all bars
  };
  const close = el("button", { class: "small button", type: "button", onclick: forget }, "Close");
  const tools = [...more, saveScript, saveList, copyPaths, clear];

  const node = el(
    "div",
    { class: "selection", role: "region", "aria-label": "Selection", hidden: true },
    el("div", { class: "head" }, line, tools, close),
    note,
  );
  let before = "";
  const show = () => {
    const items = chosen();
    const { saved, out } = selection(g);
    node.hidden = !items.length && !saved;
    for (const tool of tools) tool.hidden = !items.length;
    close.hidden = !saved || items.length > 0;
    const size = items.reduce((sum, item) => sum + item.bytes, 0);
    const except = out.size ? `, ${count(out.size)} left out by hand` : "";
    const text = items.length ? `${count(items.length)} selected, ${bytes(size)}${except}` : "Nothing is selected now";
    const state = `${text} ${saved?.name} ${saved?.gone}`;
    if (state === before) return;
    before = state;
    line.textContent = text;
    note.classList.toggle("said", Boolean(saved));
    note.replaceChildren(saved ? way(saved) : el("p", {}, NOTHING));
  };
  node.addEventListener("selected", show);
  show();
  return node;
}
