// The note in the bar of the selection: it tells how to run saved scripts, and what they did.

import { copy, count, el } from "./dom.js";

const NAMED = 3; // images that are named; the others are counted
const CALM = 2; // looks without a change, after which a script seems to have ended

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

const undo = ({ folder }) => [command(`sh ${folder}/tidy-undo.sh`), " brings them back."];

/** The same in short, for as long as it may be needed. Only a script that is up to date, and has not moved all, is offered. */
export function way(saved, items) {
  const { name, folder, keys, files, gone, alone } = saved;
  const [other, fresh] = [isOther(saved, items), isNew(saved, items)];
  const old = ` holds the earlier ${count(files, "file")}. The selection has changed since: save the script again.`;
  const moves = [command(`sh ${folder}/tidy.sh`), ` moves ${count(files, "file")} away, `];
  const said = [el("strong", {}, "Saved: "), code(name), ". ", ...(gone < keys.length ? moves : [])];
  const earlier = fresh ? ["Saved earlier: ", code(name), ". "] : [];
  return [
    fresh ? el("p", {}, "This is a new selection, not saved yet.") : null,
    other && !fresh ? el("p", { class: "warning" }, code(name), old) : null,
    other && !gone ? null : el("p", {}, other ? earlier : said, undo(saved)),
    other ? null : lonely(alone, items),
  ];
}

/** A line on a script that was saved earlier. close(): closes it. */
export function earlier(script, close) {
  const { name, files, gone } = script;
  const label = `Close the note on ${name}`;
  const button = el("button", { type: "button", "aria-label": label, onclick: close }, "Close");
  return el("p", {}, code(name), ` moved ${count(gone)} of ${count(files, "file")}: `, undo(script), " ", button);
}

/**
 * Says what the scripts did. gone: how many files the page has dropped since. most: the same at its highest. calm: looks at
 * the folder since then.
 */
export function news({ files, gone, most, to, calm = 0 }) {
  const [back, left] = [most - gone, files - gone];
  const end = calm < CALM && left ? " so far" : left ? `; ${count(left)} ${are(left)} still here` : "";
  const away = gone && `${count(gone)} of ${count(files, "file")} ${are(gone)} gone${end}.`;
  const where = gone && `The script puts them into “${to}”, beside your folder.`;
  return [away, where, back && `${count(back, "file")} ${are(back)} back.`].filter(Boolean).join(" ");
}

/** Whether the selection differs from the files of the scripts. Files that the scripts have moved do not count. */
export function isOther({ keys, gone }, items) {
  const before = new Set(keys);
  return items.size > 0 && (items.size < keys.length - gone || [...items.keys()].some((key) => !before.has(key)));
}

/** Whether it has nothing to do with them: they have run, and none of their files is selected. */
export const isNew = ({ keys, gone }, items) => gone > 0 && items.size > 0 && !keys.some((key) => items.has(key));
