// What mouse, fingers and keys do on the map: they move and zoom it, point at an image, and draw a rectangle.

import { el } from "./dom.js";
import { go, searchFor } from "./state.js";

const SLIP = 6; // pixels that a click may move
const STEP = 80; // pixels of an arrow key

export class Hand {
  /** drawn([left, top, right, bottom], event): set it, to be called with a rectangle in pixels of the map's window. */
  constructor(atlas) {
    Object.assign(this, { atlas, drawn: () => {}, draws: false, corner: null, path: 0, pointers: new Map() });
    this.rectangle = el("div", { class: "rectangle", hidden: true, "aria-hidden": "true" });
    const { frame } = atlas;
    frame.append(this.rectangle);
    frame.addEventListener("keydown", (event) => this.key(event));
    frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave"])
      frame.addEventListener(name, (event) => this.pointer(event));
    frame.addEventListener("click", (event) => this.click(event), { capture: true });
  }

  /** Whether one finger, or the mouse without Shift, draws a rectangle instead of moving the map. */
  draw(on) {
    this.draws = on;
    this.atlas.frame.classList.toggle("draws", on);
    this.drop();
  }

  /** Gives up the rectangle. Returns whether there was one. */
  drop() {
    const had = this.corner !== null;
    this.corner = null;
    this.rectangle.hidden = true;
    return had;
  }

  key(event) {
    const { atlas } = this;
    const moves = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) atlas.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") atlas.step(1.5);
    else if (event.key === "-") atlas.step(1 / 1.5);
    else if (event.key === "0") atlas.step(0);
    else if (event.key !== "Escape" || !this.drop()) return;
    event.preventDefault();
  }

  at(event) {
    const box = this.atlas.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    const factor = Math.exp(-Math.max(-200, Math.min(200, pixels)) / (event.ctrlKey ? 100 : 400));
    this.atlas.scale(factor, ...this.at(event));
  }

  /** One pressed pointer drags or draws, two zoom. A mouse that is not pressed shows the image below it. */
  pointer(event) {
    const { atlas, pointers } = this;
    const now = this.at(event);
    if (event.type === "pointerdown" && event.button === 0) this.press(event, now);
    else if (event.type === "pointermove" && pointers.has(event.pointerId)) this.drag(event, now);
    else if (event.type !== "pointermove") this.lift(event, now);
    atlas.frame.classList.toggle("dragged", pointers.size > 0 && this.path > SLIP);
    if (event.pointerType !== "mouse") return;
    atlas.point(pointers.size || event.type === "pointerleave" ? null : atlas.under(event.target, ...now));
  }

  press(event, now) {
    this.pointers.set(event.pointerId, now);
    if (this.pointers.size > 1) return void this.drop();
    this.path = 0;
    if (this.draws || event.shiftKey) this.corner = now;
  }

  drag(event, now) {
    const before = this.pointers.get(event.pointerId);
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, now);
    this.path += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (other) this.pinch(before, now, other);
    else if (this.corner) this.show(this.box(now));
    else this.atlas.move(before[0] - now[0], before[1] - now[1]);
    if (this.path > SLIP) this.atlas.frame.setPointerCapture(event.pointerId);
  }

  lift(event, now) {
    if (!this.pointers.delete(event.pointerId)) return;
    const box = this.corner && event.type === "pointerup" && this.path > SLIP ? this.box(now) : null;
    this.drop();
    if (box) this.drawn(box, event);
  }

  box(now) {
    const [left, right] = [this.corner[0], now[0]].sort((a, b) => a - b);
    const [top, bottom] = [this.corner[1], now[1]].sort((a, b) => a - b);
    return [left, top, right, bottom];
  }

  show([left, top, right, bottom]) {
    this.rectangle.hidden = false;
    const { style } = this.rectangle;
    style.transform = `translate(${left}px, ${top}px)`;
    style.width = `${right - left}px`;
    style.height = `${bottom - top}px`;
  }

  pinch(before, now, other) {
    const apart = (point) => Math.max(Math.hypot(point[0] - other[0], point[1] - other[1]), 1);
    this.atlas.scale(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    this.atlas.move((before[0] - now[0]) / 2, (before[1] - now[1]) / 2);
  }

  /** A click on a dot searches; the click that ends a drag does nothing. */
  click(event) {
    if (this.path > SLIP && event.detail) return void event.preventDefault();
    if (event.target.closest(".pin")) return;
    const i = this.atlas.nearest(...this.at(event));
    if (i !== null) go(searchFor(this.atlas.keys[i]));
  }
}
