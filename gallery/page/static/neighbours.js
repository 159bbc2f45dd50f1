// The neighbours of one or more images: the query, a slider that hides less similar images, a grid for each gallery.

import { Problem, get, uploadAgain, uploadItem, uploadName } from "./api.js";
import { announce, count, el, empty, heading, icon, problem } from "./dom.js";
import { grid, NEIGHBOURS, onScale, pager, picture, recall, remember, settle, thumb, tile, waiting } from "./grid.js";
import { amend, asked, cutOff, galleries, link, read, shown } from "./state.js";
import { showLarge } from "./viewer.js";

const PAGE = 60;
const NOTHING = "Nothing in this folder seems to be like it.";

function named(pairs) {
  if (pairs.length > 1) return `Images like these ${pairs.length}`;
  const [[type, value]] = pairs;
  return `Images like ${type === "upload" ? uploadName(value) : (recall(value).name ?? "this one")}`;
}

function chip(pair, pairs) {
  const [type, value] = pair;
  const { name = "this image" } = type === "upload" ? { name: uploadName(value) } : recall(value);
  const rest = pairs.filter((other) => other !== pair);
  const image = picture(type === "upload" ? `/upload/${value}` : thumb(value));
  const look = {
    class: "look",
    type: "button",
    "aria-label": `Show ${name} large`,
    onclick: () => showLarge(type === "upload" ? uploadItem(value) : recall(value)),
  };
  return el(
    "li",
    { class: "chip" },
    el("button", look, image),
    el("span", { class: "name", title: name }, name),
    el(
      "a",
      {
        class: "round",
        href: rest.length ? link("search", [...rest, ...cutOff()]) : link("groups"),
        "aria-label": `Remove ${name} from the query`,
        title: "Remove",
      },
      icon("close"),
    ),
  );
}

/** The images of the query; drawn again when their names have arrived. */
function chips(pairs) {
  return el(
    "ul",
    { class: "chips", "aria-label": "The query" },
    pairs.map((pair) => chip(pair, pairs)),
    el("li", {}, el("button", { class: "button", type: "button", "data-pick": "add" }, icon("plus"), "Add a picture")),
  );
}

/** A grid of the results from one gallery. */
class Results {
  constructor(g, pairs, view, changed) {
    Object.assign(this, { g, pairs, view, changed, least: 0, ended: false, percents: [] });
    this.list = grid(`Similar images, ${galleries[g].name}`);
    this.wait = waiting();
    this.none = empty("Nothing is that similar.", "Move the slider to the left to see more.");
    this.none.hidden = true;
    this.remark = el("p", { class: "remark", hidden: true }, el("strong", {}, NOTHING), " These images are the nearest.");
    this.more = pager(() => this.load(), view.failed, this.list);
    this.more.button.hidden = true;
    this.summary = el("p", { class: "line", "aria-live": "polite" });
    const head = view.columns > 1 ? el("div", { class: "head" }, el("h2", {}, galleries[g].name), this.summary) : null;
    this.node = el("section", { class: "column" }, head, this.remark, this.wait.node, this.list, this.none, this.more.button);
  }

  /** Loads the first images, or says in this column why not. Returns whether they are there. */
  async begin() {
    try {
      await this.load();
      this.view.arrived(this.answer);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.lost && (await this.view.resent())) return false; // another view takes the place of this one
      this.wait.node.remove();
      const again = () => {
        failure.replaceWith(this.wait.node);
        this.begin().catch(this.view.failed);
      };
      const failure = problem(error.message, error.final ? null : again, link("groups"));
      this.node.append(failure);
    }
    return Boolean(this.answer);
  }

  async load() {
    const start = this.list.children.length;
    const pairs = [...this.pairs, ["start", start], ["count", PAGE]];
    const answer = await get(`${this.g}/search`, pairs, { signal: this.view.signal, working: this.wait.say });
    this.wait.node.remove();
    this.list.append(...answer.items.map((item) => tile(item)));
    this.total = answer.total;
    this.ended = answer.items.length < PAGE;
    this.answer = answer;
    this.remark.hidden = !answer.nothing_like_it;
    this.percents.push(...answer.items.map((item) => item.closer_than ?? 100)); // without a scale, none is hidden
    this.scaled ||= answer.items.some((item) => item.closer_than !== null);
    this.changed();
    return this.left();
  }

  /** The number of images still to load; 0 while the last loaded image is hidden. */
  left() {
    return this.ended || this.percents.at(-1) < this.least ? 0 : Math.max(this.total - this.list.children.length, 0);
  }

  /** Hides images that are more similar than fewer than `least` per cent of neighbours, and says how many are shown. */
  hide(least) {
    this.least = least;
    let kept = 0;
    this.percents.forEach((percent, i) => {
      this.list.children[i].hidden = percent < least;
      kept += percent >= least;
    });
    this.none.hidden = kept > 0;
    settle(this.list);
    this.more.update(this.left());
    const first = kept === this.percents.length ? "first " : "";
    this.summary.textContent = kept === this.total ? `all ${count(kept)}` : `${first}${count(kept)} of ${count(this.total)}`;
  }
}

/** The slider, which has the gallery's scale, and its number. At its left end it hides nothing. */
function threshold(results) {
  let least = cutOff().length ? Number(cutOff()[0][1]) : 0;
  const number = el("output", { for: "least" });
  const slider = el("input", {
    id: "least",
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    value: least,
    oninput: moved,
  });
  const node = el(
    "div",
    { class: "tools scale", title: NEIGHBOURS },
    el("label", { for: "least" }, "At least this similar"),
    slider,
    number,
    results.length > 1 ? null : results[0].summary,
  );

  function moved() {
    least = Number(slider.value);
    amend("least", least || null);
    update();
  }

  function update() {
    number.textContent = least ? onScale(least) : "no limit";
    slider.setAttribute("aria-valuetext", number.textContent);
    for (const result of results) if (result.percents.length) result.hide(least);
  }
  return { node, update };
}

/** After the server was started anew: sends the uploads of a query again. Returns whether the new query is on its way. */
async function sendAgain(pairs) {
  const now = await uploadAgain(pairs);
  if (now) location.replace(link("search", [...now, ...cutOff()]));
  return now !== null;
}

export async function search(section, view) {
  const pairs = asked();
  const title = heading(pairs.length ? named(pairs) : "Find images");
  section.append(title);
  if (!pairs.length)
    return void section.append(
      empty("There is no image to compare with.", "Choose one of the groups, or a picture of yours."),
    );
  const shownGalleries = shown(read().query);
  let query = chips(pairs);
  const arrived = (answer) => {
    for (const item of answer.queries) if (item.key) remember(item);
    title.textContent = named(pairs);
    const complete = chips(pairs); // the answer has their names
    query.replaceWith(complete);
    query = complete;
    slider.node.hidden = !results.some(({ scaled }) => scaled);
  };
  let sending = null; // the columns share it
  const resent = () => (sending ??= sendAgain(pairs));
  const results = shownGalleries.map(
    (g) => new Results(g, pairs, { ...view, arrived, resent, columns: shownGalleries.length }, () => slider.update()),
  );
  const slider = threshold(results);
  section.append(
    query,
    slider.node,
    el(
      "div",
      { class: results.length > 1 ? "columns" : "" },
      results.map((result) => result.node),
    ),
  );
  const whole = await Promise.all(results.map((result) => result.begin()));
  slider.node.hidden ||= !whole.includes(true);
  if (results[0].answer && !results[0].answer.items.length)
    section.append(empty("There is no other image.", "This folder has nothing else to compare with."));
  const counts = results.map((result) => count(result.percents.length, "image")).join(", ");
  const nothing = results.every((result) => result.answer?.nothing_like_it);
  announce(`${title.textContent}: ${nothing ? NOTHING : `${counts} found`}`);
  return whole.every(Boolean);
}
