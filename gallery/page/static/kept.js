// Keeps over a reload of this tab: the selection (keys of images, saved scripts, but no path of an image), names of uploads.

import { galleries, root } from "./state.js";

const name = (g) => `selection of ${root} ${galleries[g].name}`; // another gallery at this address does not find it

/** Keeps an object for a gallery; null keeps nothing. Returns whether the browser does so: its room has an end. */
export function put(g, object) {
  try {
    sessionStorage.removeItem(name(g)); // if the new object finds no room, the old one must not come back
    if (object) sessionStorage.setItem(name(g), JSON.stringify(object));
    return true;
  } catch {
    return false;
  }
}

const isList = (value, isPart) => Array.isArray(value) && value.every(isPart);
const isText = (value) => typeof value === "string";
const areTexts = (value) => isList(value, isText);
const isScript = (value) =>
  [value?.name, value?.folder, value?.to].every(isText) &&
  [value.keys, value.alone, value.own ?? [], value.late ?? [], value.missing ?? []].every(areTexts) &&
  [value.files, value.gone, value.most].every(Number.isInteger);
const isSelection = ({ keys, out, stamp, saved, older }) =>
  areTexts(keys) && areTexts(out) && isText(stamp) && (saved === null || isScript(saved)) && isList(older, isScript);

/** Returns the object, or null; also for one that is damaged or that another version of the page has kept. */
export function take(g) {
  try {
    const object = JSON.parse(sessionStorage.getItem(name(g)));
    return object && isSelection(object) ? object : null;
  } catch {
    return null;
  }
}

const UPLOADS = "names of uploads";
const MOST = 64; // the server keeps no more uploads

/** The names of uploads, by their tokens. */
export function uploadNames() {
  try {
    const pairs = JSON.parse(sessionStorage.getItem(UPLOADS)) ?? [];
    return new Map(isList(pairs, areTexts) ? pairs : []);
  } catch {
    return new Map();
  }
}

/** Keeps the name of an upload, but not its picture. */
export function keepUploadName(token, name) {
  try {
    sessionStorage.setItem(UPLOADS, JSON.stringify([...uploadNames(), [token, name.slice(0, 255)]].slice(-MOST)));
  } catch {} // without room the name is lost with the page
}
