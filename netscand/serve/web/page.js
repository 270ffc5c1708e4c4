// The main module. Messages change the data at once; the screen is updated a few times a second.

import { open, opened, queried, remember } from "./address.js";
import { DevicePane } from "./device.js";
import { askForget } from "./dialogs.js";
import { find, mark, say } from "./element.js";
import { Events, LiveRegion } from "./events.js";
import { exportFrom } from "./export.js";
import { Lan, PROTOCOL } from "./lan.js";
import { Networks } from "./networks.js";
import { clearNotice, showStatus, notice } from "./notice.js";
import { View } from "./order.js";
import { People } from "./people.js";
import { ask, currentToken } from "./rest.js";
import { ScanNow } from "./scan.js";
import { drawSiteFilter, showSites } from "./sites.js";
import { Stream } from "./stream.js";
import { COLUMNS, Table } from "./table.js";
import { changeTags, paintTags } from "./tags.js";
import { TokenPrompt, lockedText } from "./token.js";
import { age, deviceKey, stamp, errorText } from "./words.js";

const PAINTED_AGAIN = 100; // minimum ms between two paints: faster changes are painted together
const SORTED_AGAIN = 200; // minimum ms between two sorts
const REFRESHED = 10_000; // minimum ms between two requests for `last seen`
const REFRESHED_UP_TO = 2000; // maximum devices for these requests: more would be megabytes

const lan = new Lan();
const view = new View();
let skew = 0; // the daemon's clock minus ours, in ms: ages are shown by its clock
const now = () => Date.now() + skew;

const stream = new Stream({ since: () => lan.cursor, token: currentToken, onMessage, state: onConnectionState, why: connectionError });
const prompt = new TokenPrompt({ connect: () => stream.connect() });
const token = (reason) => prompt.ask(reason);
const table = new Table({
  scroll: find("#scroll"), table: find("#table"), now, open, latest: (key) => lan.devices.get(key),
});
const events = new Events({
  ask, list: find("#event-list"), placeholder: find("#no-events"), more: find("#older"), unread: find("#unread"),
  kinds: find("#event-kinds"), day: find("#event-day"),
});
const liveRegion = new LiveRegion(find("#herald"));
const scan = new ScanNow({ stream, lan, notice, token, site: () => view.query.site });
const networks = new Networks({
  element: find("#networks"), ailing: find("#ailing"), lan, stream, ask, now, notice, token,
  scan: (targets, site) => scan.start(targets, site), choose: (site) => { query({ site, network: "" }); show("devices"); },
});
const people = new People({ lan, element: find("#people"), add: find("#add-person"), notice });
const pane = new DevicePane({
  element: find("#device"), lan, ask, now, token, notice, forget: askForget, close: () => open(null), reopen: open,
  erased: (mac) => { events.drop(mac); draw(); },
});

// ---- the stream

let link = "connecting"; // connecting, live, waiting
let failure = null; // the reason why it is not live
let version = null; // version of the daemon that this page came from

function onConnectionState(name, why = null) {
  link = name;
  if (why || name === "live") failure = why;
  if (name !== "live") scan.lost();
  if (why) prompt.onFailure(why);
  mark(document.body, "data-link", name);
  draw();
}

function onMessage(message) {
  const news = lan.apply(message);
  scan.onMessage(message);
  if (news.length) {
    events.add(news);
    liveRegion.add(news);
    pane.addEvents(news);
    for (const event of news) if (event.device) glowing.add(deviceKey(event.device));
  }
  switch (message.type) {
    case "initial_state": events.open("api/events"); // falls through
    case "resumed": onHello(message); break;
    case "scan_update": refresh(); break;
    case "event": if (!message.device && !message.person) askNetworks(); break;
  }
  draw();
}

async function onHello(message) {
  if (message.sites && !COLUMNS.site) showSites(table, events), paintSort();
  const reload = { lasts: 0, act: "Reload the page", acts: () => location.reload() };
  version ??= message.version;
  if (message.protocol > PROTOCOL) notice("netscand is newer than this page. Reload it: it may show wrong data.", reload);
  else if (version !== message.version) notice(`netscand is now ${message.version}.`, reload);
  else clearNotice();
  await networks.connected();
  if (networks.status) skew = stamp(networks.status.now) - Date.now();
}

/** Return why the WebSocket failed, by requesting the same over plain HTTP: browsers do not report it. */
async function connectionError() {
  const expected = { GET: 426, POST: 405 }; // with GET, a browser sends no Origin
  for (const [method, status] of Object.entries(expected)) {
    try {
      await ask(method, "ws?updates=changes");
    } catch (failure) {
      if (failure.status !== status) return method === "GET" ? failure : { ...failure, code: "refused" };
    }
  }
  const hint = currentToken() ? "; if it sends a token, forget the one entered here" : "";
  const message = "netscand answers, but a proxy does not pass the WebSocket on: it must use HTTP/1.1 and pass Upgrade "
    + `and Connection on${hint}`;
  return { code: "refused", message };
}

// ---- data that the stream does not have

let refreshedAt = -Infinity;
/** Request `last seen` of all devices after a scan: a repeated observation makes no event. */
async function refresh() {
  if (document.hidden || performance.now() - refreshedAt < REFRESHED) return;
  refreshedAt = performance.now();
  try {
    lan.putNetworks((await ask("GET", "api/networks")).networks);
    if (lan.devices.size <= REFRESHED_UP_TO) lan.refresh((await ask("GET", "api/devices?status=online")).devices);
  } catch { /* the stream reports the error */ }
  draw();
}

let asking = 0;
function askNetworks() {
  asking ||= setTimeout(async () => {
    asking = 0;
    try {
      lan.putNetworks((await ask("GET", "api/networks")).networks);
    } catch { /* the stream reports the error */ }
    redraw();
  }, 500);
}

// ---- drawing: only what changed

const glowing = new Set();
let frame = 0, rest = 0, paintedAt = 0, sortedAt = 0, sortTook = 0, again = 0, dirty = true;

function draw() {
  if (frame || rest) return;
  const wait = paintedAt + PAINTED_AGAIN - performance.now();
  if (wait > 0) rest = setTimeout(() => { rest = 0; draw(); }, wait);
  else frame = requestAnimationFrame(() => { frame = 0; paint(); });
}

function redraw() {
  dirty = true;
  paintedAt = 0;
  draw();
}

function paint() {
  paintedAt = performance.now();
  if (lan.changed.size || dirty) {
    const wait = Math.max(SORTED_AGAIN, 10 * sortTook) - (paintedAt - sortedAt);
    view.stale(lan.changed);
    if (dirty || wait <= 0) sort();
    else again ||= setTimeout(() => { again = 0; redraw(); }, wait);
    if (lan.changed.has(pane.mac)) pane.draw();
    lan.changed.clear();
    table.draw();
    table.glow(glowing);
    glowing.clear();
  }
  paintLink();
  people.draw();
  scan.draw();
  events.draw(shows("events"));
  if (shows("networks")) networks.draw();
}

function sort() {
  const started = performance.now();
  view.make(lan.devices);
  table.devices = view.rows;
  paintNetworks();
  paintTags(view, lan);
  paintCounts();
  dirty = false;
  sortedAt = performance.now();
  sortTook = sortedAt - started;
}

function paintCounts() {
  const { online, offline, unknown, notKnown, self } = view.counts;
  const counts = { all: online + offline + unknown, online, offline, unknown, "not-known": notKnown };
  for (const [name, number] of Object.entries(counts)) say(find(`#count-${name}`), number.toLocaleString());
  find("#count-self").hidden = !self; // the daemon does not count it, and the list has it
  find("#chip-unknown").hidden = !unknown && view.query.status !== "unknown";
  const empty = find("#empty");
  empty.hidden = view.rows.length > 0;
  if (empty.hidden) return;
  say(empty, !lan.whole ? "Looking…"
    : view.query.notKnown && !view.query.text && !view.query.status ? "Every device is marked as known."
    : lan.devices.size ? "No device matches the search and the filters."
    : [...lan.networks.values()].some((network) => network.state === "up") ? "No device has been seen yet."
    : "No network is scanned; see Networks for the reasons.");
}

function paintNetworks() {
  drawSiteFilter(lan.sites, view.query.site);
  const select = find("#network"), site = view.query.site;
  const networks = [...lan.networks.values()].filter((network) => network.state !== "excluded" && (!site || network.site === site));
  const ids = [...new Set(networks.map((network) => network.id))];
  if (view.query.network && !ids.includes(view.query.network)) ids.push(view.query.network);
  find("#pick-network").hidden = ids.length < 2 && !view.query.network;
  mark(find("#table"), "data-networks", String(ids.length));
  const has = [...select.options].slice(1).map((option) => option.value);
  if (has.join() !== ids.join()) select.replaceChildren(select.options[0], ...ids.map((id) => new Option(id, id)));
  select.value = view.query.network;
}

function paintLink() {
  const ago = stream.receivedAt ? ` · last update ${age((Date.now() - stream.receivedAt) / 1000)}` : "";
  say(find("#link-words"), (link === "live" ? "live" : "not connected") + ago);
  prompt.draw(lan, link === "live" ? null : failure);
  if (link === "live" || !failure) return;
  showStatus(`${lockedText(failure) || errorText(failure)} Trying again every 3 s.`);
}

function paintSort() {
  const { sort, descending } = view.query;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    mark(head, "aria-sort", head.dataset.sort === sort ? (descending ? "descending" : "ascending") : null);
  }
  find("#sort").value = sort;
}

// ---- views

const narrow = matchMedia("(max-width: 959px)");

/** On a wide screen, the events are beside the devices. */
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
  if (prompt.offer()) return;
  const was = pane.mac, mac = opened();
  if (mac === was) return;
  pane.open(mac);
  table.mark(mac);
  mark(document.body, "data-open", mac && "");
  if (mac) find("#device").focus({ preventScroll: true });
  else if (!find("#search").matches(":focus")) table.focus(was);
}

// ---- input

function query(changes) {
  Object.assign(view.query, changes);
  remember(view.query);
  paintSort();
  find("#scroll").scrollTop = 0;
  redraw();
}

find("#tools").addEventListener("submit", (event) => event.preventDefault());
find("#search").addEventListener("input", (event) => query({ text: event.target.value.trim() }));
find("#presence").addEventListener("change", (event) => query({ status: event.target.value }));
find("#not-known").addEventListener("change", (event) => query({ notKnown: event.target.checked }));
find("#site").addEventListener("change", (event) => query({ site: event.target.value, network: "" }));
find("#network").addEventListener("change", (event) => query({ network: event.target.value }));
find("#tag").addEventListener("change", (event) => query({ tag: event.target.value }));
find("#bulk").addEventListener("click", async () => { await changeTags(view, lan); redraw(); });
find("#sort").addEventListener("change", (event) => query({ sort: event.target.value, descending: false }));
find("#table").tHead.addEventListener("click", (event) => {
  const sort = event.target.closest("th")?.dataset.sort;
  if (sort) query({ sort, descending: view.query.sort === sort && !view.query.descending });
});
exportFrom(find("#actions"), () => view.rows.map((device) => lan.devices.get(deviceKey(device)) || device));
find("#scan").addEventListener("click", () => scan.start(view.query.network ? [view.query.network] : [], view.query.site));
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
    if (find("#actions").open) {
      find("#actions").open = false;
      find("#actions summary").focus();
    } else if (typing?.closest("#device")) typing.blur(); // keeps the text that was typed
    else if (pane.mac && typing !== search) open(null);
    else if (view.query.text) {
      search.value = "";
      query({ text: "" });
    } else if (pane.mac) open(null);
  } else if (event.key === "ArrowDown" && typing === search && view.rows.length) {
    event.preventDefault();
    table.focus(deviceKey(view.rows[0]));
  }
});

addEventListener("hashchange", openByAddress);
narrow.addEventListener("change", () => show(document.body.dataset.view));
document.addEventListener("visibilitychange", () => { if (!document.hidden) redraw(); });

setInterval(() => { // update the ages
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

// ---- start

find("#unloaded").remove();
Object.assign(view.query, queried());
find("#sort").append(...Object.entries(COLUMNS).map(([name, title]) => new Option(`by ${title}`, name)));
find("#search").value = view.query.text;
for (const radio of document.querySelectorAll("#presence input")) radio.checked = radio.value === view.query.status;
find("#not-known").checked = view.query.notKnown;
paintSort();
show("devices");
openByAddress();
stream.connect();
