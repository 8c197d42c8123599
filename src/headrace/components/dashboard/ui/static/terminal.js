// A terminal into a pod: xterm.js, loaded when a page with one is opened, and the WebSocket to /terminal.
/** @type {{screen: HTMLElement, end: () => void} | null} */
let open = null;

/** Opens the terminal that the page has, ends the one that it has no more. */
export async function sync() {
  const screen = /** @type {HTMLElement | null} */ (document.querySelector("[data-terminal]"));
  if (open && open.screen !== screen) { open.end(); open = null; }
  if (!screen || open) return;
  open = { screen, end: () => {} };
  const mine = open;
  const end = await start(screen, () => open === mine);
  if (open === mine) mine.end = end;
  else end();
}

/** The policy of these pages takes no style elements: what xterm.js writes into them becomes constructed style sheets. */
function sheets() {
  const plain = Document.prototype.createElement;
  /** @type {any} */ (document).createElement = function (/** @type {string} */ name, /** @type {any} */ options) {
    if (name !== "style") return plain.call(document, name, options);
    const sheet = new CSSStyleSheet(), holder = plain.call(document, "span");
    holder.hidden = true;
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(holder, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    const remove = holder.remove.bind(holder);
    holder.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
      remove();
    };
    return holder;
  };
  return () => { delete (/** @type {any} */ (document)).createElement; };
}

/** @param {string} name @returns {Promise<void>} */
function style(name) {
  const href = new URL(name, import.meta.url).href;
  if ([...document.styleSheets].some((sheet) => sheet.href === href)) return Promise.resolve();
  return new Promise((done, failed) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = href;
    link.addEventListener("load", () => done());
    link.addEventListener("error", () => failed(new Error(`${name} did not load`)));
    document.head.append(link);
  });
}

function colours() {
  const css = getComputedStyle(document.documentElement);
  const of = (/** @type {string} */ name) => css.getPropertyValue(name).trim();
  return { background: of("--sunken"), foreground: of("--text"), cursor: of("--accent"), cursorAccent: of("--panel"), selectionBackground: of("--line-strong") };
}

/** @param {HTMLElement} screen @param {() => boolean} wanted */
async function start(screen, wanted) {
  const [{ Terminal }, { FitAddon }] = await Promise.all([import("./xterm.mjs"), import("./xterm-fit.mjs"), style("./xterm.css")]);
  if (!wanted()) return () => {};
  const says = document.querySelector("[data-terminal-says]"), again = document.querySelector("[data-terminal-again]");
  const tell = (/** @type {string} */ words) => { if (says) says.textContent = words; };
  const restore = sheets();
  const mono = getComputedStyle(document.documentElement).getPropertyValue("--mono").trim();
  const term = new Terminal({ cursorBlink: false, fontSize: 13, fontFamily: mono, scrollback: 5000, theme: colours(), minimumContrastRatio: 4.5 });
  const fit = new FitAddon();
  term.loadAddon(fit);
  term.open(screen);
  screen.querySelector("textarea")?.setAttribute("aria-label", screen.dataset.label || "");
  term.attachCustomKeyEventHandler((/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape" || !event.shiftKey) return true;
    if (event.type === "keydown") /** @type {HTMLElement | null} */ (again)?.focus();
    return false;
  });
  /** @type {WebSocket | null} */
  let socket = null;
  const bytes = new TextEncoder();
  const send = (/** @type {string | Uint8Array} */ data) => { if (socket?.readyState === WebSocket.OPEN) socket.send(/** @type {any} */ (data)); };
  const size = () => send(JSON.stringify({ columns: term.cols, rows: term.rows }));
  function connect() {
    socket?.close();
    term.reset();
    tell("");
    screen.dataset.state = "connecting";
    const { ns = "", pod = "", container = "" } = screen.dataset;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const opened = new WebSocket(`${scheme}://${location.host}/terminal?${new URLSearchParams({ ns, pod, container })}`);
    socket = opened;
    opened.binaryType = "arraybuffer";
    let ended = "";
    opened.addEventListener("open", () => { screen.dataset.state = "open"; size(); });
    opened.addEventListener("message", (event) => {
      if (typeof event.data === "string") ended = JSON.parse(event.data).end || "";
      else term.write(new Uint8Array(event.data));
    });
    opened.addEventListener("close", () => {
      if (opened !== socket) return;
      screen.dataset.state = "closed";
      tell(ended || screen.dataset.lost || "");
    });
    term.focus();
  }
  term.onData((/** @type {string} */ data) => {
    const all = bytes.encode(data);
    for (let at = 0; at < all.length; at += 16384) send(all.subarray(at, at + 16384));
  });
  term.onBinary((/** @type {string} */ data) => { send(Uint8Array.from(data, (letter) => letter.charCodeAt(0))); });
  term.onResize(size);
  const watch = new ResizeObserver(() => { fit.fit(); });
  watch.observe(screen);
  const theme = new MutationObserver(() => { term.options.theme = colours(); });
  theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  again?.addEventListener("click", connect);
  fit.fit();
  connect();
  return () => {
    watch.disconnect();
    theme.disconnect();
    again?.removeEventListener("click", connect);
    const last = socket;
    socket = null;
    last?.close();
    term.dispose();
    restore();
  };
}
