// Which devices are shown, and in what order. Pure.

import { nameOf, vendorOf } from "./words.js";

const RANK = { online: 0, unknown: 1, offline: 2 };
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const byText = (one, other) => collator.compare(one, other);
const byNumber = (one, other) => one - other;

/** column → [the key of a device (null: it has none, and goes last), how two keys compare]. */
const COLUMNS = {
  status: [(device) => RANK[device.status] ?? 3, byNumber],
  name: [(device) => nameOf(device) || null, byText],
  ip: [ipKey, byNumber],
  vendor: [(device) => vendorOf(device) || null, byText],
  mac: [(device) => parseInt(device.mac.replaceAll(":", ""), 16), byNumber],
  network: [(device) => networkOf(device) || null, byText],
  last_seen: [(device) => -Date.parse(device.last_seen), byNumber],
  first_seen: [(device) => -Date.parse(device.first_seen), byNumber],
};

export const SORTABLE = Object.keys(COLUMNS);

/** The network of the address it is shown with. */
export function networkOf(device) {
  const held = device.addresses.find((address) => address.ip === device.ip) || device.addresses[0];
  return held ? held.network : "";
}

/** IPv4 in the order of numbers, then IPv6 by its first 48 bits. */
function ipKey(device) {
  const ip = device.ip;
  if (!ip) return null;
  if (ip.includes(":")) {
    const [a, b, c] = ip.split(":").map((part) => parseInt(part, 16) || 0);
    return 2 ** 33 + (a * 65536 + b) * 65536 + (c || 0);
  }
  return ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** The words of a search, as they are looked for. */
export function words(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean)
    .map((word) => (/^[0-9a-f]{2}(-[0-9a-f]{2})+$/.test(word) ? word.replaceAll("-", ":") : word));
}

/** All that a search looks into. */
function haystack(device) {
  const said = [device.mac, device.hostname, device.label, device.notes, vendorOf(device), device.kinds.join(" ")];
  for (const held of device.addresses) said.push(held.ip);
  return said.filter(Boolean).join("\n").toLowerCase();
}

/** The list as it is looked at. Keeps what it worked out of each device until that one changes. */
export class View {
  constructor() {
    this.query = { text: "", status: "", network: "", sort: "ip", descending: false };
    /** The devices to show, in order. */
    this.rows = [];
    /** How many there are by presence, among those that fit the rest of the query; this host is left out. */
    this.counts = { online: 0, offline: 0, unknown: 0 };
    this.notes = new Map(); // MAC → {device, text, key, order}
    this.sort = null;
  }

  /** Forget what was worked out of these. */
  stale(macs) {
    for (const mac of macs) this.notes.delete(mac);
  }

  /** Make `rows` anew of all devices. */
  make(devices) {
    const { text, status, network, sort, descending } = this.query;
    const [keyOf, compare] = COLUMNS[sort];
    const wanted = words(text);
    const counts = { online: 0, offline: 0, unknown: 0 };
    const shown = [];
    if (this.sort !== sort) this.notes.clear();
    this.sort = sort;
    for (const device of devices.values()) {
      let note = this.notes.get(device.mac);
      if (!note) {
        note = { device, text: haystack(device), key: keyOf(device), order: ipKey(device) ?? Infinity };
        this.notes.set(device.mac, note);
      }
      if (network && !device.addresses.some((held) => held.network === network)) continue;
      if (!wanted.every((word) => note.text.includes(word))) continue;
      if (!device.kinds.includes("self")) counts[device.status] = (counts[device.status] || 0) + 1;
      if (!status || device.status === status) shown.push(note);
    }
    if (this.notes.size > devices.size) {
      for (const mac of this.notes.keys()) if (!devices.has(mac)) this.notes.delete(mac);
    }
    const way = descending ? -1 : 1;
    shown.sort((one, other) => {
      if (one.key === null || other.key === null) {
        if (one.key !== other.key) return one.key === null ? 1 : -1;
      } else {
        const found = compare(one.key, other.key);
        if (found) return found * way;
      }
      return one.order - other.order || (one.device.mac < other.device.mac ? -1 : 1);
    });
    this.counts = counts;
    this.rows = shown.map((note) => note.device);
  }
}
