// Moments in the reader's zone, durations that go on counting, and running bars that grow.

const language = document.documentElement.lang || undefined;
const day = new Intl.DateTimeFormat(language, { day: "2-digit", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

/** @param {number} value seconds */
export function seconds(value) {
  if (value < 59.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} m`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** @param {string} stamp */
export function clockTime(stamp) {
  const moment = new Date(stamp);
  return `${clock.format(moment)}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
}

/** Write every moment below `root` in the reader's zone. @param {ParentNode} root */
export function localise(root) {
  for (const element of root.querySelectorAll("time[data-form]")) {
    const moment = new Date(element.getAttribute("datetime") || "");
    if (Number.isNaN(moment.getTime())) continue;
    const today = moment.toDateString() === new Date().toDateString();
    const words = (today || element.getAttribute("data-form") === "clock" ? clock : day).format(moment);
    if (element.textContent !== words) element.textContent = words;
  }
}

/** Counting goes on between the server's messages. @param {() => void} overrun called when a bar reaches the edge */
export function tick(overrun) {
  const now = Date.now();
  for (const element of document.querySelectorAll("[data-since]")) {
    element.textContent = seconds(Math.max(0, (now - Date.parse(element.getAttribute("data-since") || "")) / 1000));
  }
  for (const bar of document.querySelectorAll("[data-grow]")) {
    const [start, span] = (bar.getAttribute("data-grow") || "").split(" ").map(Number);
    const share = (now / 1000 - start) / span;
    bar.setAttribute("width", `${Math.min(share, 1) * 100}%`);
    if (share * 100 + parseFloat(bar.getAttribute("x") || "0") > 100) overrun();
  }
}
