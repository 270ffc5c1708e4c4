// Values as text for people. Pure: plain text in, plain text out.

import { deviceKindOf } from "./kinds.js";

const MINUTE = 60, HOUR = 3600, DAY = 86400;
const EXACT = 120; // seconds below which a duration is shown in seconds; up to five times as many, in minutes and seconds

/** Format seconds as netscanctl does: `12 ms`, `0.4 s`, `90 s`, `2 min 30 s`, `15 min`, `3 h 20 min`, `4 d 2 h`. */
export function span(seconds) {
  if (seconds < 0.1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < EXACT) return `${seconds < 10 && seconds % 1 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 5 * EXACT && whole % MINUTE) return `${Math.floor(whole / MINUTE)} min ${whole % MINUTE} s`;
  const minutes = Math.round(seconds / MINUTE);
  if (minutes < 60) return `${minutes} min`;
  const [big, small, one, other] =
    minutes < 1440 ? [Math.floor(minutes / 60), minutes % 60, "h", "min"]
      : [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60), "d", "h"];
  return small ? `${big} ${one} ${small} ${other}` : `${big} ${one}`;
}

/** Format an age in seconds, in one unit: `now`, `12 s ago`, `5 min ago`, `3 h ago`, `4 d ago`. */
export function age(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 2) return "now";
  if (seconds < MINUTE) return `${Math.floor(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < 2 * DAY) return `${Math.floor(seconds / HOUR)} h ago`;
  return `${Math.floor(seconds / DAY)} d ago`;
}

/** Return a wire time in milliseconds since 1970; NaN if there is none. */
export const stamp = (text) => (text ? Date.parse(text) : NaN);

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

/** Format a wire time as local time; without the date if it is today. */
export function moment(text, now = Date.now()) {
  const at = stamp(text);
  if (Number.isNaN(at)) return "";
  return new Date(at).toDateString() === new Date(now).toDateString() ? clock.format(at) : dayAndClock.format(at);
}

/** Format a wire time in full, for a tooltip. */
export function inFull(text) {
  const at = stamp(text);
  return Number.isNaN(at) ? "" : whole.format(at);
}

/** `1 device`, `2 devices`. */
export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

/** Return what identifies a device: its MAC; on a hub of sites, `SITE/MAC`. */
export const deviceKey = (device) => (device.site ? `${device.site}/${device.mac}` : device.mac);

/** Return what identifies a network: its id; on a hub of sites, `SITE/ID`. */
export const networkKey = (site, id) => (site ? `${site}/${id}` : id);

/** Return why a device has its status; while its site is silent, that, and what the site reported last. */
export const reasonOf = (device) => (device.status_at_site
  ? `site ${device.site} is silent; its last report was ${device.status_at_site}: ${device.reason}` : device.reason);

/** Return the tags in a text, as they are stored. */
export const tagsIn = (text) => [...new Set(text.toLowerCase().split(/[\s,]+/).filter(Boolean))];

/** Return the label or host name. */
export const nameOf = (device) => device.label || device.hostname || "";

/** Return the label, host name, address or MAC. */
export const displayName = (device) => nameOf(device) || device.ip || device.mac;

/** Return the vendor; a randomized MAC has none. */
export const vendorOf = (device) => device.vendor || (device.randomized_mac ? "(randomized MAC)" : "");

/** Return whether a device was only annotated: its times are those of the annotation. */
export const isNeverSeen = (device) => device.kinds.includes("never_seen");

/** Return whether a device was first seen within a day before `now` (ms), and no user marked it as known. */
export const isNew = (device, now) => !device.known && !device.kinds.includes("self")
  && !isNeverSeen(device) && Math.abs(now - Date.parse(device.first_seen)) < DAY * 1000;

const SOURCES = { dhcp: "DHCP", mdns: "mDNS", dns: "DNS", nbns: "NBNS" };

/** Return the source of the name. */
export const sourceOf = (device) =>
  device.label ? "label" : device.hostname ? SOURCES[device.hostname_source] || device.hostname_source || "" : "";

const KINDS = {
  self: "this host", gateway: "gateway", router_redundancy: "virtual router", proxy_arp: "answers for others",
  never_seen: "never seen",
};

/** Return the marks of the device. */
export const kindsOf = (device) => device.kinds.map((kind) => KINDS[kind] || kind);

const EVIDENCE = {
  arp_request: "ARP request", arp_reply: "ARP reply", arp_probe: "ARP probe", arp_announcement: "ARP announcement",
  ndp: "neighbour discovery", dhcp: "DHCP", mdns: "mDNS", nbns: "NBNS", neighbour: "known to this host's kernel",
  proxied: "answered by an access point",
};

/** Return the evidence as text. */
export const evidenceOf = (evidence) => EVIDENCE[evidence] || evidence || "";

const WITHOUT_END = 0xffffffff; // seconds of a lease that does not end

/** Return the latest DHCP lease of a device as text; `since` returns the age of a wire time in seconds. */
export function leaseOf({ address, server, lease_seconds: length, client_id: client, received }, since) {
  const lasts = length === null ? "length not received" : length === WITHOUT_END ? "without end" : `for ${span(length)}`;
  return `${address || "no address"} from ${server}, ${lasts}, received ${age(since(received))}${client ? `; client id ${client}` : ""}`;
}

/** Return how much of a network one scan covers. */
export function coverageOf(network) {
  const { fraction, seconds } = network.coverage;
  if (!fraction) return "addresses where a device was seen";
  if (fraction >= 1) return "every address in each scan";
  return `${(fraction * 100).toPrecision(2)} % a scan, all in ${span(seconds)}`;
}

/** Return the title of an event: its kind, which is also its word in netscanctl. */
export function titleOf(event) {
  const text = event.kind.replaceAll("_", " ").replace("dhcp", "DHCP");
  return text[0].toUpperCase() + text.slice(1);
}

/** Titles of groups of event kinds; every kind is in one. */
export const KIND_GROUPS = [
  ["Online and offline", ["discovered", "online", "offline", "unknown", "forgotten"]],
  ["Addresses", ["address_added", "address_removed", "address_moved", "same_host"]],
  ["People", ["person_home", "person_away", "person_unknown", "person_changed", "person_removed"]],
  ["Names, kinds and annotations", ["renamed", "kind_changed", "labelled", "merged", "split"]],
  ["Warnings", ["address_conflict", "gateway_changed", "dhcp_server_seen", "network_down", "network_silent", "flood"]],
  ["Networks", ["network_up", "network_down", "network_silent", "network_recovered"]],
];

/** The group of the events that only a hub of sites has. */
export const KINDS_OF_SITES = ["Sites", ["site_up", "site_silent", "site_changed", "site_removed", "site_snapshot", "snapshot"]];

const MARKS = {
  discovered: "in", online: "in", offline: "out", forgotten: "out", address_conflict: "odd", gateway_changed: "odd",
  dhcp_server_seen: "odd", network_down: "odd", network_silent: "odd", flood: "odd", site_silent: "odd",
  person_home: "in", person_away: "out",
};

/** Return the CSS class of an event: `in`, `out`, `odd`, or `""`. */
export const markOf = (event) => MARKS[event.kind] || "";

const PLAIN = new Map([[null, "empty"], ["", "empty"], [true, "yes"], [false, "no"]]);
const plain = (value) => Array.isArray(value) ? value.join(" ") || "empty" : PLAIN.get(value) ?? (typeof value === "number" ? span(value) : value);

/** Return the details and the reason of an event. */
export function detailOf(event) {
  const was = event.previous || {};
  const device = event.device || {};
  const address = event.address || "an address";
  switch (event.kind) {
    case "address_added": return `has ${address} too`;
    case "address_removed": return `no longer at ${address}`;
    case "address_moved": return `${address} moved here${event.other ? ` from ${event.other}` : ""}`;
    case "same_host": return `on two interfaces, also ${event.other || "another MAC"}`;
    case "address_conflict": return `${address} is claimed by ${event.other || "another device"} too`;
    case "discovered": return [device.mac, vendorOf(device), event.reason].filter(Boolean).join(" · ");
    case "renamed": return [was.hostname && `was ${was.hostname}`, device.hostname && `now ${device.hostname}`, event.reason]
      .filter(Boolean).join(", ");
    case "kind_changed": return [deviceKindOf(device) || "no kind", was.kind && `was ${deviceKindOf(was)}`, event.reason]
      .filter(Boolean).join(", ");
    case "gateway_changed": return event.other ? `was ${event.other}` : event.reason;
    case "labelled":
      return Object.entries(was).filter(([key]) => key !== "kind_reason").map(([key, old]) => `${key} ${plain(old)} → ${plain(device[key])}`).join(", ")
        || event.reason;
    default: return event.reason || "";
  }
}

/** Return the error text of a request or of the stream. */
export function errorText(failure) {
  switch (failure.code) {
    case "unreachable": return "netscand does not answer.";
    case "lost": return "The connection was lost.";
    case "lagged": return "This page read too slowly.";
    case "busy": return `netscand is busy: ${failure.message}.`;
    default: return failure.message ? `${failure.message[0].toUpperCase()}${failure.message.slice(1)}.` : "It failed.";
  }
}
