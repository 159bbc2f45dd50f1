// The start view: a card for each group of the folder's images. Also the images of one group.

import { get } from "./api.js";
import { announce, count, el, empty, heading, icon } from "./dom.js";
import { grid, pager, picture, settle, thumb, tile, waiting } from "./grid.js";
import { galleries, gallery, link, read } from "./state.js";

const PAGE = 60;

function invitation() {
  return el(
    "button",
    { class: "invitation", type: "button", "data-pick": "new" },
    icon("picture"),
    el(
      "span",
      {},
      el("strong", {}, "Find by picture: "),
      el("span", { class: "mouse" }, "drop one anywhere on this page, paste it, or choose a file"),
      el("span", { class: "touch" }, "choose one or take a photo"),
    ),
  );
}

/** A line about the quality of the results. It opens to say how this is known. */
function whatIsKnown() {
  const { line, how } = document.body.dataset;
  return line ? el("details", { class: "known" }, el("summary", {}, line), el("p", {}, how)) : null;
}

function card(cluster) {
  const pictures = cluster.items.map((item) => picture(thumb(item.key)));
  return el(
    "li",
    { class: "card" },
    el(
      "a",
      { href: link("group", { id: cluster.id }), tabindex: "-1", draggable: "false" },
      el("span", { class: "collage", "data-pictures": pictures.length }, pictures),
      el("span", { class: "name", title: cluster.name }, cluster.name),
      el("span", { class: "size" }, count(cluster.size, "image")),
    ),
  );
}

/** Fills a list part by part, with a button for more. fetch(start) gives {total, parts}. Returns the first answer. */
async function fill(section, list, wait, fetch, failed) {
  const first = await fetch(0);
  wait.node.remove();
  const add = ({ total, parts }) => {
    list.append(...parts);
    settle(list);
    return parts.length ? total - list.children.length : 0;
  };
  const more = pager(async () => add(await fetch(list.children.length)), failed, list);
  section.append(list, more.button);
  more.update(add(first));
  return first;
}

/** The images of a gallery that embed.py is still at. */
async function unfinished(section, view, g) {
  const title = heading(`${count(galleries[g].count)} of ${count(galleries[g].of, "image")}`);
  const list = grid("Images");
  const wait = waiting();
  section.append(el("div", { class: "head" }, title, unreadableLink(g)), invitation(), wait.node);
  const fetch = async (start) => {
    const { total, items } = await get(`${g}/images`, { start, count: PAGE }, { signal: view.signal });
    return { total, parts: items.map((item) => tile(item)) };
  };
  await fill(section, list, wait, fetch, view.failed);
  announce(title.textContent);
}

export async function groups(section, view) {
  const g = gallery();
  if (galleries[g].of) return unfinished(section, view, g);
  const title = heading(count(galleries[g].count, "image"));
  const list = grid("Groups of images", "cards");
  const wait = waiting("cards");
  const way = el("a", { class: "quiet", href: link("duplicates") }, "Look for duplicates");
  const copies = galleries[g].count > 1 ? way : null;
  const head = el("div", { class: "head" }, title, copies, unreadableLink(g));
  section.append(head, invitation(), wait.node);
  const { total } = await fill(
    section,
    list,
    wait,
    async (start) => {
      const answer = await get(`${g}/clusters`, { start, count: PAGE }, { signal: view.signal, working: wait.say });
      return { total: answer.total, parts: answer.clusters.map(card) };
    },
    view.failed,
  );
  section.append(whatIsKnown() ?? "");
  title.textContent = `${count(galleries[g].count, "image")} in ${count(total, "group")}`;
  if (galleries[g].count === 1)
    section.append(
      empty(
        "This folder has one image.",
        "Put more beside it and embed the folder again: then look-alikes have company.",
      ),
    );
  announce(title.textContent);
}

function unreadableLink(g) {
  const { bad, left } = galleries[g];
  const words = [bad && `${count(bad, "file")} could not be read`, left && `${count(left, "file")} left out`].filter(Boolean);
  return words.length ? el("a", { class: "quiet", href: link("unreadable") }, words.join(", ")) : null;
}

export async function group(section, view) {
  const g = gallery();
  const id = read().query.get("id");
  const title = heading("A group");
  const line = el("p", { class: "line" });
  const list = grid("Images of the group, the most typical first");
  const wait = waiting();
  section.append(
    el("a", { class: "quiet", href: link("groups") }, "All groups"),
    el("div", { class: "head" }, title, line),
    wait.node,
  );
  const { total, name } = await fill(
    section,
    list,
    wait,
    async (start) => {
      const answer = await get(
        `${g}/clusters/${encodeURIComponent(id)}`,
        { start, count: PAGE },
        { signal: view.signal, working: wait.say },
      );
      return { ...answer, parts: answer.items.map((item) => tile(item)) };
    },
    view.failed,
  );
  title.textContent = name;
  line.textContent = `${count(total, "image")}, the most typical first`;
  announce(`${name}: ${line.textContent}`);
}

export async function unreadable(section, view) {
  const g = gallery();
  const title = heading("Files that could not be read");
  section.append(el("a", { class: "quiet", href: link("groups") }, "All groups"), title);
  const { items, left_out: others } = await get(`${g}/bad`, {}, view);
  section.append(items.length ? reasons(items) : empty("Every image could be read."));
  if (others.length) section.append(el("h2", {}, "Remarks, and files left out"), reasons(others));
  announce(count(items.length + others.length, "file"));
}

function reasons(items) {
  return el(
    "ul",
    { class: "bad" },
    items.map(({ path, reason }) =>
      el("li", {}, el("span", { class: "path" }, path), el("span", { class: "reason" }, reason)),
    ),
  );
}
