// Small helpers to make elements. Text from files only ever becomes a text node or an attribute, never markup.

/** Makes an element. Attributes `on...` are listeners; null and false are left out. Children: nodes or strings. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** Makes an icon of a symbol in page.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** Makes a round button with a symbol, and a label for people who do not see it. */
export function round(symbol, label, attributes) {
  return el(
    "button",
    { class: "round", type: "button", "aria-label": label, title: label, ...attributes },
    icon(symbol),
  );
}

const numbers = new Intl.NumberFormat("en");

/** 5421, "image" -> "5,421 images"; without a word the number alone. */
export function count(number, word = "") {
  return numbers.format(number) + (word && ` ${word}${number === 1 ? "" : "s"}`);
}

/** Says a sentence to a screen reader. */
export function announce(sentence) {
  document.getElementById("status").textContent = sentence;
}

/** Shows a message in sight, until it is closed or the next one comes; null hides it. */
export function notice(message) {
  const bar = document.getElementById("notice");
  bar.hidden = message === null;
  bar.querySelector("p").textContent = "";
  if (message === null) return;
  (document.querySelector("dialog[open]") ?? document.body).append(bar); // a dialog covers all that is not in it
  setTimeout(() => (bar.querySelector("p").textContent = message)); // a screen reader says what changes in a shown alert
}

/** Makes a heading that can take the focus. */
export function heading(...children) {
  return el("h1", { tabindex: "-1" }, ...children);
}

/** Fills the place of missing images: a sentence, a hint what to do, and perhaps buttons. */
export function empty(sentence, hint, ...actions) {
  return el("div", { class: "empty" }, el("p", {}, el("strong", {}, sentence)), hint && el("p", {}, hint), ...actions);
}

/** Says a problem in the place of what is missing. again: tries again; null where that cannot help. */
export function problem(sentence, again, home) {
  const way = again
    ? el("button", { class: "button", type: "button", onclick: again }, "Try again")
    : el("a", { class: "button", href: home }, "All groups");
  return el("div", { class: "empty", role: "alert" }, el("p", {}, el("strong", {}, sentence)), way);
}

/** Does something for a button that is off meanwhile. It keeps the focus, which a browser takes from a button that is off. */
export async function meanwhile(button, act) {
  const focused = document.activeElement === button;
  button.disabled = true;
  try {
    await act();
  } finally {
    button.disabled = false;
    if (focused && [document.body, null].includes(document.activeElement)) button.focus({ preventScroll: true });
  }
}

/** Copies a text, and says so on the button for a moment. */
export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed by the browser";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = before), 1500);
}
