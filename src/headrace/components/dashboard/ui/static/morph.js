// Makes one tree like another by changing as little as possible, so that focus, scrolling, selections and opened
// details stay. Elements are matched by id, else by place; an element with data-keep keeps its children.

/** @param {Element} from @param {Element} to */
export function morph(from, to) {
  attributes(from, to);
  if (from.hasAttribute("data-keep") && from.id === to.id) return;
  children(from, to);
}

/** @param {Element} from @param {Element} to */
function attributes(from, to) {
  const typed = from instanceof HTMLInputElement && from.form?.method === "post" &&
    (from.value !== from.defaultValue || from.checked !== from.defaultChecked);
  for (const { name, value } of [...to.attributes]) {
    if (from.getAttribute(name) !== value && !(name === "aria-pressed" && from.hasAttribute("data-log-follow"))) {
      from.setAttribute(name, value);
    }
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.localName === "details")) from.removeAttribute(name);
  }
  if (from instanceof HTMLInputElement && to instanceof HTMLInputElement && document.activeElement !== from && !typed) {
    if (!from.hasAttribute("data-log-search")) from.value = to.value;
  }
}

/** @param {Element} from @param {Element} to */
function children(from, to) {
  const named = new Map();
  for (const child of from.children) if (child.id) named.set(child.id, child);
  let current = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const id = wanted instanceof Element ? wanted.id : "";
    const known = id ? named.get(id) : null;
    if (known) {
      if (known !== current) from.insertBefore(known, current);
      else current = current.nextSibling;
      named.delete(id);
      morph(known, /** @type {Element} */ (wanted));
      continue;
    }
    if (current && alike(current, wanted)) {
      const next = current.nextSibling;
      if (current instanceof Element) morph(current, /** @type {Element} */ (wanted));
      else if (current.nodeValue !== wanted.nodeValue) current.nodeValue = wanted.nodeValue;
      current = next;
      continue;
    }
    from.insertBefore(document.importNode(wanted, true), current);
  }
  while (current) {
    const next = current.nextSibling;
    current.remove();
    current = next;
  }
}

/** @param {Node} a @param {Node} b */
function alike(a, b) {
  if (a.nodeType !== b.nodeType) return false;
  if (!(a instanceof Element) || !(b instanceof Element)) return true;
  return a.localName === b.localName && a.id === b.id;
}
