// What a device is: the kinds that a user can choose, as words, with an icon each.

import { svg } from "./element.js";

/** Kind → its icon, as a path in a square of 16. */
const ICONS = {
  router: "M2 9h12v4H2z M5 11h.01 M11 9V4", access_point: "M8 10v4 M5 8a4 4 0 0 1 6 0 M3 6a7 7 0 0 1 10 0",
  switch: "M1 5h14v6H1z M4 8h1 M7.5 8h1 M11 8h1", computer: "M2 3h12v8H2z M5 14h6 M8 11v3",
  laptop: "M3 4h10v7H3z M1 13h14", server: "M3 2h10v5H3z M3 9h10v5H3z M5 4.5h.01 M5 11.5h.01",
  nas: "M4 2h8v12H4z M4 6h8 M4 10h8", virtual_machine: "M2 3h12v8H2z M5 5h6v4H5z M5 14h6",
  container: "M2 5h12v7H2z M5 5v7 M8 5v7 M11 5v7", phone: "M5 1h6v14H5z M7 13h2", tablet: "M3 1h10v14H3z M7 13h2",
  watch: "M4 5h8v6H4z M6 5V2h4v3 M6 11v3h4v-3", voip_phone: "M2 3h3v8H2z M6 5h8v8H6z M8 7h4",
  printer: "M4 6V2h8v4 M2 6h12v5H2z M4 9h8v5H4z", tv: "M1 3h14v9H1z M5 14h6",
  speaker: "M4 1h8v14H4z M6 10a2 2 0 1 0 4 0a2 2 0 1 0-4 0 M8 4h.01",
  console: "M2 6h12v5H2z M5 7v3 M3.5 8.5h3 M11 8h.01 M12.5 9.5h.01", camera: "M1 5h10v7H1z M11 8l4-2v6l-4-2",
  light: "M5 10a4 4 0 1 1 6 0v1H5z M6 14h4", plug: "M5 2v4 M11 2v4 M3 6h10v3a5 5 0 0 1-10 0z M8 14v1",
  sensor: "M8 8h.01 M5 5a4 4 0 0 0 0 6 M11 5a4 4 0 0 1 0 6",
  thermostat: "M8 2v8 M6 12a2 2 0 1 0 4 0a2 2 0 1 0-4 0 M11 4h2 M11 7h2",
  lock: "M3 7h10v7H3z M5 7V5a3 3 0 0 1 6 0v2", vacuum: "M2 8a6 6 0 1 0 12 0a6 6 0 1 0-12 0 M8 5h.01",
  appliance: "M3 1h10v14H3z M3 5h10 M5 10a3 3 0 1 0 6 0a3 3 0 1 0-6 0", energy: "M9 1L4 9h4l-1 6 5-8H8z",
  hub: "M8 8h.01 M8 3v3 M3 12l3-2 M13 12l-3-2", other: "M6 6a2 2 0 1 1 2.5 2v2 M8 13h.01",
};

const NAMES = { nas: "NAS", tv: "TV", voip_phone: "VoIP phone" };

/** Wire name → words. */
export const DEVICE_KINDS = new Map(Object.keys(ICONS).map((kind) => [kind, NAMES[kind] || kind.replace("_", " ")]));

/** Return what the device is, by a user or by evidence; or "". */
export const deviceKindOf = (device) => DEVICE_KINDS.get(device.kind) || (device.kind || "").replaceAll("_", " ");

/** Return the icon of a kind; one that this page does not know has that of `other`. */
export const iconOf = (kind) =>
  svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[kind] || ICONS.other }));
