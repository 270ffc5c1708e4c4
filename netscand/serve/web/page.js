// The whole page, from top to bottom. Messages change the picture at once, the screen a few times a second.

import { open, opened, queried, remember } from "./address.js";
import { DevicePane } from "./device.js";
import { askForget, askToken } from "./dialogs.js";
import { find, mark, say } from "./element.js";
import { Events, Herald } from "./events.js";
import { Lan, PROTOCOL } from "./lan.js";
import { Networks } from "./networks.js";
import { hush, murmur, notice } from "./notice.js";
import { View } from "./order.js";
import { ask, currentToken, useToken } from "./rest.js";
import { ScanNow } from "./scan.js";
import { Stream } from "./stream.js";
import { COLUMNS, Table } from "./table.js";
import { age, stamp, troubleOf } from "./words.js";

const PAINTED_AGAIN = 100; // ms between two paintings, at least: what comes faster is shown together
const SORTED_AGAIN = 200; // the same of two sortings
const REFRESHED = 10_000; // ms between two refreshments of `last seen`, at least
const REFRESHED_UP_TO = 2000; // devices: more would be megabytes

const lan = new Lan();
const view = new View();
let skew = 0; // the daemon's clock minus ours, in ms: ages are told by its clock
const now = () => Date.now() + skew;

const stream = new Stream({ since: () => lan.cursor, token: currentToken, hear, state: linkIs, why });
const table = new Table({
  scroll: find("#scroll"), table: find("#table"), now, open, latest: (mac) => lan.devices.get(mac),
});
const events = new Events({ list: find("#event-list"), empty: find("#no-events"), unread: find("#unread") });
const herald = new Herald(find("#herald"));
const scan = new ScanNow({ stream, lan, notice, token });
const networks = new Networks({
  element: find("#networks"), ailing: find("#ailing"), lan, stream, ask, now, notice, token,
  scan: (targets) => scan.start(targets),
});
const pane = new DevicePane({
  element: find("#device"), lan, ask, now, token, notice, forget: askForget, close: () => open(null),
});

// ---- the stream

let link = "connecting"; // connecting, live, waiting
let failure = null; // why it is not live
let version = null; // of the daemon that this page came from
let asked = false; // whether a token was asked for, because nothing can be seen without

function linkIs(name, why = null) {
  link = name;
  if (why || name === "live") failure = why;
  if (name !== "live") scan.lost();
  if (why?.code === "unauthorized" && currentToken()) {
    useToken(null);
    token(troubleOf(why));
  } else if (!asked && (why?.code === "unauthorized" || why?.code === "forbidden")) {
    asked = true;
    token("This netscand shows the network only to who has a token.");
  }
  mark(document.body, "data-link", name);
  draw();
}

function hear(message) {
  const told = lan.hear(message);
  scan.hear(message);
  if (told.length) {
    events.add(told);
    herald.add(told);
    pane.hear(told);
    for (const event of told) if (event.device) glowing.add(event.device.mac);
  }
  switch (message.type) {
    case "initial_state": past(); // falls through
    case "resumed": greeted(message); break;
    case "scan_update": refresh(); break;
    case "event": if (!message.device) askNetworks(); break;
  }
  draw();
}

async function greeted(message) {
  const reload = { lasts: 0, act: "Reload the page", acts: () => location.reload() };
  version ??= message.version;
  if (message.protocol > PROTOCOL) notice("netscand is newer than this page, which may misread it.", reload);
  else if (version !== message.version) notice(`netscand is now ${message.version}.`, reload);
  else hush();
  await networks.connected();
  if (networks.status) skew = stamp(networks.status.now) - Date.now();
}

/** What a WebSocket that failed cannot tell: the same asked by plain HTTP. */
async function why() {
  try {
    await ask("GET", "ws?updates=changes");
  } catch (failure) {
    if (failure.code !== "bad_request") return failure;
  }
  return { code: "refused", message: "netscand answers, but no WebSocket comes through; is there a proxy between" };
}

/** Ask for a token, with the reason, and use it. */
async function token(reason = "") {
  const given = await askToken(reason);
  if (given === null) return;
  useToken(given || null);
  stream.connect();
}

// ---- what the stream does not tell

/** Events from before this page was opened, or that a lost cursor hid from it. */
async function past() {
  try {
    events.past((await ask("GET", "api/events?last=200")).events);
  } catch { /* no history: then only what happens from now on */ }
  draw();
}

let refreshedAt = -Infinity;
/** A repeated observation makes no event: when everybody was last heard is asked after a scan. */
async function refresh() {
  if (document.hidden || performance.now() - refreshedAt < REFRESHED) return;
  refreshedAt = performance.now();
  try {
    lan.putNetworks((await ask("GET", "api/networks")).networks);
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
    } catch { /* the stream says what is wrong */ }
    drawAnew();
  }, 500);
}

// ---- drawing: only what changed

const glowing = new Set();
let frame = 0, rest = 0, paintedAt = 0, sortedAt = 0, sortTook = 0, again = 0, anew = true;

function draw() {
  if (frame || rest) return;
  const wait = paintedAt + PAINTED_AGAIN - performance.now();
  if (wait > 0) rest = setTimeout(() => { rest = 0; draw(); }, wait);
  else frame = requestAnimationFrame(() => { frame = 0; paint(); });
}

/** Filter and sort anew, whatever was sorted just now. */
function drawAnew() {
  anew = true;
  paintedAt = 0;
  draw();
}

function paint() {
  paintedAt = performance.now();
  if (lan.changed.size || anew) {
    const wait = Math.max(SORTED_AGAIN, 10 * sortTook) - (paintedAt - sortedAt);
    view.stale(lan.changed);
    if (anew || wait <= 0) sort();
    else again ||= setTimeout(() => { again = 0; drawAnew(); }, wait);
    if (lan.changed.has(pane.mac)) pane.draw();
    lan.changed.clear();
    table.draw();
    table.glow(glowing);
    glowing.clear();
  }
  paintLink();
  scan.draw();
  events.draw(shows("events"));
  if (shows("networks")) networks.draw();
}

function sort() {
  const started = performance.now();
  view.make(lan.devices);
  table.devices = view.rows;
  paintNetworks();
  paintCounts();
  anew = false;
  sortedAt = performance.now();
  sortTook = sortedAt - started;
}

function paintCounts() {
  const { online, offline, unknown } = view.counts;
  const counts = { all: online + offline + unknown, online, offline, unknown };
  for (const [name, number] of Object.entries(counts)) say(find(`#count-${name}`), number.toLocaleString());
  find("#chip-unknown").hidden = !unknown && view.query.status !== "unknown";
  const empty = find("#empty");
  empty.hidden = view.rows.length > 0;
  if (empty.hidden) return;
  say(empty, !lan.whole ? "Looking…"
    : lan.devices.size ? "No device fits the search and the filters."
    : [...lan.networks.values()].some((network) => network.state === "up") ? "No device has been heard yet."
    : "No network is scanned: Networks says why.");
}

function paintNetworks() {
  const select = find("#network");
  const ids = [...lan.networks.values()].filter((network) => network.state !== "excluded").map((network) => network.id);
  if (view.query.network && !ids.includes(view.query.network)) ids.push(view.query.network);
  find("#pick-network").hidden = ids.length < 2 && !view.query.network;
  const has = [...select.options].slice(1).map((option) => option.value);
  if (has.join() !== ids.join()) select.replaceChildren(select.options[0], ...ids.map((id) => new Option(id, id)));
  select.value = view.query.network;
}

function paintLink() {
  const ago = stream.heardAt ? ` · last update ${age((Date.now() - stream.heardAt) / 1000)}` : "";
  say(find("#link-words"), (link === "live" ? "live" : "connecting…") + ago);
  say(find("#token"), `role: ${lan.role}`);
  find("#token").hidden = !lan.version;
  if (link === "live" || !failure) return;
  murmur(`${troubleOf(failure)} Trying again every 3 s.`);
}

function paintSort() {
  const { sort, descending } = view.query;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    mark(head, "aria-sort", head.dataset.sort === sort ? (descending ? "descending" : "ascending") : null);
  }
  find("#sort").value = sort;
}

// ---- which part is in sight

const narrow = matchMedia("(max-width: 959px)");

/** Side by side, the events stand beside the devices. */
const besides = (name) => (name === "devices" && !narrow.matches ? "events" : name);
const shows = (name) => pane.mac === null && besides(document.body.dataset.view) === name;

function show(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll(".views button")) {
    mark(button, "aria-current", button.dataset.view === besides(name) ? "true" : null);
  }
  if (name === "networks") networks.refresh();
  draw();
}

function openByAddress() {
  const was = pane.mac, mac = opened();
  if (mac === was) return;
  pane.open(mac);
  table.mark(mac);
  mark(document.body, "data-open", mac && "");
  if (mac) find("#device").focus({ preventScroll: true });
  else if (!find("#search").matches(":focus")) table.focus(was);
}

// ---- hands

function query(changes) {
  Object.assign(view.query, changes);
  remember(view.query);
  paintSort();
  find("#scroll").scrollTop = 0;
  drawAnew();
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
  show(button.dataset.view);
  if (pane.mac) open(null);
});

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("dialog[open]")) return;
  const search = find("#search");
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape") {
    if (typing?.closest("#device")) typing.blur(); // what was typed is not to be lost by one key
    else if (pane.mac && typing !== search) open(null);
    else if (view.query.text) {
      search.value = "";
      query({ text: "" });
    } else if (pane.mac) open(null);
  } else if (event.key === "ArrowDown" && typing === search && view.rows.length) {
    event.preventDefault();
    table.focus(view.rows[0].mac);
  }
});

addEventListener("hashchange", openByAddress);
narrow.addEventListener("change", () => show(document.body.dataset.view));
document.addEventListener("visibilitychange", () => { if (!document.hidden) drawAnew(); });

setInterval(() => { // the ages pass
  if (document.hidden) return;
  table.tick();
  paintLink();
  pane.draw();
  if (shows("networks")) networks.draw();
}, 1000);
setInterval(() => {
  if (document.hidden || link !== "live") return;
  pane.refresh();
  if (shows("networks")) networks.refresh();
}, 5000);

// ---- go

Object.assign(view.query, queried());
find("#sort").append(...Object.entries(COLUMNS).map(([name, title]) => new Option(`by ${title}`, name)));
find("#search").value = view.query.text;
for (const radio of document.querySelectorAll("#presence input")) radio.checked = radio.value === view.query.status;
paintSort();
show("devices");
openByAddress();
stream.connect();
