// Requests to the server. An error becomes a Problem: a sentence that the user can act on.

import { keepUploadName, uploadNames } from "./kept.js";

export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.final = status >= 400 && status < 500 && status !== 408; // the same request would fail again
    this.lost = status === 410; // the server has forgotten an upload, because it was started anew
  }
}

const LARGEST = 20 * 2 ** 20; // bytes of an upload; beyond them the server hangs up, without a reason for the browser
const sent = new Map(); // token of an upload -> its file
const urls = new Map(); // token of an upload -> the address of its file in this page

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is it still running?");
  }
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem(`The server's answer cannot be read (status ${response.status}).`);
  });
  if (!response.ok) throw new Problem(answer.error, response.status);
  return { answer, waits: response.status === 202 };
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/**
 * Returns the JSON answer of a GET, or of `options`. While the server works, calls working(sentence, share that is done), and
 * asks again each second.
 */
export async function get(path, query, { signal, working = () => {}, ...options } = {}) {
  for (;;) {
    const { answer, waits } = await ask(`/api/${path}?${new URLSearchParams(query)}`, { signal, ...options });
    if (!waits) return answer;
    working(answer.working, answer.done);
    await pause(1000, signal);
  }
}

const post = { method: "POST", headers: { "X-Requested-With": "page" } };

/** Sends a JSON object, and tells the views that marks have changed. */
async function change(path, object) {
  const { answer } = await ask(`/api/${path}`, { ...post, body: JSON.stringify(object) });
  document.dispatchEvent(new Event("marked"));
  return answer;
}

/** Remembers that these images are no duplicates of each other. Returns the mark, by which this can be taken back. */
export const notDuplicates = async (gallery, keys) => (await change(`${gallery}/not_duplicate`, { keys })).mark;

/** Takes a mark back. */
export const unmark = (gallery, mark) => change(`${gallery}/unmark`, { mark });

/** Asks which of these images are still there, and which are neither there nor moved by a script: {keys, lost, stamp}. */
export async function present(gallery, keys, stamp) {
  return (await ask(`/api/${gallery}/present`, { ...post, body: JSON.stringify({ keys, stamp }) })).answer;
}

/** Asks for these images as items, with the stamp of the gallery: {items, stamp}. Those that are gone are left out. */
export const itemsOf = (gallery, keys, signal) =>
  get(`${gallery}/items`, {}, { signal, ...post, body: JSON.stringify({ keys }) });

/** Asks for a file about the images in `choice` (keys, stamp). what: "list" or "script". */
export const fileOf = (gallery, what, query, choice, signal) =>
  get(`${gallery}/${what}`, query, { signal, ...post, body: JSON.stringify(choice) });

/** Asks what becomes of the images in `choice`. query: of the groups that are listed. Returns lists of keys: {alone, unlisted}. */
export const weigh = (gallery, query, choice, signal) => fileOf(gallery, "weigh", query, choice, signal);

/** The number of images and uploads that one query may have. */
export const MOST = Number(document.body.dataset.queries);

/** Uploads a picture and returns the token by which a query names it. */
export async function upload(file) {
  if (file.size > LARGEST) throw new Problem("This is larger than 20 MB. Make it smaller first.");
  const { answer } = await ask("/api/upload", { ...post, body: file });
  sent.set(answer.upload, file);
  keepUploadName(answer.upload, file.name);
  return answer.upload;
}

/** The file name of an upload, also after a reload of this tab. */
export const uploadName = (token) => sent.get(token)?.name ?? uploadNames().get(token) ?? "your picture";

/** Uploads again what the page still has of a query. Returns its pairs with the new tokens, or null if a file is missing. */
export async function uploadAgain(pairs) {
  if (pairs.some(([type, token]) => type === "upload" && !sent.has(token))) return null;
  return Promise.all(pairs.map(async ([type, value]) => [type, type === "upload" ? await upload(sent.get(value)) : value]));
}

/** An upload as the large view shows it: the file itself while the page has it, else the server's thumbnail. */
export function uploadItem(token) {
  const small = `/upload/${token}`;
  if (sent.has(token) && !urls.has(token)) urls.set(token, URL.createObjectURL(sent.get(token)));
  return { name: uploadName(token), path: "", source: urls.get(token) ?? small, small };
}
