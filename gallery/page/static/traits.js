// The traits by which people compare copies: pixels, bytes, format, date. A badge marks the image that should stay.

import { copy, el } from "./dom.js";
import { wholePath } from "./state.js";

const UNITS = ["kB", "MB", "GB", "TB"];

/** 123456 -> "123 kB" */
export function bytes(number) {
  let unit = 0;
  let size = number / 1000;
  while (size >= 999.5 && unit < UNITS.length - 1) [size, unit] = [size / 1000, unit + 1];
  return `${size < 9.95 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

/** The badge of the image that should stay, by the rule that was chosen. */
export const BADGES = { best: "Best", oldest: "Oldest" };

/** Returns two lines: pixels, bytes and format of an image, then its date. Older galleries know only bytes and a date. */
export function facts({ pixels, format, bytes: size, date, camera, cut }) {
  const known = [pixels?.join(" × "), bytes(size), format, cut ? "damaged: cut off" : null].filter(Boolean);
  return [known.join(" · "), `${camera ? "taken" : "file of"} ${date}`];
}

/** Splits a text into nodes, so that no line ends within a date. */
export const unbroken = (text) =>
  text.split(/(\d{4}-\d\d-\d\d)/).map((part, i) => (i % 2 ? el("span", { class: "date" }, part) : part));

/** Lines with the traits of an image. */
export function traits(item) {
  const { name, path } = item;
  const whole = wholePath(path);
  const button = (label, text) =>
    el(
      "button",
      {
        type: "button",
        tabindex: "-1",
        "aria-label": `Copy ${label} of ${name}`,
        onclick: (event) => copy(text, event.currentTarget),
      },
      `Copy ${label}`,
    );
  return el(
    "div",
    { class: "traits" },
    facts(item).map((line) => el("p", {}, unbroken(line))),
    button("path", whole),
    button("folder", whole.slice(0, whole.lastIndexOf("/")) || "."),
  );
}
