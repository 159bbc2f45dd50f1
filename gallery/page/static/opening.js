// Before the first images are there: says what embed.py does, and loads the page when it can show them.

const EVERY = 1000; // milliseconds between two looks
const status = document.getElementById("status");

async function look() {
  try {
    const { galleries, working } = await (await fetch("/api/galleries")).json();
    if (galleries.length) return location.reload();
    const sentence = `${working} …`;
    if (status.textContent !== sentence) status.textContent = sentence; // else a screen reader would say it each second
  } catch {
    status.textContent = "The server does not answer. Is it still running?";
  }
  setTimeout(look, EVERY);
}
look();
