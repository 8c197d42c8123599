// What a page owes to everybody, as a list of sentences; empty when nothing is wrong. Evaluated in the page.
(() => {
  const wrong = new Set();
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const where = (element) => `<${element.localName}${element.id ? ` id=${element.id}` : ""} class="${element.getAttribute("class") || ""}"> ${(element.textContent || "").trim().slice(0, 40)}`;
  const words = (ids) => ids.split(/\s+/).map((id) => document.getElementById(id)?.textContent || "").join(" ");

  // Names
  const name = (element) => (element.getAttribute("aria-label") || words(element.getAttribute("aria-labelledby") || "")
    || [...(element.labels || [])].map((label) => label.textContent).join(" ")
    || (element.matches("input, select, textarea") ? "" : element.textContent) || element.getAttribute("title")
    || element.querySelector?.("[aria-label], title")?.textContent || element.querySelector?.("[aria-label]")?.getAttribute("aria-label") || "").trim();
  for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0'], [role=img], img")) {
    if (shown(element) && !name(element) && !element.getAttribute("alt")) wrong.add(`no name: ${where(element)}`);
  }

  // Landmarks, headings, ids, language
  if (document.querySelectorAll("main").length !== 1) wrong.add("there is not one main landmark");
  if (!document.documentElement.lang) wrong.add("the page has no language");
  if (!document.title) wrong.add("the page has no title");
  const regions = [...document.querySelectorAll("nav, section")].filter(shown);
  for (const each of regions) if (!each.getAttribute("aria-label")) wrong.add(`a landmark without a name: ${where(each)}`);
  const headings = [...document.querySelectorAll("main :is(h1, h2, h3, h4)")];
  if (headings.filter((each) => each.localName === "h1").length !== 1) wrong.add("there is not one first heading");
  let level = 0;
  for (const each of headings) {
    const own = Number(each.localName[1]);
    if (own > level + 1) wrong.add(`a level of headings is left out before: ${where(each)}`);
    level = own;
  }
  const seen = new Set();
  for (const each of document.querySelectorAll("[id]")) {
    if (seen.has(each.id)) wrong.add(`an id twice: ${each.id}`);
    seen.add(each.id);
  }

  // Contrast
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(channels(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !element || element.closest("svg, script, style, option, .sr, .skip, noscript") || !shown(element)) continue;
    const css = getComputedStyle(element), size = parseFloat(css.fontSize);
    const below = ground(element), own = over(channels(css.color), below);
    const [high, low] = [light(own), light(below)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const needed = size >= 24 || (size >= 18.66 && Number(css.fontWeight) >= 700) ? 3 : 4.5;
    if (ratio < needed - 0.005) wrong.add(`contrast ${ratio.toFixed(2)} (${css.color} on ${below.slice(0, 3).map(Math.round)}): <${element.localName} class="${element.className}">`);
  }

  // Focus: a control that has it looks different.
  const sample = [...document.querySelectorAll("a[href], button, select, textarea, input:not([type=hidden])")].filter((each) => shown(each) && !each.disabled);
  for (const each of sample) {
    each.focus({ focusVisible: true, preventScroll: true });
    if (document.activeElement !== each) continue;
    const css = getComputedStyle(each), around = each.closest(".search") ? getComputedStyle(each.closest(".search")) : css;
    if (css.boxShadow === "none" && css.outlineStyle === "none" && around.boxShadow === "none") wrong.add(`the focus is not seen: ${where(each)}`);
  }
  document.activeElement?.blur();
  return [...wrong];
})()
