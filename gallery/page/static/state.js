// The page's state is its address: #/view?name=value&... So links, the back button and bookmarks simply work.

/** The galleries, from the header of page.html. */
export const galleries = [...document.querySelectorAll(".switch [data-count]")].map(({ dataset }) => ({
  name: dataset.name,
  count: Number(dataset.count),
  bad: Number(dataset.bad), // files that could not be read
  left: Number(dataset.left), // files that are no images, or that a rule leaves out
  alike: Number(dataset.alike), // the lowest similarity of look-alikes
  of: Number(dataset.of), // the number of all images, while they are embedded for the first time; else 0
  work: JSON.parse(dataset.work), // what embed.py does: {sentence, done, images}, or null
}));

export const { root, folder } = document.body.dataset;

/** The path of an image below the root folder, if the server tells that folder. */
export const wholePath = (path) => (root ? `${root.replace(/\/$/, "")}/${path}` : path);

/** "#/search?image=1&image=2" -> {view: "search", query: URLSearchParams}. */
export function read(hash = location.hash) {
  const [view, query] = hash.replace(/^#\/?/, "").split("?");
  return { view: view || "groups", query: new URLSearchParams(query) };
}

/** The number of the gallery that is shown; "all" (side by side) counts as the first. */
export function gallery(query = read().query) {
  return galleries[query.get("g")] ? Number(query.get("g")) : 0;
}

/** The numbers of the galleries that a search shows: one, or all of them side by side. */
export function shown(query) {
  return query.get("g") === "all" ? galleries.map((_, g) => g) : [gallery(query)];
}

/** An address in the gallery that is shown. pairs: [name, value] or an object; an own `g` wins. */
export function link(view, pairs = {}) {
  const query = new URLSearchParams(pairs);
  const g = read().query.get("g");
  if (!query.has("g") && g && (g !== "all" || view === "search")) query.set("g", g);
  if (query.get("g") === "0") query.delete("g");
  return `#/${view}${String(query) && "?"}${query}`;
}

/** The images and uploads of the current query, as pairs. */
export function asked(query = read().query) {
  return [...query].filter(([name]) => name === "image" || name === "upload");
}

/** The cut-off of a search, in per cent of nearest neighbours, as pairs: it stays while the query changes. */
export function cutOff(query = read().query) {
  const least = query.get("least") ?? "";
  return /^([1-9][0-9]?|100)$/.test(least) ? [["least", least]] : [];
}

export const searchFor = (key) => link("search", { image: key });

/** The address of the query with one more image; outside of a search, of a new query. */
export function searchAlso(key) {
  const pairs = read().view === "search" ? asked() : [];
  const more = pairs.some(([, value]) => value === key) ? [] : [["image", key]];
  return link("search", [...pairs, ...more, ...(pairs.length ? cutOff() : [])]);
}

let stepping = false; // a step back, asked for and not yet done
addEventListener("popstate", () => (stepping = false));

/** Steps back in the history. The browser does so a moment later. */
export function stepBack() {
  stepping = true;
  history.back();
}

/** Does something now, or after a step back that is under way, which would undo it. */
export function afterStep(action) {
  if (stepping) addEventListener("popstate", () => setTimeout(action), { once: true });
  else action();
}

/** Goes to an address. The large view's step in the history is replaced. */
export function go(hash) {
  afterStep(() => {
    if (history.state?.large) location.replace(hash);
    else location.hash = hash;
  });
}

/** Changes the address without a step in the history, as when a slider moves. */
export function amend(name, value) {
  const { view, query } = read();
  if (value === null) query.delete(name);
  else query.set(name, value);
  history.replaceState(history.state, "", link(view, query));
}
