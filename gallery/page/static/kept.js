// Keeps the selection over a reload of this tab: keys of images and saved scripts, but no path of an image.

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

/** Returns the object, or null. */
export function take(g) {
  try {
    return JSON.parse(sessionStorage.getItem(name(g)));
  } catch {
    return null;
  }
}
