// The map's canvas: a dot for each image. Thumbnails lie above it, as many as fit, and link to their neighbours.

import { count, el } from "./dom.js";
import { picture, recall, thumb } from "./grid.js";
import { isSelected } from "./select.js";
import { searchFor } from "./state.js";
import { grown, levels } from "./thin.js";

const SIDE = 56; // pixels of a thumbnail at a zoom of 1
const EDGE = 40; // pixels around the map at a zoom of 1
const CLOSEST = 64; // the largest zoom
const REACH = 14; // pixels from the pointer to a dot
const PALE = 0.16; // how much is left of dots that are not of the chosen group
const PALE_RING = 0.4; // the same of such dots that are selected
const PAUSE = 150; // milliseconds before names are asked for: not at every step of a drag

// Groups with close numbers get very different colours.
export const colour = (cluster) => `hsl(${(cluster * 137.508) % 360} 60% ${50 + ((cluster * 7) % 3) * 8}%)`;

/** Canvas, thumbnails and the window onto them. */
export class Atlas {
  /** g: the gallery. map: the server's answer. named(keys): asks for the names of images, which `recall` knows then. */
  constructor(g, { keys, x, y, cluster, groups }, named) {
    Object.assign(this, { g, keys, x, y, cluster, named, zoom: 1, left: 0, top: 0, pins: new Map() });
    this.groups = new Map(groups.map((group) => [group.id, group]));
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.layer = el("div", { class: "pins" });
    this.hover = el("div", { class: "hover", hidden: true, "aria-hidden": "true" });
    const keysDo = "Arrow keys move it, plus and minus zoom, Tab goes through the thumbnails.";
    const label = `Map of ${count(keys.length, "image")}. ${keysDo}`;
    const attributes = { class: "frame", tabindex: "0", role: "group", "aria-label": label };
    this.frame = el("div", attributes, this.canvas, this.layer, this.hover);
    this.colours = cluster.map(colour);
    new ResizeObserver(() => this.resize()).observe(this.frame);
    this.layer.addEventListener("focusin", () => this.point(this.focused()));
    this.layer.addEventListener("focusout", () => this.point(null));
    this.choose(null);
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
    this.thin();
    this.move(0, 0);
  }

  /** Keeps the height that the map has, whatever comes below it. */
  keep(on) {
    const { style, offsetHeight, clientHeight } = this.frame;
    if (!on) style.minHeight = "";
    else if (this.height) style.minHeight ||= `${this.height + offsetHeight - clientHeight}px`;
  }

  /** Makes the images of a group stand out; null: of all groups. The others are pale: nobody can point at or select them. */
  choose(group) {
    this.active = [];
    this.pale = [];
    for (const i of this.keys.keys()) (group === null || this.cluster[i] === group ? this.active : this.pale).push(i);
    if (this.px) this.thin();
    this.point(null);
    this.move(0, 0);
  }

  thin() {
    const of = (places) => this.active.map((i) => places[i]);
    this.levels = levels(of(this.px), of(this.py));
  }

  screen(i) {
    return [this.px[i] * this.zoom - this.left, this.py[i] * this.zoom - this.top];
  }

  /** Moves the window by (dx, dy) pixels, not beyond the map, and draws it soon. */
  move(dx, dy) {
    if (!this.px) return; // not in the page yet
    this.left = Math.min(Math.max(this.left + dx, 0), this.width * (this.zoom - 1));
    this.top = Math.min(Math.max(this.top + dy, 0), this.height * (this.zoom - 1));
    this.waiting ??= requestAnimationFrame(() => this.draw());
  }

  /** Zooms at the focused thumbnail, or else at the dot nearest to the middle, so that an image stays in view. */
  step(factor) {
    const middle = [this.width / 2, this.height / 2];
    const i = this.focused() ?? this.nearest(...middle, Infinity);
    this.scale(factor, ...(i === null ? middle : this.screen(i)));
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
    context.strokeStyle = getComputedStyle(this.frame).color;
    context.lineWidth = 2;
    const size = Math.min(4.5 + this.zoom / 2, 9);
    for (const [rows, alpha] of [[this.pale, PALE], [this.active, 1]]) {
      for (const i of rows) {
        const [x, y] = this.screen(i);
        if (x < -size || y < -size || x > this.width + size || y > this.height + size) continue;
        const ringed = isSelected(this.g, this.keys[i]);
        context.globalAlpha = ringed ? Math.max(alpha, PALE_RING) : alpha;
        context.fillStyle = this.colours[i];
        context.beginPath();
        context.arc(x, y, size / 2 + (ringed ? 1 : 0), 0, 7);
        context.fill();
        if (ringed) context.stroke();
      }
    }
    this.place();
  }

  /** Puts the thumbnails in their places. A thumbnail that stays keeps its element, and so its focus. */
  place() {
    const level = Math.floor(2 * Math.log2(this.zoom) + 1e-6);
    this.side = Math.round(SIDE * grown(level));
    this.layer.style.setProperty("--size", `${this.side}px`);
    const seen = new Set();
    for (const i of this.levels.at(level).map((place) => this.active[place])) {
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
    if (this.pins.has(this.pointed)) this.point(this.pointed); // it has moved
    this.label();
    this.name();
  }

  pin(i) {
    const link = el("a", { class: "pin", href: searchFor(this.keys[i]), draggable: "false" }, picture(thumb(this.keys[i])));
    link.style.borderColor = this.colours[i];
    return link;
  }

  /** The name of an image, with its folder where several images have that name; undefined as long as it is not known. */
  nameOf(i) {
    const { name, folder } = recall(this.keys[i]);
    return folder ? `${name} in ${folder}` : name;
  }

  groupOf(i) {
    return this.groups.get(this.cluster[i]).name;
  }

  /** Says what each thumbnail shows. */
  label() {
    for (const [i, pin] of this.pins) {
      const group = this.groupOf(i).startsWith("Group ") ? this.groupOf(i) : `group ${this.groupOf(i)}`;
      const selected = isSelected(this.g, this.keys[i]);
      pin.ariaLabel = `${this.nameOf(i) ?? `Image ${count(i + 1)}`}, ${group}${selected ? ", selected" : ""}`;
      pin.classList.toggle("marked", selected);
    }
  }

  /** Asks for the names that are in sight and not known. */
  name() {
    clearTimeout(this.naming);
    this.naming = setTimeout(async () => {
      const missing = [...this.pins.keys(), ...(this.pointed === null ? [] : [this.pointed])].filter((i) => !this.nameOf(i));
      if (!missing.length) return;
      await this.named(missing.map((i) => this.keys[i])).catch(() => {}); // without a name, the group is still said
      this.label();
      this.point(this.pointed);
    }, PAUSE);
  }

  /** The image whose thumbnail has the focus, by keyboard; null if there is none. */
  focused() {
    return [...this.pins].find(([, pin]) => pin.matches(":focus-visible"))?.[0] ?? null;
  }

  /** The image of a thumbnail, or of the nearest dot that is not pale; null if none is within reach. */
  under(target, x, y) {
    const pin = target.closest(".pin");
    return pin ? [...this.pins].find(([, other]) => other === pin)[0] : this.nearest(x, y);
  }

  nearest(x, y, reach = REACH) {
    let best = null;
    let least = reach ** 2;
    for (const i of this.active) {
      const [dotX, dotY] = this.screen(i);
      const distance = (dotX - x) ** 2 + (dotY - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best;
  }

  /** The images in a part of the window that are not pale, by default in the whole window. */
  within([left, top, right, bottom] = [0, 0, this.width, this.height]) {
    const inside = ([x, y]) => x >= left && x <= right && y >= top && y <= bottom;
    return this.active.filter((i) => inside(this.screen(i))).map((i) => this.keys[i]);
  }

  /** Shows an image beside its dot or thumbnail, with its name and group. */
  point(i) {
    this.pointed = i;
    this.hover.hidden = i === null;
    this.frame.classList.toggle("pointing", i !== null);
    if (i === null) return;
    const state = `${this.keys[i]} ${this.nameOf(i)}`;
    if (this.hover.dataset.state !== state) {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = this.colours[i];
      const group = el("span", { class: "of" }, swatch, this.groupOf(i));
      const name = el("span", { class: "name" }, this.nameOf(i) ?? " ");
      const does = el("span", { class: "does" }, "Click: find images like this");
      this.hover.replaceChildren(picture(thumb(this.keys[i])), name, group, does);
      this.hover.dataset.state = state;
      if (!this.nameOf(i)) this.name();
    }
    const [x, y] = this.screen(i);
    const away = (this.pins.has(i) ? this.side / 2 : 0) + 12;
    const { offsetWidth: width, offsetHeight: height } = this.hover;
    const left = x + away + width > this.width ? x - away - width : x + away; // beside it, inside the frame
    const bar = document.querySelector(".selection:not([hidden])")?.getBoundingClientRect().top ?? Infinity;
    const bottom = Math.min(this.height, bar - this.frame.getBoundingClientRect().top); // the bar would cover it
    const top = Math.max(Math.min(y - height / 2, bottom - height - 4), 4);
    this.hover.style.transform = `translate(${Math.max(left, 4)}px, ${top}px)`;
  }
}
