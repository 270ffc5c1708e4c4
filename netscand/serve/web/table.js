// The table. Only visible rows exist, so 65,000 devices cost no more than 40. Rows are updated in place, and only where
// their text differs, so that nothing flickers.

import { el, mark, say } from "./element.js";
import { deviceKindOf, iconOf } from "./kinds.js";
import { networkOf } from "./order.js";
import { age, deviceKey, inFull, isNeverSeen, isNew, kindsOf, nameOf, reasonOf, sourceOf, vendorOf } from "./words.js";

/** Sort key → title of a column. */
export const COLUMNS = {
  status: "Status", name: "Name", ip: "IP", vendor: "Vendor", mac: "MAC", network: "Network",
  last_seen: "Last seen", first_seen: "First seen",
};

const MARGIN = 8; // extra rows beyond the edges, so that scrolling shows no gaps
const GLOWS = 6, STEP = 220; // a change is highlighted in so many steps of so many ms

class Row {
  constructor() {
    this.word = el("span", { class: "word" });
    this.dot = el("i", { class: "dot", "aria-hidden": "true" });
    this.sign = el("span", { class: "sign" }); // before the name, so that a long name never hides it
    this.name = el("span");
    this.link = el("a", { class: "called" }, this.name);
    this.kind = el("span", { class: "what" }); // after the name, which is cut instead
    this.aka = el("span", { class: "aka" });
    this.tags = el("span", { class: "tags" });
    this.own = el("span"); // the user's tags once more: on a phone, they are beside the vendor
    this.vendor = el("span");
    const cells = Object.keys(COLUMNS).map((name) => el("td", { class: `c-${name}`, role: "cell" }));
    const [status, name] = cells;
    let maker;
    [, , this.ip, maker, this.mac, this.network, this.last, this.first, this.site] = cells;
    status.append(this.dot, this.word);
    name.append(el("div", {}, this.sign, this.link, this.kind, this.aka, this.tags));
    maker.append(this.own, this.vendor);
    this.tr = el("tr", { role: "row" }, ...cells);
    this.heat = 0;
  }

  paint(device, index, now) {
    this.device = device;
    mark(this.tr, "aria-rowindex", String(index + 2));
    const key = deviceKey(device);
    if (this.tr.dataset.key !== key) {
      this.tr.dataset.key = key;
      this.tr.dataset.mac = device.mac;
      this.link.href = `#${key}`;
      this.warm(0);
      say(this.mac, device.mac);
    }
    say(this.word, device.status);
    mark(this.dot, "class", `dot ${device.status}`);
    mark(this.tr, "class", device.status);
    const name = nameOf(device);
    say(this.name, name || device.ip || device.mac);
    mark(this.link, "class", name ? "called" : "called nameless");
    say(this.aka, device.label && device.hostname ? device.hostname : "");
    this.#tag(device, isNew(device, now));
    put(this.ip, device.ip || "–");
    put(this.vendor, vendorOf(device) || "–", device.vendor ? null : "faint");
    put(this.network, networkOf(device) || "–");
    if (this.site) put(this.site, device.site);
    this.lastAt = Date.parse(device.last_seen);
    this.firstAt = Date.parse(device.first_seen);
    this.tick(now);
  }

  tick(now) {
    const present = this.device.status === "online" && this.device.kinds.includes("self"); // sends nothing to itself
    const never = isNeverSeen(this.device);
    say(this.last, never ? "never" : present ? "now" : age((now - this.lastAt) / 1000));
    say(this.first, never ? "never" : age((now - this.firstAt) / 1000));
  }

  /** Set the full times as a tooltip, only on hover. */
  explain() {
    const never = isNeverSeen(this.device);
    this.last.title = never ? "" : inFull(this.device.last_seen);
    this.first.title = never ? "" : inFull(this.device.first_seen);
    mark(this.dot.parentNode, "title", reasonOf(this.device));
    const names = [nameOf(this.device), this.aka.textContent].filter(Boolean).join(", ");
    mark(this.link.parentNode, "title", names || null);
  }

  #tag(device, fresh) {
    const kinds = kindsOf(device), source = sourceOf(device), kind = deviceKindOf(device);
    const own = device.tags || [];
    const text = [device.known, fresh, source, kind, device.kind_reason, ...kinds, "", ...own].join("\n");
    if (text === this.tagged) return;
    this.tagged = text;
    const known = { class: "known", title: "known", role: "img", "aria-label": "known" };
    const recent = { class: "tag new", title: "first seen within a day, and not marked as known" };
    this.sign.replaceChildren(...(device.known ? [el("span", known, "✓")] : fresh ? [el("span", recent, "new")] : []));
    const tags = kinds.map((mark) => el("span", { class: "tag" }, mark));
    const chip = kind && el("span", { class: "tag kind", title: `${kind}: ${device.kind_reason}` }, iconOf(device.kind), el("span", {}, kind));
    this.kind.replaceChildren(...(chip ? [chip] : []));
    const ownTags = () => own.map((tag) => el("span", { class: "tag own" }, `#${tag}`));
    tags.push(...ownTags());
    this.own.replaceChildren(...ownTags());
    if (source) tags.push(el("span", { class: "tag source", title: "where the name comes from" }, source));
    this.tags.replaceChildren(...tags);
  }

  /** Set the strength of the highlight of a change. */
  warm(heat) {
    if (heat === this.heat) return;
    this.heat = heat;
    this.tr.style.setProperty("--heat", `${Math.min(100, heat * 25)}%`);
  }
}

function put(cell, text, kind) {
  if (cell.textContent === text) return;
  cell.textContent = text;
  cell.title = text === "–" ? "" : text;
  if (kind !== undefined) cell.classList.toggle("faint", kind === "faint");
}

export class Table {
  /** `latest(key)`: the current device, or undefined; `open(key)`; `now()` in ms by the daemon's clock. */
  constructor({ scroll, table, now, latest, open }) {
    const body = table.tBodies[0];
    Object.assign(this, { scroll, table, body, now, latest, open });
    for (const [name, title] of Object.entries(COLUMNS)) this.#head(name, title);
    this.devices = []; // for the next `draw`, in this order
    this.rows = new Map();
    this.active = null; // device with the keyboard focus
    this.current = null; // open device
    this.above = pad();
    this.below = pad();
    body.append(this.above, this.below);
    this.top = 0;
    this.room = 0;
    this.cooling = 0;
    scroll.addEventListener("scroll", () => { this.top = scroll.scrollTop; this.draw(); }, { passive: true });
    new ResizeObserver(() => this.#measure()).observe(scroll);
    body.addEventListener("click", (event) => this.#click(event));
    body.addEventListener("focusin", (event) => this.#focused(event));
    body.addEventListener("pointerover", (event) => this.rows.get(event.target.closest("tr")?.dataset.key)?.explain());
    scroll.addEventListener("keydown", (event) => this.#key(event));
  }

  #head(name, title) {
    const about = { class: `c-${name}`, role: "columnheader", scope: "col", "data-sort": name };
    this.table.tHead.rows[0].append(el("th", about, el("button", { type: "button" }, title)));
  }

  /** Add a column, before the first row. */
  addColumn(name, title) {
    COLUMNS[name] = title;
    this.#head(name, title);
  }

  /** Highlight visible rows. All fade together, so that there are few paints a second, however many glow. */
  glow(keys) {
    for (const key of keys) this.rows.get(key)?.warm(GLOWS);
    if (keys.size) this.cooling ||= setInterval(() => this.#cool(), STEP);
  }

  #cool() {
    let warm = false;
    for (const row of this.rows.values()) {
      if (row.heat) row.warm(row.heat - 1);
      warm ||= row.heat > 0;
    }
    if (!warm) this.cooling = clearInterval(this.cooling);
  }

  tick() {
    const now = this.now();
    for (const row of this.rows.values()) row.tick(now);
  }

  mark(mac) {
    this.current = mac;
    if (mac) this.active = mac;
    this.draw();
  }

  focus(mac) {
    const index = this.devices.findIndex((device) => deviceKey(device) === mac);
    if (index < 0) return;
    this.active = mac;
    this.#reveal(index);
    this.rows.get(mac)?.link.focus({ preventScroll: true });
  }

  draw() {
    const { height, top, room } = this;
    if (!room) return;
    const from = Math.max(0, Math.min(Math.floor(top / height), this.devices.length) - MARGIN);
    const to = Math.min(this.devices.length, Math.ceil((top + room) / height) + MARGIN);
    const shown = this.devices.slice(from, to);
    const now = this.now();
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;

    const wanted = new Set(shown.map(deviceKey));
    const free = [];
    for (const [mac, row] of this.rows) {
      if (wanted.has(mac)) continue;
      this.rows.delete(mac);
      row.tr.remove();
      free.push(row);
    }
    let before = this.above;
    shown.forEach((device, offset) => {
      const key = deviceKey(device);
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, (row = free.pop() || new Row()));
      row.paint(this.latest(key) || device, from + offset, now);
      if (before.nextSibling !== row.tr) before.after(row.tr);
      before = row.tr;
    });
    this.above.firstChild.style.height = `${from * height}px`;
    this.below.firstChild.style.height = `${Math.max(0, this.devices.length - to) * height}px`;
    mark(this.table, "aria-rowcount", String(this.devices.length + 1));

    const entry = this.rows.has(this.active) ? this.active : shown[0] && deviceKey(shown[0]);
    for (const [mac, row] of this.rows) {
      mark(row.link, "tabindex", mac === entry ? "0" : "-1");
      mark(row.link, "aria-current", mac === this.current ? "true" : null);
      row.tr.classList.toggle("open", mac === this.current);
    }
    if (focused && document.activeElement !== focused) {
      const row = this.rows.get(this.active);
      row ? row.link.focus({ preventScroll: true }) : this.scroll.focus({ preventScroll: true });
    }
  }

  #reveal(index) {
    const at = index * this.height;
    if (at < this.top) this.scroll.scrollTop = at;
    else if (at + this.height > this.top + this.room) this.scroll.scrollTop = at + this.height - this.room;
    this.top = this.scroll.scrollTop;
    this.draw();
  }

  #measure() {
    this.height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    this.room = this.scroll.clientHeight - this.table.tHead.offsetHeight;
    this.top = this.scroll.scrollTop;
    this.draw();
  }

  #click(event) {
    const row = event.target.closest("tr");
    if (!row?.dataset.key || event.target.closest("a") || getSelection().type === "Range") return;
    this.open(row.dataset.key);
  }

  #focused(event) {
    const mac = event.target.closest("tr")?.dataset.key;
    if (mac && mac !== this.active) {
      this.active = mac;
      this.draw();
    }
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("thead")) return;
    const page = Math.max(1, Math.floor(this.room / this.height) - 1);
    const last = this.devices.length - 1;
    const at = this.devices.findIndex((device) => deviceKey(device) === this.active);
    const ways = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last };
    const to = ways[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.focus(deviceKey(this.devices[Math.min(Math.max(to, 0), last)]));
  }
}

function pad() {
  return el("tr", { class: "pad", role: "presentation", "aria-hidden": "true" }, el("td"));
}
