// The whole page: built here, top to bottom. Messages change the picture at once, the screen once a frame.

import { DevicePane } from "./device.js";
import { askForget, askToken } from "./dialogs.js";
import { find, mark, say } from "./element.js";
import { Events, Herald } from "./events.js";
import { Lan, PROTOCOL } from "./lan.js";
import { Networks } from "./networks.js";
import { SORTABLE, View } from "./order.js";
import { ask, currentToken, useToken } from "./rest.js";
import { ScanNow } from "./scan.js";
import { Stream } from "./stream.js";
import { Table } from "./table.js";
import { age, stamp, troubleOf } from "./words.js";

const SORTED_AGAIN = 200; // ms between two sortings, at least
const REFRESHED = 10_000; // ms between two refreshments of `last seen`, at least
const REFRESHED_UP_TO = 2000; // devices: more would be megabytes
const PAST = 3600; // seconds of events that are asked for at the start

const MAC = /^#?([0-9a-f]{2}(:[0-9a-f]{2}){5})$/i;

// ---- the parts

const lan = new Lan();
const view = new View();
let skew = 0; // the daemon's clock minus ours, in ms: ages are told by its clock
const now = () => Date.now() + skew;

const stream = new Stream({ since: () => lan.cursor, token: currentToken, hear, state: linkIs, why });
const table = new Table({
  scroll: find("#scroll"), table: find("#table"), body: find("#rows"), now, latest: (mac) => lan.devices.get(mac),
});
const events = new Events({ list: find("#event-list"), empty: find("#no-events"), unread: find("#unread") });
const herald = new Herald(find("#herald"));
const scan = new ScanNow({ stream, lan, notice, forbidden: token });
const networks = new Networks({
  element: find("#networks"), ailing: find("#ailing"), lan, stream, ask, now, notice, scan: (targets) => scan.start(targets),
});
const pane = new DevicePane({
  element: find("#device"), lan, ask, now, token, forget: askForget, close: () => { location.hash = ""; },
});

// ---- the stream

let link = "connecting"; // connecting, live, waiting
let failure = null;
let loadedVersion = null;

function linkIs(name, why = null) {
  link = name;
  failure = why;
  if (name !== "live") scan.lost();
  if (name === "waiting" && why && (why.code === "unauthorized" || why.code === "forbidden")) refused(why);
  mark(document.body, "data-link", name);
  draw();
}

function hear(message) {
  const told = lan.hear(message);
  scan.hear(message);
  if (message.sent_at) skew = stamp(message.sent_at) - Date.now();
  if (told.length) {
    events.add(told);
    herald.add(told);
    pane.hear(told);
    for (const event of told) if (event.device) glowing.add(event.device.mac);
  }
  switch (message.type) {
    case "initial_state":
    case "resumed": greeted(message); break;
    case "scan_update": scanned(); break;
    case "event": if (!message.device) askNetworks(); break;
  }
  draw();
}

function greeted(message) {
  if (message.protocol > PROTOCOL) notice("netscand is newer than this page.", 0, "Reload", () => location.reload());
  else if (loadedVersion && loadedVersion !== message.version) notice(`netscand is now ${message.version}.`, 0, "Reload the page", () => location.reload());
  else hush();
  loadedVersion ??= message.version;
  networks.connected().then(() => { if (networks.status) skew = stamp(networks.status.now) - Date.now(); });
  if (message.type === "initial_state") past();
}

/** Events from before this page was opened, or that a lost cursor hid from it. */
async function past() {
  try {
    let since = new Date(now() - PAST * 1000).toISOString();
    for (let pages = 0; pages < 8; pages++) {
      const { cursor, events: told } = await ask("GET", `api/events?since=${encodeURIComponent(since)}&limit=500`);
      if (pages === 0 || told.length) collected.push(...told);
      if (told.length < 500) break;
      since = cursor;
    }
  } catch { /* no history: then only what happens from now on */ }
  events.past(collected.splice(0));
  draw();
}
const collected = [];

/** What a WebSocket that failed cannot tell. */
async function why() {
  try {
    const status = await ask("GET", "api/status");
    return status ? { code: "refused", message: "netscand answers, but lets no WebSocket through; is there a proxy between" } : null;
  } catch (failure) {
    return failure;
  }
}

function refused(why) {
  const had = currentToken();
  if (why.code === "unauthorized") useToken(null);
  if (why.code === "unauthorized" ? had : !find("#ask-token").open && !refused.asked) {
    refused.asked = true;
    token(why.code === "unauthorized" ? troubleOf(why) : "This netscand shows the network only to who has a token.");
  }
}

/** Ask for a token, with the reason, and use it. */
async function token(reason = "") {
  const given = await askToken(reason);
  if (given === null) return;
  useToken(given || null);
  stream.connect();
}

let refreshedAt = 0;
async function scanned() {
  const due = Date.now() - refreshedAt > REFRESHED && !document.hidden;
  if (!due) return;
  refreshedAt = Date.now();
  try {
    if (find("body").dataset.view === "networks") await networks.refresh();
    else lan.putNetworks((await ask("GET", "api/networks")).networks);
    if (lan.devices.size <= REFRESHED_UP_TO) lan.refresh((await ask("GET", "api/devices?status=online")).devices);
  } catch { /* the stream says what is wrong */ }
  draw();
}

let asking = 0;
function askNetworks() {
  asking ||= setTimeout(async () => {
    asking = 0;
    try {
      lan.putNetworks((await ask("GET", "api/networks")).networks);
      draw();
    } catch { /* the stream says what is wrong */ }
  }, 500);
}

// ---- drawing: once a frame, and only what changed

const glowing = new Set();
let frame = 0, sortedAt = 0, sortTook = 0, again = 0, anew = true;

function draw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    paint();
  });
}

/** Filter and sort anew with the next frame, whatever was sorted just now. */
function drawAnew() {
  anew = true;
  draw();
}

function paint() {
  if (lan.changed.size || anew) {
    const wait = Math.max(SORTED_AGAIN, 10 * sortTook) - (performance.now() - sortedAt);
    view.stale(lan.changed);
    if (anew || wait <= 0) sort();
    else again ||= setTimeout(() => { again = 0; anew = true; draw(); }, wait);
    if (pane.mac && lan.changed.has(pane.mac)) pane.draw();
    lan.changed.clear();
    table.draw();
    table.glow(glowing);
    glowing.clear();
  }
  paintLink();
  scan.draw();
  events.draw(sideShows("events"));
  if (sideShows("networks")) networks.draw();
}

function sort() {
  const started = performance.now();
  paintNetworks();
  view.make(lan.devices);
  table.devices = view.rows;
  paintCounts();
  anew = false;
  sortedAt = performance.now();
  sortTook = sortedAt - started;
}

function paintCounts() {
  const { online, offline, unknown } = view.counts;
  say(find("#count-all"), (online + offline + unknown).toLocaleString());
  say(find("#count-online"), online.toLocaleString());
  say(find("#count-offline"), offline.toLocaleString());
  say(find("#count-unknown"), unknown.toLocaleString());
  const empty = find("#empty");
  empty.hidden = view.rows.length > 0;
  if (empty.hidden) return;
  const looked = view.query.text || view.query.status || view.query.network;
  say(empty, !lan.whole ? (failure ? "" : "Looking…")
    : lan.devices.size && looked ? "No device fits. Escape clears the search."
    : [...lan.networks.values()].some((network) => network.state === "up") ? "No device has been heard yet." : "No network is scanned: see Networks for why.");
}

function paintNetworks() {
  const select = find("#network");
  const ids = [...lan.networks.values()].filter((network) => network.state !== "excluded").map((network) => network.id);
  if (view.query.network && !ids.includes(view.query.network)) ids.push(view.query.network);
  find("#pick-network").hidden = ids.length < 2;
  const has = [...select.options].slice(1).map((option) => option.value);
  if (has.join() !== ids.join()) select.replaceChildren(select.options[0], ...ids.map((id) => new Option(id, id)));
  if (document.activeElement !== select) select.value = view.query.network;
}

function paintLink() {
  const ago = stream.heardAt ? age((Date.now() - stream.heardAt) / 1000) : "";
  say(find("#link-words"), link === "live" ? `live · last update ${ago}` : ago ? `connecting… · last update ${ago}` : "connecting…");
  const admin = find("#token");
  say(admin, { none: "no rights", read: "read only", scan: "may scan", admin: "admin" }[lan.role] || lan.role);
  mark(admin, "data-role", lan.role);
  admin.hidden = !lan.version && !currentToken() && !failure;
  if (link === "waiting" && failure && !notice.until) {
    const words = { lost: "The connection was lost.", lagged: "This page did not keep up." }[failure.code] || troubleOf(failure);
    showNotice(`${words} Trying again every 3 s.`, null);
    notice.about = "link";
  }
}

const narrow = matchMedia("(max-width: 959px)");
const sideShows = (name) => {
  const chosen = document.body.dataset.view;
  return pane.mac === null && (chosen === name || (name === "events" && chosen === "devices" && !narrow.matches));
};

setInterval(() => {
  if (document.hidden) return;
  table.tick();
  paintLink();
  if (pane.mac) pane.draw();
  if (sideShows("networks")) networks.draw();
}, 1000);
setInterval(() => {
  if (document.hidden || link !== "live") return;
  pane.refresh();
  if (sideShows("networks")) networks.refresh();
}, 5000);

// ---- notices

/** Say something for `lasts` ms (0: until it is taken back), with a button or none. */
function notice(words, lasts = 8000, act = "", acts = null) {
  clearTimeout(notice.timer);
  notice.until = true;
  notice.about = "";
  if (lasts) notice.timer = setTimeout(hush, lasts);
  showNotice(words, acts, act);
}

function showNotice(words, acts, act = "") {
  say(find("#notice-words"), words);
  find("#notice").hidden = false;
  const button = find("#notice-act");
  button.hidden = !acts;
  say(button, act);
  button.onclick = acts;
}

function hush() {
  notice.until = false;
  find("#notice").hidden = true;
}

// ---- the address bar: ?q= and the filters, #MAC for the open device

function readAddress() {
  const given = new URLSearchParams(location.search);
  const sort = (given.get("sort") || "ip").replace(/^-/, "");
  Object.assign(view.query, {
    text: given.get("q") || "", status: given.get("status") || "", network: given.get("network") || "",
    sort: SORTABLE.includes(sort) ? sort : "ip", descending: (given.get("sort") || "").startsWith("-"),
  });
  find("#search").value = view.query.text;
  for (const radio of document.querySelectorAll("#presence input")) radio.checked = radio.value === view.query.status;
  paintSort();
}

function writeAddress() {
  const { text, status, network, sort, descending } = view.query;
  const given = new URLSearchParams();
  if (text) given.set("q", text);
  if (status) given.set("status", status);
  if (network) given.set("network", network);
  if (sort !== "ip" || descending) given.set("sort", (descending ? "-" : "") + sort);
  const query = given.toString();
  history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
}

function openByAddress() {
  const mac = MAC.exec(decodeURIComponent(location.hash))?.[1].toLowerCase() || null;
  if (mac === pane.mac) return;
  const was = pane.mac;
  pane.open(mac);
  table.mark(mac);
  mark(document.body, "data-open", mac ? "" : null);
  if (mac) find("#device").focus({ preventScroll: true });
  else if (was && !find("#search").matches(":focus")) table.focus(was);
}

// ---- hands

function query(changes) {
  Object.assign(view.query, changes);
  writeAddress();
  paintSort();
  find("#scroll").scrollTop = 0;
  drawAnew();
}

function paintSort() {
  const { sort, descending } = view.query;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    mark(head, "aria-sort", head.dataset.sort === sort ? (descending ? "descending" : "ascending") : null);
  }
  find("#sort").value = sort;
}

find("#tools").addEventListener("submit", (event) => event.preventDefault());
find("#search").addEventListener("input", (event) => query({ text: event.target.value.trim() }));
find("#presence").addEventListener("change", (event) => query({ status: event.target.value }));
find("#network").addEventListener("change", (event) => query({ network: event.target.value }));
find("#sort").addEventListener("change", (event) => query({ sort: event.target.value, descending: false }));
find("#table").tHead.addEventListener("click", (event) => {
  const sort = event.target.closest("th")?.dataset.sort;
  if (sort) query({ sort, descending: view.query.sort === sort && !view.query.descending });
});
find("#scan").addEventListener("click", () => scan.start(view.query.network ? [view.query.network] : []));
find("#token").addEventListener("click", () => token());
find(".views").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  showView(button.dataset.view);
  if (pane.mac) location.hash = "";
});

function showView(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll(".views button")) {
    const shown = button.dataset.view === name || (name === "devices" && button.dataset.view === "events" && !narrow.matches);
    mark(button, "aria-current", shown ? "true" : null);
  }
  if (name === "networks") networks.refresh();
  draw();
}

addEventListener("hashchange", openByAddress);
addEventListener("popstate", openByAddress);
narrow.addEventListener("change", () => { showView(document.body.dataset.view); table.draw(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) drawAnew(); });
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    find("#search").focus();
  } else if (event.key === "Escape") {
    if (event.target.id === "search" && event.target.value) {
      event.target.value = "";
      query({ text: "" });
    } else if (pane.mac) location.hash = "";
    else if (view.query.text) {
      find("#search").value = "";
      query({ text: "" });
    }
  } else if (event.key === "ArrowDown" && event.target.id === "search" && view.rows.length) {
    event.preventDefault();
    table.focus(view.rows[0].mac);
  }
});

// ---- go

readAddress();
showView("devices");
openByAddress();
stream.connect();
