// The list as a file: CSV with the columns of `netscanctl devices --format csv`, or JSON as the contract has it.

import { isNeverSeen } from "./words.js";

/** Return the function that returns a time of a device; none of one that was never seen. */
const time = (key) => (device) => (isNeverSeen(device) ? "" : device[key]);

const COLUMNS = {
  status: "status", ip: "ip", mac: "mac", name: (device) => device.label || device.hostname, hostname: "hostname",
  label: "label", vendor: "vendor", kinds: (device) => device.kinds.join(" "),
  known: (device) => (device.known ? "yes" : "no"), status_since: time("status_since"),
  first_seen: time("first_seen"), last_seen: time("last_seen"), reason: "reason", notes: "notes", kind: "kind",
  tags: (device) => (device.tags || []).join(" "),
};

/** Characters that start a formula in a spreadsheet, also after separators other than the comma: names are hostile. */
const FORMULA = /(^|[;,|])(\s*)(?=[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])/g;

/** Return the devices as CSV. */
export function asCsv(devices) {
  const columns = devices.some((device) => device.site) ? { ...COLUMNS, site: "site" } : COLUMNS;
  const lines = devices.map((device) =>
    Object.values(columns).map((of) => cell(typeof of === "string" ? device[of] : of(device))).join());
  return [Object.keys(columns).join(), ...lines, ""].join("\n");
}

function cell(value) {
  const line = String(value ?? "").normalize("NFC").replace(/[\s\p{Z}\x85]+/gu, " ").replace(/\p{C}/gu, "").trim();
  const text = line.replace(FORMULA, "$1$2'");
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return the devices as JSON. */
export const asJson = (devices) => `${JSON.stringify({ devices }, null, 2)}\n`;

/** Offer `devices()` as files in a menu. */
export function exportFrom(menu, devices) {
  menu.addEventListener("click", ({ target }) => {
    const button = target.closest("button"), format = button?.value;
    if (button) menu.open = false;
    if (!format) return;
    const name = `netscand-devices-${new Date().toLocaleDateString("sv")}.${format}`; // 2026-11-30
    format === "csv" ? save(name, "text/csv", asCsv(devices())) : save(name, "application/json", asJson(devices()));
  });
  document.addEventListener("click", ({ target }) => { if (!menu.contains(target)) menu.open = false; });
}

/** Save a text as a file of the user. */
function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
