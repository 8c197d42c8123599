// The stream of the page that is open. It is closed while nobody looks at the tab: browsers allow few connections.
import { morph } from "./morph.js";

/** @type {EventSource | null} */
let source = null;

/**
 * @param {{page: () => void, log: (message: any) => void, lost: () => void, back: () => void}} on
 */
export function connect(on) {
  source?.close();
  source = null;
  if (document.hidden) return;
  const have = document.getElementById("main")?.dataset.version;
  if (have === undefined) return;  // nothing is at this address, so nothing will change
  const opened = new EventSource(`/live?have=${have}&url=${encodeURIComponent(location.pathname + location.search)}`);
  source = opened;
  opened.addEventListener("open", () => { if (opened === source) on.back(); });
  opened.addEventListener("page", (event) => {
    if (opened !== source) return;
    const message = JSON.parse(event.data);
    show(message.html, message.version);
    document.title = `${message.title} · Headrace`;
    on.page();
  });
  opened.addEventListener("log", (event) => { if (opened === source) on.log(JSON.parse(event.data)); });
  opened.addEventListener("error", () => { if (opened === source && opened.readyState === EventSource.CLOSED) on.lost(); });
}

export function disconnect() {
  source?.close();
  source = null;
}

/** @param {string} html @param {string} version */
function show(html, version) {
  const main = document.getElementById("main");
  if (!main) return;
  const next = /** @type {HTMLElement} */ (main.cloneNode(false));
  next.innerHTML = html;
  next.dataset.version = version;
  morph(main, next);
}
