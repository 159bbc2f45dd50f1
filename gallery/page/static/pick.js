// Pictures from outside: chosen as files, dropped anywhere on the page, or pasted.

import { MOST, Problem, upload } from "./api.js";
import { announce, count, notice } from "./dom.js";
import { asked, cutOff, go, link, read } from "./state.js";

const input = document.getElementById("file");
const veil = document.getElementById("drop");
let first = true; // no picture was read since the page was loaded

/** Uploads pictures and searches with them; leaves out pictures that fail. `also`: adds to the current query. */
async function find(files, also = false) {
  if (!files.length) return;
  const before = also && read().view === "search" ? asked() : [];
  if (before.length + files.length > MOST)
    return notice(`${count(files.length)} are too many. One query has up to ${MOST} images: choose fewer.`);
  notice(`Reading the picture${files.length > 1 ? "s" : ""}.${first ? " The first one takes longer: the net is loaded." : ""}`);
  document.body.classList.add("reading"); // the notice comes a moment later: it would only flash where this is quick
  const results = await Promise.allSettled(files.map(upload));
  document.body.classList.remove("reading");
  notice(null);
  const tokens = results.filter(({ value }) => value).map(({ value }) => ["upload", value]);
  const failed = failures(files, results);
  first &&= !tokens.length;
  const say = () => (failed ? notice(failed) : announce(`${count(tokens.length, "picture")} read`));
  if (!tokens.length) return say();
  addEventListener("popstate", say, { once: true }); // a new view hides earlier messages
  go(link("search", [...before, ...tokens, ...(before.length ? cutOff() : [])]));
}

/** A line for each reason why files failed, with their names. */
function failures(files, results) {
  const names = new Map(); // reason -> names
  results.forEach(({ reason }, i) => {
    if (!reason) return;
    if (!(reason instanceof Problem)) throw reason;
    names.set(reason.message, [...(names.get(reason.message) ?? []), files[i].name]);
  });
  return [...names].map(([reason, files]) => `${files.join(", ")}: ${reason}`).join("\n");
}

/** Starts listening. Buttons with data-pick="new" or "add" open the choice of files. */
export function listen() {
  let also = false;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pick]");
    if (!button) return;
    also = button.dataset.pick === "add";
    input.click();
  });
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // the same file can be chosen again
    find(files, also);
  });
  document.addEventListener("paste", (event) => find([...event.clipboardData.files]));

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const show = (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser would open the file
    veil.hidden = false;
  };
  document.addEventListener("dragenter", show);
  document.addEventListener("dragover", show);
  document.addEventListener("dragleave", (event) => (veil.hidden = veil.hidden || event.relatedTarget === null));
  document.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) find(files);
    else notice("This is not a file. Save the picture first, then drop its file.");
  });
}
