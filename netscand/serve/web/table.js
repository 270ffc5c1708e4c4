// The table. Only the rows in sight exist: 65,000 devices cost no more than 40. Rows are changed in place, each only where
// its text differs, so that nothing flickers.

import { el, mark, say } from "./element.js";
import { networkOf } from "./order.js";
import { age, inFull, kindsOf, nameOf, sourceOf, vendorOf } from "./words.js";

const MARGIN = 8; // rows beyond the edges, so that a slow hand sees none appear
const FLASH = 1600; // ms

const calm = matchMedia("(prefers-reduced-motion: reduce)");

class Row {
  constructor() {
    this.word = el("span", { class: "word" });
    this.dot = el("i", { class: "dot", "aria-hidden": "true" });
    this.link = el("a", { class: "called" });
    this.aka = el("span", { class: "aka" });
    this.tags = el("span", { class: "tags" });
    const cell = (name, ...children) => el("td", { class: `c-${name}`, role: "cell" }, ...children);
    this.ip = cell("ip");
    this.vendor = cell("vendor");
    this.mac = cell("mac");
    this.network = cell("network");
    this.last = cell("last");
    this.first = cell("first");
    this.tr = el("tr", { role: "row" }, cell("status", this.dot, this.word), cell("name", this.link, this.aka, this.tags),
      this.ip, this.vendor, this.mac, this.network, this.last, this.first);
    this.flash = null;
  }

  paint(device, index, now) {
    this.device = device;
    mark(this.tr, "aria-rowindex", String(index + 2));
    if (this.tr.dataset.mac !== device.mac) {
      this.tr.dataset.mac = device.mac;
      this.link.href = `#${device.mac}`;
      this.flash?.cancel();
      say(this.mac, device.mac);
    }
    say(this.word, device.status);
    mark(this.dot, "class", `dot ${device.status}`);
    mark(this.tr, "class", device.status);
    const name = nameOf(device);
    say(this.link, name || device.ip || device.mac);
    mark(this.link, "class", name ? "called" : "called nameless");
    say(this.aka, device.label && device.hostname ? device.hostname : "");
    this.#tag(device);
    put(this.ip, device.ip || "–");
    put(this.vendor, vendorOf(device) || "–", device.vendor ? null : "faint");
    put(this.network, networkOf(device) || "–");
    this.lastAt = Date.parse(device.last_seen);
    this.firstAt = Date.parse(device.first_seen);
    this.tick(now);
  }

  tick(now) {
    say(this.last, age((now - this.lastAt) / 1000));
    say(this.first, age((now - this.firstAt) / 1000));
  }

  /** Full times, only when somebody points at them. */
  explain() {
    this.last.title = inFull(this.device.last_seen);
    this.first.title = inFull(this.device.first_seen);
    mark(this.dot.parentNode, "title", this.device.reason);
  }

  #tag(device) {
    const tags = [...kindsOf(device)];
    const source = sourceOf(device);
    if (source) tags.push(source);
    if (device.known) tags.push("known");
    const text = tags.join("\n");
    if (text === this.tagged) return;
    this.tagged = text;
    this.tags.replaceChildren(...tags.map((tag) =>
      el("span", { class: tag === source ? "tag source" : tag === "known" ? "tag known" : "tag" }, tag)));
  }

  /** A soft mark that something changed. In steps: each step is painted once, a smooth one sixty times a second. */
  glow() {
    if (calm.matches) return;
    this.flash?.cancel();
    const from = getComputedStyle(this.tr).getPropertyValue("--glow");
    this.flash = this.tr.animate({ backgroundColor: [from, from, "transparent"] }, { duration: FLASH, easing: "steps(8)" });
  }
}

function put(cell, text, kind) {
  if (cell.textContent === text) return;
  cell.textContent = text;
  cell.title = text === "–" ? "" : text;
  if (kind !== undefined) cell.classList.toggle("faint", kind === "faint");
}

export class Table {
  /** `latest(mac)`: the device as it is now, or nothing; `now()` in ms by the daemon's clock. */
  constructor({ scroll, table, body, now, latest }) {
    Object.assign(this, { scroll, table, body, now, latest });
    this.devices = [];
    this.rows = new Map();
    this.active = null; // the device that the keyboard is at
    this.current = null; // the device that is open
    this.above = pad();
    this.below = pad();
    body.append(this.above, this.below);
    scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(scroll);
    body.addEventListener("click", (event) => this.#click(event));
    body.addEventListener("focusin", (event) => this.#focused(event));
    body.addEventListener("pointerover", (event) => this.rows.get(event.target.closest("tr")?.dataset.mac)?.explain());
    scroll.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show these, in this order. */
  show(devices) {
    this.devices = devices;
    this.draw();
  }

  /** Mark these softly, where they are in sight. */
  glow(macs) {
    for (const mac of macs) this.rows.get(mac)?.glow();
  }

  /** Let the ages pass. */
  tick() {
    const now = this.now();
    for (const row of this.rows.values()) row.tick(now);
  }

  /** Mark the device that is open; null: none. */
  mark(mac) {
    this.current = mac;
    if (mac) this.active = mac;
    this.draw();
  }

  /** Put the keyboard at a device. */
  focus(mac) {
    const index = this.devices.findIndex((device) => device.mac === mac);
    if (index < 0) return;
    this.active = mac;
    this.#reveal(index);
    this.rows.get(mac)?.link.focus({ preventScroll: true });
  }

  /** Make the rows in sight be those that should be. */
  draw() {
    const height = parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
    this.height = height;
    const head = this.table.tHead.offsetHeight;
    const from = Math.max(0, Math.floor((this.scroll.scrollTop - head) / height) - MARGIN);
    const to = Math.min(this.devices.length, Math.ceil((this.scroll.scrollTop + this.scroll.clientHeight) / height) + MARGIN);
    const shown = this.devices.slice(from, to);
    const now = this.now();
    const focused = this.body.contains(document.activeElement) ? document.activeElement : null;

    const wanted = new Set(shown.map((device) => device.mac));
    const free = [];
    for (const [mac, row] of this.rows) {
      if (wanted.has(mac)) continue;
      this.rows.delete(mac);
      row.tr.remove();
      free.push(row);
    }
    let before = this.above;
    shown.forEach((device, offset) => {
      let row = this.rows.get(device.mac);
      if (!row) this.rows.set(device.mac, (row = free.pop() || new Row()));
      row.paint(this.latest(device.mac) || device, from + offset, now);
      if (before.nextSibling !== row.tr) before.after(row.tr);
      before = row.tr;
    });
    this.above.firstChild.style.height = `${from * height}px`;
    this.below.firstChild.style.height = `${Math.max(0, this.devices.length - to) * height}px`;
    mark(this.table, "aria-rowcount", String(this.devices.length + 1));

    const entry = this.rows.has(this.active) ? this.active : shown[0]?.mac;
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
    const head = this.table.tHead.offsetHeight;
    const top = index * this.height;
    const room = this.scroll.clientHeight - head;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (top + this.height > this.scroll.scrollTop + room) this.scroll.scrollTop = top + this.height - room;
    this.draw();
  }

  #click(event) {
    const row = event.target.closest("tr");
    if (!row?.dataset.mac || event.target.closest("a") || getSelection().type === "Range") return;
    location.hash = row.dataset.mac;
  }

  #focused(event) {
    const mac = event.target.closest("tr")?.dataset.mac;
    if (mac && mac !== this.active) {
      this.active = mac;
      this.draw();
    }
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("thead")) return;
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / this.height) - 2);
    const last = this.devices.length - 1;
    const at = this.devices.findIndex((device) => device.mac === this.active);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.focus(this.devices[Math.min(Math.max(to, 0), last)].mac);
  }
}

function pad() {
  return el("tr", { class: "pad", role: "presentation", "aria-hidden": "true" }, el("td", { colSpan: 8 }));
}
