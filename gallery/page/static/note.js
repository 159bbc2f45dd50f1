// The note in the bar of the selection: it tells how to run saved scripts, and what they did.

import { copy, count, el } from "./dom.js";

const NAMED = 3; // images that are named; the others are counted

const code = (text) => el("code", {}, text);
const are = (number) => (number === 1 ? "is" : "are");
const have = (number) => (number === 1 ? "has" : "have");

/** A command, with a button that copies it. */
function command(text) {
  const onclick = (event) => copy(text, event.currentTarget);
  return el("span", {}, code(text), " ", el("button", { type: "button", "aria-label": `Copy ${text}`, onclick }, "Copy"));
}

/** Counts the images without a copy that stays, and names a few that are still selected. keys: theirs. */
function lonely(keys, items) {
  if (!keys?.length) return null;
  const known = keys.filter((key) => items.has(key)).slice(0, NAMED);
  const more = keys.length > known.length ? ` and ${count(keys.length - known.length)} more` : "";
  const names = known.length ? `: ${known.map((key) => items.get(key).path).join(", ")}${more}` : "";
  return el("p", { class: "warning" }, `${count(keys.length)} of them ${have(keys.length)} no copy that stays${names}.`);
}

/** Says in steps how to run the scripts. items: key -> item of what is selected. */
export function steps({ name, folder, to, files, alone }, items) {
  return [
    el("p", {}, el("strong", {}, `Saved for ${count(files, "file")}: `), code(name)),
    lonely(alone, items),
    el(
      "ol",
      {},
      el("li", {}, "Unpack it, and open a terminal in the folder that holds the zip."),
      el(
        "li",
        {},
        command(`sh ${folder}/tidy.sh`),
        ` says what it will do, asks, and moves them to “${to}”, beside your folder.`,
      ),
      el("li", {}, "This page then drops them by itself."),
      el("li", {}, command(`sh ${folder}/tidy-undo.sh`), " moves them back."),
    ),
  ];
}

/** The same in short, for as long as it may be needed. stale: whether something else is selected by now. */
export function way({ name, folder, files, alone }, stale, items) {
  const old = ` holds the earlier ${count(files, "file")}. The selection has changed since: save the script again.`;
  return [
    stale ? el("p", { class: "warning" }, code(name), old) : null,
    el(
      "p",
      {},
      stale ? null : [el("strong", {}, "Saved: "), code(name), ". "],
      command(`sh ${folder}/tidy.sh`),
      ` moves ${count(files, "file")} away, `,
      command(`sh ${folder}/tidy-undo.sh`),
      " brings them back.",
    ),
    stale ? null : lonely(alone, items),
  ];
}

/** Says what the scripts did. gone: how many files the page has dropped since. most: the same at its highest. */
export function news({ files, gone, most }) {
  const back = most - gone;
  const away = gone ? `${count(gone)} of ${count(files, "file")} ${are(gone)} gone from here by now.` : "";
  return [away, back ? `${count(back, "file")} ${are(back)} back.` : ""].filter(Boolean).join(" ");
}

/** Whether the selection is another one than that of the scripts, but for what they have moved. */
export function isStale({ keys, gone }, items) {
  const before = new Set(keys);
  return items.size > 0 && (items.size < keys.length - gone || [...items.keys()].some((key) => !before.has(key)));
}
