// The note in the bar below the duplicates: what a saved script is for, how to run it, and what it did.

import { copy, count, el } from "./dom.js";

const NAMED = 3; // images that are named; the others are counted

const code = (text) => el("code", {}, text);
const are = (number) => (number === 1 ? "is" : "are");

/** A command, with a button that copies it. */
function command(text) {
  const onclick = (event) => copy(text, event.currentTarget);
  return el("span", {}, code(text), " ", el("button", { type: "button", "aria-label": `Copy ${text}`, onclick }, "Copy"));
}

/** Names the images of which no copy stays. */
export function lonely(items) {
  if (!items.length) return null;
  const more = items.length > NAMED ? ` and ${count(items.length - NAMED)} more` : "";
  const names = items.slice(0, NAMED).map(({ path }) => path);
  const have = items.length === 1 ? "has" : "have";
  return el(
    "p",
    { class: "warning" },
    `${count(items.length)} of them ${have} no copy that stays: ${names.join(", ")}${more}.`,
  );
}

/** What to do with the scripts, in steps. */
export function steps({ name, folder, to, files }, ...remarks) {
  return [
    el("p", {}, el("strong", {}, `Saved for ${count(files, "file")}: `), code(name)),
    ...remarks,
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
export function way({ name, folder, files }, stale) {
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
  return items.length > 0 && (items.length < keys.length - gone || items.some(({ key }) => !before.has(key)));
}
