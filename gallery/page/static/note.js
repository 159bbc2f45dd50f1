// What is said of saved scripts, in the bar of the selection and in the list of scripts: how to run them, and what they did.

import { copy, count, el } from "./dom.js";

const NAMED = 3; // images that are named; the others are counted
const CALM = 2; // looks without a change, after which a script seems to have ended

const code = (text) => el("code", {}, text);
const are = (number) => (number === 1 ? "is" : "are");
const were = (number) => (number === 1 ? "was" : "were");
const them = (number) => (number === 1 ? "it" : "them");
const have = (number) => (number === 1 ? "has" : "have");

/** A command, with a button that copies it. */
function command(text) {
  const onclick = (event) => copy(text, event.currentTarget);
  return el("span", { class: "command" }, code(text), " ", el("button", { type: "button", "aria-label": `Copy ${text}`, onclick }, "Copy"));
}

/** Says how many of so many files have no copy that stays. */
export const lack = (alone, files, rest = "") =>
  `${files === 1 ? "It" : `${count(alone)} of them`} ${rest || `${have(alone)} no copy that stays`}`;

/** Counts the images without a copy that stays, and names a few that are still selected. later: it may have changed since. */
function lonely({ alone: keys, files }, items, later = false) {
  if (!keys.length) return null;
  const known = keys.filter((key) => items.has(key)).slice(0, NAMED);
  const more = keys.length > known.length ? ` and ${count(keys.length - known.length)} more` : "";
  const names = known.length ? `: ${known.map((key) => items.get(key).path).join(", ")}${more}` : "";
  const rest = later ? "had no copy that stays, when this was saved" : "";
  return el("p", { class: "warning" }, `${lack(keys.length, files, rest)}${names}.`);
}

const unpack = ({ name }) => command(`unzip ${name}`);
const move = ({ folder }) => command(`sh ${folder}/tidy.sh`);
const back = ({ folder }) => command(`sh ${folder}/tidy-undo.sh`);

const one = ({ to }) => ` To bring back one picture, move it by hand from ${to} to where it was in your folder.`;

/** Says in steps how to run the scripts. items: key -> item of what is selected. */
export function steps(script, items) {
  const { name, to, files } = script;
  const where = "On the computer with the photos, open a terminal in the folder that holds the zip, and unpack it: ";
  return [
    lonely(script, items),
    el(
      "details",
      { open: true },
      el("summary", {}, el("strong", {}, `Saved for ${count(files, "file")}: `), code(name)),
      el(
        "ol",
        {},
        el("li", {}, where, unpack(script)),
        el("li", {}, move(script), ` says what it will do, asks, and moves ${them(files)} to ${to}, beside your folder.`),
      ),
      el("p", {}, "This page notices by itself, and counts what was moved. To bring everything back: ", back(script), one(script)),
    ),
  ];
}

/** Whether all its files are where they were, though some had been moved. */
const isUndone = ({ gone, most }) => most > 0 && gone === 0;

/** How to bring the files back, unless all of them are back. */
const undo = (script) =>
  isUndone(script) ? [] : [back(script), ` brings ${them(script.files)} back.`, script.gone > 1 ? one(script) : ""];

/** Whether it seems to run just now. calm: looks at the folder since the last change. */
const isMoving = ({ files, gone, lost = 0, calm = 0 }) => gone > lost && gone < files && calm < CALM;

/** How to move the files that are still here, unless they go already. Whoever has moved some before has unpacked the scripts. */
function run(script) {
  const { files, gone, most } = script;
  if (isMoving(script)) return [];
  if (isUndone(script)) return [move(script), ` moves ${them(files)} away again.`];
  const what = gone ? `the other ${count(files - gone)}` : count(files, "file");
  return gone < files ? [most ? "" : [unpack(script), ", then "], move(script), ` moves ${what} away, `].flat() : [];
}

/** The same in short, for as long as it may be needed. Only a script that is up to date, and has not moved all, is offered. */
export function way(saved, items) {
  const { name, files, gone } = saved;
  const [other, fresh] = [isOther(saved, items), isNew(saved, items)];
  const old = ` holds the earlier ${count(files, "file")}. The selection has changed since: save the script again.`;
  const said = [el("strong", {}, "Saved: "), code(name), ". ", ...run(saved)];
  const earlier = fresh ? ["Saved earlier: ", code(name), ". "] : [];
  return [
    fresh ? el("p", {}, "This is a new selection, not saved yet.") : null,
    other && !fresh ? el("p", { class: "warning" }, code(name), old) : null,
    other && !gone ? null : el("p", {}, other ? earlier : said, undo(saved)),
    other ? null : lonely(saved, items, true),
  ];
}

/** Whether a script that was saved later has all its files. None of them has moved, or nobody knows by which of the two. */
export const isReplaced = ({ gone, own }) => !gone && own?.length === 0;

/** A line on a script that was saved earlier. word, label, act: of a button at its end; without a word there is none. */
export function earlier(script, { word, label, act } = {}) {
  const button = word && el("button", { type: "button", "aria-label": `${label} ${script.name}`, onclick: act }, word);
  const said = isReplaced(script) ? "a later script has all its files. " : [news(script) || "not run yet.", " ", ...run(script)];
  return el("p", {}, code(script.name), ": ", said, undo(script), " ", button || "");
}

/**
 * Says what the scripts did. gone: how many files the page has dropped since. lost: how many of them are not where the script
 * puts them. strays: how many were not selected any more when it ran. most: `gone` before files came back.
 */
export function news(script) {
  const { files, gone, lost = 0, strays = 0, most, to } = script;
  if (isUndone(script)) // the page may have missed some of the moves, so `most` is no number to tell here
    return files === 1 ? "The file is back where it was." : `All ${count(files)} files are back where they were.`;
  const [moved, left, returned] = [gone - lost, files - most, most - gone];
  const number = `${count(moved)} of ${count(files, "file")}`;
  const also = strays ? `; ${count(strays)} of them ${were(strays)} not selected any more` : "";
  const stay = left ? `; ${count(left)} ${are(left)} still here` : "";
  const isOn = isMoving(script);
  const soFar = returned ? "" : `${number} moved so far, to ${to}${also}.`;
  const away = isOn ? soFar : `${number} ${were(moved)} moved to ${to}${also}${stay}.`;
  const home = isOn ? `${count(returned)} of ${count(most, "file")}` : count(returned, "file");
  const other = `${count(lost, "file")} ${are(lost)} gone, but not moved by a script.`;
  const again = `${home} ${are(returned)} back${isOn ? " so far" : ""}.`;
  return [moved && away, lost && other, returned && again].filter(Boolean).join(" ");
}

/** Whether the selection differs from the files of the scripts. Files that the scripts have moved do not count. */
export function isOther({ keys, gone }, items) {
  const before = new Set(keys);
  return items.size > 0 && (items.size < keys.length - gone || [...items.keys()].some((key) => !before.has(key)));
}

/** Whether it has nothing to do with them: they have run, and none of their files is selected. */
export const isNew = ({ keys, gone }, items) => gone > 0 && items.size > 0 && !keys.some((key) => items.has(key));
