// The log of a container: lines as they come, search, and following the end until the reader scrolls away.
import { clockTime } from "./time.js";

const LIMIT = 5000;
const bad = /\b(\w*error|\w*exception|traceback|fatal|killed|panic)\b/i;

function box() { return document.querySelector("[data-log]"); }
function following() { return document.querySelector("[data-log-follow]")?.getAttribute("aria-pressed") === "true"; }

/** @param {{text: string, reset: boolean, note?: string, end?: boolean}} message */
export function write(message) {
  const target = box();
  if (!target) return;
  if (message.reset) target.replaceChildren();
  if (message.note) note(target, message.note);
  const lines = document.createDocumentFragment();
  for (const line of message.text.split("\n")) {
    if (!line) continue;
    const space = line.indexOf(" ");
    const row = document.createElement("div");
    const stamp = line.slice(0, space), text = line.slice(space + 1);
    const time = document.createElement("time");
    time.dateTime = stamp;
    time.textContent = clockTime(stamp);
    time.title = stamp;
    const span = document.createElement("span");
    span.textContent = text;
    if (bad.test(text)) row.className = "err";
    row.append(time, span);
    lines.append(row);
  }
  target.append(lines);
  while (target.childElementCount > LIMIT) target.firstElementChild?.remove();
  if (message.end && !target.childElementCount) note(target, target.getAttribute("data-log") || "");
  search();
  if (following()) target.scrollTop = target.scrollHeight;
}

/** @param {Element} target @param {string} words */
function note(target, words) {
  const row = document.createElement("div");
  row.className = "note";
  row.textContent = words;
  target.append(row);
}

/** Show only the lines that hold what was typed. */
export function search() {
  const target = box();
  const field = /** @type {HTMLInputElement | null} */ (document.querySelector("[data-log-search]"));
  if (!target || !field) return;
  const wanted = field.value.toLowerCase();
  let count = 0;
  for (const row of target.children) {
    const hit = !wanted || (row.textContent || "").toLowerCase().includes(wanted);
    row.classList.toggle("off", !hit);
    if (hit) count += 1;
  }
  const told = document.querySelector("[data-log-count]");
  if (told) told.textContent = (told.getAttribute("data-log-count") || "#").replace("#", String(count));
}

document.addEventListener("input", (event) => {
  if (event.target instanceof Element && event.target.matches("[data-log-search]")) search();
});
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-log-follow]") : null;
  if (!button) return;
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(on));
  const target = box();
  if (on && target) target.scrollTop = target.scrollHeight;
});
document.addEventListener("wheel", (event) => {
  const target = event.target instanceof Element ? event.target.closest("[data-log]") : null;
  if (target && event.deltaY < 0) document.querySelector("[data-log-follow]")?.setAttribute("aria-pressed", "false");
}, { passive: true });
