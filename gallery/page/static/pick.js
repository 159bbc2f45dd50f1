// Pictures from outside: chosen as files, dropped anywhere on the page, or pasted.

import { Problem, upload } from "./api.js";
import { announce, count, notice } from "./dom.js";
import { asked, go, link, read } from "./state.js";

const input = document.getElementById("file");
const veil = document.getElementById("drop");

/** Uploads the pictures and searches for images like them; `also`: adds them to the current query. */
async function find(files, also = false) {
  if (!files.length) return;
  const before = also && read().view === "search" ? asked() : [];
  notice(null);
  announce("Reading the picture");
  document.body.classList.add("reading");
  try {
    const tokens = await Promise.all(files.map(upload));
    go(link("search", [...before, ...tokens.map((token) => ["upload", token])]));
    if (files.length > 1) announce(`${count(files.length, "picture")} read`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    notice(error.message);
  } finally {
    document.body.classList.remove("reading");
  }
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
