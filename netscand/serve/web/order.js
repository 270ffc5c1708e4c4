// Filter and order of the devices. Pure.

import { deviceKindOf } from "./kinds.js";
import { deviceKey, isNeverSeen, nameOf, vendorOf } from "./words.js";

const RANK = { online: 0, unknown: 1, offline: 2 };
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const byText = (one, other) => collator.compare(one, other);
const byNumber = (one, other) => one - other;

/** column → [sort key of a device (null: none, sorted last), comparison of two keys]. */
const COLUMNS = {
  status: [(device) => RANK[device.status] ?? 3, byNumber],
  name: [(device) => nameOf(device) || null, byText],
  ip: [ipKey, byNumber],
  vendor: [(device) => vendorOf(device) || null, byText],
  mac: [(device) => parseInt(device.mac.replaceAll(":", ""), 16), byNumber],
  network: [(device) => networkOf(device) || null, byText],
  last_seen: [(device) => (isNeverSeen(device) ? null : -Date.parse(device.last_seen)), byNumber],
  first_seen: [(device) => (isNeverSeen(device) ? null : -Date.parse(device.first_seen)), byNumber],
  site: [(device) => device.site || null, byText],
};

export const SORTABLE = Object.keys(COLUMNS);

/** Return the network of the address that is shown. */
export function networkOf(device) {
  const address = device.addresses.find((address) => address.ip === device.ip) || device.addresses[0];
  return address ? address.network : "";
}

/** Return the sort key: IPv4 by number, then IPv6 by its first 48 bits. */
function ipKey(device) {
  const ip = device.ip;
  if (!ip) return null;
  if (ip.includes(":")) {
    const [a, b, c] = ip.split(":").map((part) => parseInt(part, 16) || 0);
    return 2 ** 33 + (a * 65536 + b) * 65536 + (c || 0);
  }
  return ip.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

/**
 * Part of a MAC in another notation than `aa:bb:cc`: `aabb`, `aa-bb`, `aabb.cc`. No IPv4 address has four digits between
 * dots.
 */
const PART_OF_MAC = /^([0-9a-f]{4,12}|[0-9a-f]{1,2}(-[0-9a-f]{2})+-?[0-9a-f]?|[0-9a-f]{0,3}(\.?[0-9a-f]{4})+\.?[0-9a-f]{0,3})$/;

/** Return the words of a search, each with its digits if it may be a part of a MAC. */
export function words(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const digits = word.replace(/[-.]/g, "");
    return { word, digits: PART_OF_MAC.test(word) && digits.length >= 4 ? digits : null };
  });
}

/** Return whether a device is one that the user did not mark as known; this host needs no mark. */
export const isNotKnown = (device) => !device.known && !device.kinds.includes("self");

/** Return the MAC of a device, and those that were merged into it. */
const macsOf = (device) => [device.mac, ...(device.merged_macs || [])];

/** Return the text that a search looks in. */
function haystack(device) {
  const parts = [device.site, ...macsOf(device), device.hostname, device.label, device.notes, vendorOf(device),
    device.kinds.join(" "), deviceKindOf(device), (device.tags || []).join(" ")];
  for (const address of device.addresses) parts.push(address.ip);
  return parts.filter(Boolean).join("\n").toLowerCase();
}

/** The filtered and sorted list. Caches the search text and sort key of each device until it changes. */
export class View {
  constructor() {
    this.query = { text: "", status: "", network: "", site: "", tag: "", notKnown: false, sort: "ip", descending: false };
    /** The devices to show, in order. */
    this.rows = [];
    /** Number of devices by status, and not known, that match the rest of the query; this host's are counted as `self`. */
    this.counts = { online: 0, offline: 0, unknown: 0, notKnown: 0, self: 0 };
    /** All tags of the devices. */
    this.tags = new Set();
    this.notes = new Map(); // MAC → {device, text, key, order}
    this.sort = null;
  }

  /** Drop the cached values of these devices. */
  stale(keys) {
    for (const key of keys) this.notes.delete(key);
  }

  /** Update `rows` and `counts`. */
  make(devices) {
    const { text, status, network, site, tag, notKnown, sort, descending } = this.query;
    const [keyOf, compare] = COLUMNS[sort];
    const wanted = words(text);
    const counts = { online: 0, offline: 0, unknown: 0, notKnown: 0, self: 0 };
    const shown = [];
    this.tags.clear();
    if (this.sort !== sort) this.notes.clear();
    this.sort = sort;
    for (const [key, device] of devices) {
      let note = this.notes.get(key);
      if (!note) {
        const digits = macsOf(device).join("\n").replaceAll(":", "");
        note = { device, digits, text: haystack(device), key: keyOf(device), order: ipKey(device) ?? Infinity };
        this.notes.set(key, note);
      }
      for (const each of device.tags || []) this.tags.add(each);
      if (site && device.site !== site) continue;
      if (network && !device.addresses.some((address) => address.network === network)) continue;
      if (tag && !device.tags?.includes(tag)) continue;
      if (!wanted.every(({ word, digits }) => note.text.includes(word) || (digits && note.digits.includes(digits)))) continue;
      const hasStatus = !status || device.status === status;
      const unfamiliar = isNotKnown(device);
      if (unfamiliar && hasStatus) counts.notKnown += 1;
      if (notKnown && !unfamiliar) continue;
      const group = device.kinds.includes("self") ? "self" : device.status;
      counts[group] = (counts[group] || 0) + 1;
      if (hasStatus) shown.push(note);
    }
    if (this.notes.size > devices.size) {
      for (const key of this.notes.keys()) if (!devices.has(key)) this.notes.delete(key);
    }
    const way = descending ? -1 : 1;
    shown.sort((one, other) => {
      if (one.key === null || other.key === null) {
        if (one.key !== other.key) return one.key === null ? 1 : -1;
      } else {
        const found = compare(one.key, other.key);
        if (found) return found * way;
      }
      return one.order - other.order || (deviceKey(one.device) < deviceKey(other.device) ? -1 : 1);
    });
    this.counts = counts;
    this.rows = shown.map((note) => note.device);
  }
}
