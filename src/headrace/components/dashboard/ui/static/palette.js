// The command palette: Ctrl/Cmd-K or the button in the bar; a dialog with a combobox over a listbox. Arrows choose,
// Enter goes, Escape closes. What is found comes from the server, which knows what this person may see.

/** @typedef {{ kind: string, title: string, url: string, hint: string, plain: boolean }} Hit */

const opener = () => /** @type {HTMLElement | null} */ (document.querySelector("[data-palette]"));
/** @type {HTMLDialogElement | null} */
let dialog = null;
/** @type {Hit[]} */
let hits = [];
let chosen = 0, asked = 0, typing = 0;

/** @param {string} name @param {Record<string, string>} attributes */
function make(name, attributes) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function open() {
  if (dialog) { dialog.close(); return; }
  const words = opener()?.dataset || {};
  const made = dialog = /** @type {HTMLDialogElement} */ (make("dialog", { class: "panel palette", "aria-label": words.label || "Find" }));
  const field = /** @type {HTMLInputElement} */ (make("input", {
    type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", "aria-expanded": "true", "aria-autocomplete": "list",
    "aria-controls": "palette-list", "aria-label": words.label || "Find", placeholder: words.hint || ""
  }));
  const list = make("ul", { id: "palette-list", role: "listbox", "aria-label": words.label || "Find" });
  const none = make("p", { class: "dim", role: "status" });
  made.append(field, list, none);
  document.body.append(made);
  made.addEventListener("close", () => { made.remove(); dialog = null; opener()?.focus(); });
  made.addEventListener("click", (event) => { if (event.target === made) made.close(); });
  field.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => ask(field.value), 90); });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const last = hits.length - 1;
    if (event.key === "ArrowDown") choose(chosen >= last ? 0 : chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen <= 0 ? last : chosen - 1);
    else if (event.key === "Home" && !field.value) choose(0);
    else if (event.key === "End" && !field.value) choose(last);
    else if (event.key === "Enter") go(hits[chosen]);
    else return;
    event.preventDefault();
  });
  made.showModal();
  ask("");
}

/** @param {string} text */
async function ask(text) {
  const number = ++asked;
  const picker = /** @type {HTMLSelectElement | null} */ (document.getElementById("ns"));
  let found;
  try {
    const answer = await fetch(`/find?${new URLSearchParams({ q: text, ns: picker?.value || "" })}`, { headers: { accept: "application/json" } });
    if (answer.status === 401) { location.reload(); return; }
    found = answer.ok ? (await answer.json()).hits : [];
  } catch {
    found = [];
  }
  if (number !== asked || !dialog) return;
  hits = found;
  draw();
}

function draw() {
  const list = dialog?.querySelector("ul"), none = dialog?.querySelector("p");
  if (!list || !none) return;
  list.replaceChildren(...hits.map((hit, index) => {
    const row = make("li", { id: `palette-${index}`, role: "option", "aria-selected": "false" });
    for (const [text, kind] of [[hit.kind, "dim2"], [hit.title, "name"], [hit.hint, "dim2 hint"]]) {
      const part = make("span", { class: kind });
      part.textContent = text;
      row.append(part);
    }
    row.addEventListener("click", () => go(hit));
    row.addEventListener("pointermove", () => { if (chosen !== index) choose(index); });
    return row;
  }));
  none.textContent = hits.length ? "" : opener()?.dataset.none || "";
  none.hidden = hits.length > 0;
  choose(0);
}

/** @param {number} index */
function choose(index) {
  chosen = index;
  const field = dialog?.querySelector("input");
  dialog?.querySelectorAll("li").forEach((row, number) => {
    row.setAttribute("aria-selected", String(number === index));
    if (number === index) row.scrollIntoView({ block: "nearest" });
  });
  if (hits.length) field?.setAttribute("aria-activedescendant", `palette-${index}`);
  else field?.removeAttribute("aria-activedescendant");
}

/** The page's own links know how to go without loading everything. @param {Hit | undefined} hit */
function go(hit) {
  if (!hit) return;
  dialog?.close();
  const link = make("a", { href: hit.url, hidden: "" });
  if (hit.plain) link.setAttribute("data-plain", "");
  document.body.append(link);
  link.click();
  link.remove();
}

document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
  event.preventDefault();
  open();
});
document.addEventListener("click", (event) => {
  if (event.target instanceof Element && event.target.closest("[data-palette]")) open();
});
