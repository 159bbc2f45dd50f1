// The map: a dot for each image on a canvas. Thumbnails lie above it, as many as fit, and link to their neighbours.

import { get } from "./api.js";
import { announce, count, el, heading, round } from "./dom.js";
import { picture, recall, thumb, waiting } from "./grid.js";
import { gallery, go, searchFor } from "./state.js";
import { grown, levels } from "./thin.js";

const SIDE = 56; // pixels of a thumbnail at a zoom of 1
const EDGE = 40; // pixels around the map at a zoom of 1
const CLOSEST = 64; // the largest zoom
const REACH = 14; // pixels from the pointer to a dot

// Groups with close numbers get very different colours.
const colour = (cluster) => `hsl(${(cluster * 137.508) % 360} 60% ${50 + ((cluster * 7) % 3) * 8}%)`;

/** Canvas, thumbnails and the window onto them. */
class Atlas {
  constructor({ keys, x, y, cluster }) {
    Object.assign(this, { keys, x, y, cluster, zoom: 1, left: 0, top: 0, pins: new Map(), pointers: new Map() });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.layer = el("div", { class: "pins" });
    this.hover = el("div", { class: "hover", hidden: true, "aria-hidden": "true" });
    const keysDo = "Arrow keys move it, plus and minus zoom, Tab goes through the thumbnails.";
    const label = `Map of ${count(keys.length, "image")}. ${keysDo}`;
    this.frame = el(
      "div",
      { class: "frame", tabindex: "0", role: "group", "aria-label": label },
      this.canvas,
      this.layer,
      this.hover,
    );
    this.colours = cluster.map(colour);
    new ResizeObserver(() => this.resize()).observe(this.frame);
    this.frame.addEventListener("keydown", (event) => this.key(event));
    this.frame.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave"])
      this.frame.addEventListener(name, (event) => this.pointer(event));
    this.frame.addEventListener("click", (event) => this.click(event), { capture: true });
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    if (!width || !height || (width === this.width && height === this.height)) return;
    Object.assign(this, { width, height });
    const sharp = (this.sharp = devicePixelRatio || 1);
    this.canvas.width = width * sharp;
    this.canvas.height = height * sharp;
    this.px = this.x.map((x) => EDGE + x * (width - 2 * EDGE));
    this.py = this.y.map((y) => EDGE + y * (height - 2 * EDGE));
    this.levels = levels(this.px, this.py);
    this.move(0, 0);
  }

  screen(i) {
    return [this.px[i] * this.zoom - this.left, this.py[i] * this.zoom - this.top];
  }

  /** Moves the window by (dx, dy) pixels, not beyond the map, and draws it soon. */
  move(dx, dy) {
    this.left = Math.min(Math.max(this.left + dx, 0), this.width * (this.zoom - 1));
    this.top = Math.min(Math.max(this.top + dy, 0), this.height * (this.zoom - 1));
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  /** Zooms at the focused thumbnail, or else at the dot nearest to the middle, so that an image stays in view. */
  step(factor) {
    const focused = [...this.pins].find(([, pin]) => pin === document.activeElement)?.[0];
    this.scale(factor, ...this.screen(focused ?? this.nearest(this.width / 2, this.height / 2, Infinity)));
  }

  /** Zooms by a factor; the point (x, y) of the window stays where it is. */
  scale(factor, x, y) {
    const zoom = Math.min(Math.max(this.zoom * factor, 1), CLOSEST);
    const [dx, dy] = [x, y].map((at, axis) => (at + [this.left, this.top][axis]) * (zoom / this.zoom - 1));
    this.zoom = zoom;
    this.frame.dataset.zoom = zoom.toFixed(2);
    this.move(dx, dy);
  }

  draw() {
    this.waiting = null;
    const context = this.canvas.getContext("2d");
    context.setTransform(this.sharp, 0, 0, this.sharp, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const size = Math.min(4.5 + this.zoom / 2, 9);
    for (let i = 0; i < this.keys.length; i++) {
      const [x, y] = this.screen(i);
      if (x < -size || y < -size || x > this.width + size || y > this.height + size) continue;
      context.fillStyle = this.colours[i];
      context.beginPath();
      context.arc(x, y, size / 2, 0, 7);
      context.fill();
    }
    this.place();
  }

  /** Puts the thumbnails in their places. A thumbnail that stays keeps its element, and so its focus. */
  place() {
    const level = Math.floor(2 * Math.log2(this.zoom) + 1e-6);
    this.layer.style.setProperty("--size", `${Math.round(SIDE * grown(level))}px`);
    const seen = new Set();
    for (const i of this.levels.at(level)) {
      const [x, y] = this.screen(i);
      if (x < 0 || y < 0 || x > this.width || y > this.height) continue;
      seen.add(i);
      if (!this.pins.has(i)) this.pins.set(i, this.layer.appendChild(this.pin(i)));
      this.pins.get(i).style.transform = `translate(${x}px, ${y}px)`;
    }
    for (const [i, pin] of this.pins) {
      if (seen.has(i)) continue;
      if (pin === document.activeElement) this.frame.focus();
      pin.remove();
      this.pins.delete(i);
    }
  }

  pin(i) {
    const label = recall(this.keys[i]).name ?? `Image ${count(i + 1)}`;
    const link = el(
      "a",
      {
        class: "pin",
        href: searchFor(this.keys[i]),
        draggable: "false",
        "aria-label": `${label}, group ${this.cluster[i] + 1}`,
      },
      picture(thumb(this.keys[i])),
    );
    link.style.borderColor = this.colours[i];
    return link;
  }

  key(event) {
    const step = 80;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.step(1.5);
    else if (event.key === "-") this.step(1 / 1.5);
    else if (event.key === "0") this.step(0);
    else return;
    event.preventDefault();
  }

  at(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode ? 30 : 1);
    this.scale(Math.exp(-Math.max(-200, Math.min(200, pixels)) / (event.ctrlKey ? 100 : 400)), ...this.at(event));
  }

  /** One pressed pointer drags, two zoom. A pointer that is not pressed shows the dot below it. */
  pointer(event) {
    const [x, y] = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (event.type === "pointerdown" && event.button === 0) {
      this.pointers.set(event.pointerId, [x, y]);
      if (this.pointers.size === 1) this.path = 0;
    } else if (event.type === "pointermove" && before) {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      this.pointers.set(event.pointerId, [x, y]);
      this.path += Math.hypot(x - before[0], y - before[1]);
      if (other) this.pinch(before, [x, y], other);
      else this.move(before[0] - x, before[1] - y);
      if (this.path > 6) this.frame.setPointerCapture(event.pointerId);
    } else if (event.type !== "pointermove") this.pointers.delete(event.pointerId);
    this.frame.classList.toggle("dragged", this.pointers.size > 0 && this.path > 6);
    this.point(
      event.pointerType === "mouse" &&
        !this.pointers.size &&
        event.type !== "pointerleave" &&
        !event.target.closest(".pin")
        ? this.nearest(x, y)
        : null,
    );
  }

  pinch(before, now, other) {
    const apart = (point) => Math.max(Math.hypot(point[0] - other[0], point[1] - other[1]), 1);
    this.scale(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    this.move((before[0] - now[0]) / 2, (before[1] - now[1]) / 2);
  }

  nearest(x, y, reach = REACH) {
    let best = null;
    let least = reach ** 2;
    for (let i = 0; i < this.keys.length; i++) {
      const [dotX, dotY] = this.screen(i);
      const distance = (dotX - x) ** 2 + (dotY - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  /** Shows an image beside its dot. */
  point(i) {
    this.hover.hidden = i === null;
    this.frame.classList.toggle("pointing", i !== null);
    if (i === null) return;
    const [x, y] = this.screen(i);
    if (this.hover.dataset.key !== this.keys[i]) this.hover.replaceChildren(picture(thumb(this.keys[i])));
    this.hover.dataset.key = this.keys[i];
    const [left, top] = [Math.min(x + 12, this.width - 150), Math.min(y + 12, this.height - 150)]; // inside the frame
    this.hover.style.transform = `translate(${left}px, ${top}px)`;
  }

  /** A click on a dot searches; the click that ends a drag does nothing. */
  click(event) {
    if (this.path > 6 && event.detail) return void event.preventDefault();
    if (event.target.closest(".pin")) return;
    const i = this.nearest(...this.at(event));
    if (i !== null) go(searchFor(this.keys[i]));
  }
}

export async function map(section, view) {
  const title = heading("Map");
  const line = el("p", { class: "line" }, "Look-alikes lie close together");
  const wait = waiting();
  section.append(el("div", { class: "head" }, title, line), wait.node);
  const answer = await get(`${gallery()}/map`, {}, { signal: view.signal, working: wait.say });
  const atlas = new Atlas(answer);
  const zoom = el(
    "div",
    { class: "zoom", role: "group", "aria-label": "Zoom" },
    round("plus", "Zoom in", { onclick: () => atlas.step(1.5) }),
    round("minus", "Zoom out", { onclick: () => atlas.step(1 / 1.5) }),
    round("whole", "Show the whole map", { onclick: () => atlas.step(0) }),
  );
  wait.node.replaceWith(el("div", { class: "map" }, atlas.frame, zoom));
  const part = answer.shown < answer.total ? `${count(answer.shown)} of ` : "";
  line.textContent = `${part}${count(answer.total, "image")}, look-alikes close together`;
  announce(`Map of ${line.textContent}`);
}
