// Wires a page: links without reloading, the live stream, time, keys, copying, the theme.
import { connect, disconnect } from "./live.js";
import { write } from "./log.js";
import { morph } from "./morph.js";
import { clear } from "./ticks.js";
import { localise, tick } from "./time.js";

const notice = document.getElementById("notice");
let fetching = 0;
let asked = 0;

const SHOWN = 8000;
let fading = 0;
/** @param {string} words "" hides it @param {boolean} passing whether it goes by itself after a while */
function tell(words, passing = false) {
  if (!notice) return;
  clearTimeout(fading);
  notice.textContent = words;
  notice.hidden = !words;
  if (passing) fading = setTimeout(() => tell(""), SHOWN);
}

/** @param {string} name @returns {string} what the page says in the reader's language */
function word(name) {
  return notice?.getAttribute(`data-${name}`) || "";
}

function changed() {
  localise(document);
  tick(again);
  terminals();
}

/** @type {Promise<{sync: () => Promise<void>}> | null} loaded with the first page that has a terminal */
let terminal = null;
function terminals() {
  if (!terminal && !document.querySelector("[data-terminal]")) return;
  terminal ??= import("./terminal.js");
  terminal.then((module) => module.sync()).catch(() => tell(word("no-terminal")));
}

/** In a narrow window the navigation is one line that scrolls: where the reader is stays in sight. */
function here() {
  document.querySelector(".nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

let away = false;
function listen() {
  connect({
    page: changed,
    log: write,
    lost: () => { away = true; tell(word("lost")); },
    back: () => { if (away) tell(""); away = false; }  // what an action said stays
  });
}

/** A running bar has come to the edge: the server draws a longer axis. */
function again() {
  if (Date.now() - asked < 1500) return;
  asked = Date.now();
  visit(location.href, "none");
}

/** @param {string} url @param {"push" | "replace" | "none"} history */
async function visit(url, history) {
  const number = ++fetching;
  let answer;
  try {
    answer = await fetch(url, { headers: { accept: "text/html" } });
  } catch {
    tell(word("silent"));
    return;
  }
  if (number !== fetching) return;
  if (answer.status === 401 || !(answer.headers.get("content-type") || "").startsWith("text/html")) {
    location.assign(url);
    return;
  }
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (number !== fetching) return;
  const shell = document.getElementById("shell"), wanted = next.getElementById("shell");
  if (!shell || !wanted) { location.assign(url); return; }
  const elsewhere = new URL(url, location.href).pathname !== location.pathname;
  if (history === "push") window.history.pushState(null, "", url);
  if (history === "replace") window.history.replaceState(null, "", url);
  document.title = next.title;
  morph(shell, wanted);
  if (elsewhere) document.getElementById("main")?.scrollTo(0, 0);
  changed();
  here();
  if (history !== "none") listen();
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const copy = target.closest("[data-copy]");
  if (copy) {
    navigator.clipboard.writeText(copy.getAttribute("data-copy") || "").then(() => {
      const before = copy.textContent;
      copy.textContent = word("copied");
      setTimeout(() => { copy.textContent = before; }, 1200);
    }, () => tell(word("copy")));
    return;
  }
  if (target.closest("[data-theme-toggle]")) { theme(); return; }
  const language = target.closest("[data-language]")?.getAttribute("data-language");
  if (language) {
    document.cookie = `lang=${language}; path=/; max-age=31536000; samesite=lax`;
    location.reload();
    return;
  }
  const link = target.closest("a[href]");
  if (!link || link.hasAttribute("data-plain") || link.hasAttribute("target")) return;
  const href = link instanceof SVGAElement ? link.href.baseVal : link.getAttribute("href") || "";
  if (!href.startsWith("/") && !href.startsWith("?")) return;
  event.preventDefault();
  if (!away) tell("");
  visit(href, "push");
});

addEventListener("popstate", () => { visit(location.href, "replace"); });
document.addEventListener("visibilitychange", () => { if (document.hidden) disconnect(); else listen(); });

/** @param {HTMLFormElement} form @param {"push" | "replace"} history */
function submit(form, history) {
  const query = new URLSearchParams();
  for (const [key, value] of new FormData(form)) if (value) query.set(key, String(value));
  visit(`${form.getAttribute("action")}${query.size ? `?${query}` : ""}`, history);
}
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.method === "dialog") return;
  event.preventDefault();
  if (form.method === "post") post(form, event.submitter);
  else submit(form, "push");
});

/** Ask the person. @param {string} words @returns {Promise<boolean>} */
function sure(words) {
  return new Promise((answer) => {
    const dialog = document.createElement("dialog");
    dialog.className = "panel ask";
    const text = document.createElement("p"), row = document.createElement("form");
    text.textContent = words;
    row.method = "dialog";
    for (const [value, kind] of [["no", ""], ["yes", "primary"]]) {
      const button = document.createElement("button");
      button.value = value;
      button.textContent = notice?.getAttribute(`data-${value}`) || value;
      button.className = `btn ${kind}`;
      row.append(button);
    }
    dialog.append(text, row);
    document.body.append(dialog);
    dialog.addEventListener("close", () => { answer(dialog.returnValue === "yes"); dialog.remove(); });
    dialog.showModal();
  });
}

/** Post a form of this page and show what came of it. @param {HTMLFormElement} form @param {HTMLElement | null} pressed */
async function post(form, pressed) {
  const words = pressed?.getAttribute("data-confirm") || form.getAttribute("data-confirm");
  if (words && !await sure(words)) return;
  const body = new FormData(form);
  if (pressed instanceof HTMLButtonElement && pressed.name) body.set(pressed.name, pressed.value);
  const xsrf = /(?:^|; )XSRF-TOKEN=([^;]*)/.exec(document.cookie);
  const files = form.enctype === "multipart/form-data";
  form.setAttribute("aria-busy", "true");
  let answer;
  try {
    answer = await fetch(form.getAttribute("action") || location.href, {
      method: "POST",
      headers: { accept: "application/json", ...(xsrf ? { "x-xsrf-token": xsrf[1] } : {}) },
      body: files ? body : new URLSearchParams(/** @type {any} */ (body))
    });
  } catch {
    tell(word("silent"));
    return;
  } finally {
    form.removeAttribute("aria-busy");
  }
  if (answer.status === 401) { location.assign(location.href); return; }
  const said = await answer.json();
  tell(said.error || said.message || "", answer.ok);
  if (answer.ok && !form.hasAttribute("data-keep")) form.reset();  // an editor keeps what is typed
  if (answer.ok) clear(form);
  if (answer.ok) await visit(said.location || location.href, said.location ? "push" : "replace");
}
document.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement && event.target.hasAttribute("data-go") && event.target.form) submit(event.target.form, "push");
});
let typing = 0;
document.addEventListener("input", (event) => {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || !field.hasAttribute("data-find") || !field.form) return;
  clearTimeout(typing);
  const form = field.form;
  typing = setTimeout(() => submit(form, "replace"), 180);
});

/** @param {number} step */
function move(step) {
  const links = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("#main [data-row]")]);
  if (!links.length) return;
  const selected = links.findIndex((link) => link.closest(".sel"));
  const focused = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const from = focused >= 0 ? focused : selected;
  const link = links[Math.min(Math.max(from + step, 0), links.length - 1)];
  link.focus();
  link.scrollIntoView({ block: "nearest" });
  if (document.querySelector("#main .sel")) visit(link.getAttribute("href") || "", "replace");
}

function theme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", dark ? "light" : "dark"); } catch { tell(word("theme")); }
}

document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  const inField = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement || event.target instanceof HTMLTextAreaElement;
  if (event.target instanceof Element && event.target.closest("[data-terminal]")) return;
  if (event.key === "Escape") {
    if (inField) /** @type {HTMLElement} */ (event.target).blur();
    for (const open of document.querySelectorAll("details.account[open]")) open.removeAttribute("open");
    tell("");
    return;
  }
  if (inField) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "t") theme();
  else if (event.key === "/") {
    event.preventDefault();
    /** @type {HTMLElement | null} */ (document.querySelector("[data-find]"))?.focus();
  }
});

changed();
here();
setInterval(() => tick(again), 250);
listen();
// The page answers now: what measures pages waits for this.
(terminal || Promise.resolve()).finally(() => performance.mark("booted"));
