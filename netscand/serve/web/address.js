// The URL: ?q= and the filters, #MAC (on a hub #SITE/MAC) for the open device, so that a view can be bookmarked and Back works; #token= of a link.

import { SORTABLE } from "./order.js";

const DEVICE = /^#([A-Za-z0-9_-]{1,32}\/)?([0-9a-f]{2}(?::[0-9a-f]{2}){5})$/i;
const STATUS = ["online", "offline", "unknown"];

/** Return the query in the URL. */
export function queried() {
  const given = new URLSearchParams(location.search);
  const sort = given.get("sort") || "";
  const status = given.get("status");
  return {
    text: given.get("q") || "", notKnown: given.get("known") === "false", status: STATUS.includes(status) ? status : "", network: given.get("network") || "",
    tag: given.get("tag") || "", site: given.get("site") || "",
    sort: SORTABLE.includes(sort.replace(/^-/, "")) ? sort.replace(/^-/, "") : "ip", descending: sort.startsWith("-"),
  };
}

/** Put a query into the URL. */
export function remember({ text, status, network, site, tag, notKnown, sort, descending }) {
  const given = new URLSearchParams();
  if (text) given.set("q", text);
  if (status) given.set("status", status);
  if (network) given.set("network", network);
  if (site) given.set("site", site);
  if (tag) given.set("tag", tag);
  if (notKnown) given.set("known", "false");
  if (sort !== "ip" || descending) given.set("sort", (descending ? "-" : "") + sort);
  const query = given.toString();
  history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}${location.hash}`);
}

/** Return the device in the URL, or null. */
export function opened() {
  const found = DEVICE.exec(location.hash);
  return found && (found[1] || "") + found[2].toLowerCase();
}

/** Take a token out of the address (#token=…), which no bookmark and no screen should keep; null if there is none. */
export function takeToken() {
  const given = /^#token=(.+)$/.exec(location.hash)?.[1] || null;
  if (given) history.replaceState(null, "", location.pathname + location.search);
  return given;
}

/** Open a device; null: none. */
export function open(key) {
  location.hash = key || "";
}
