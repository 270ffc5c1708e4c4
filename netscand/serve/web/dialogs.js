// The dialogs: how they open and close; those to forget a device, and to merge two.

import { find } from "./element.js";
import { ask, device as path } from "./rest.js";
import { displayName } from "./words.js";

/** Ask whether to forget a device; a promise of {history: delete its past events, too}, or of null (keep it). */
export async function askForget(name) {
  const history = find("#forget-history");
  find("#forget-why").textContent =
    `${name}: its label, notes, mark and learned patience are deleted. Its past events stay in the history, with its names, `
    + "until they are too old. If it is still on the network, it comes back as a new device.";
  history.checked = false;
  return (await show(find("#ask-forget"))) === "forget" ? { history: history.checked } : null;
}

/** Ask what to merge into a device, or which MAC to separate, and do it; a promise of a sentence about it, or of null. */
export async function askMerge(device, devices) {
  const { suggestions } = await ask("GET", "api/suggestions");
  const mine = suggestions.filter(({ mac, into }) => mac === device.mac || into === device.mac);
  const why = new Map(mine.map(({ mac, into, evidence }) => [mac === device.mac ? into : mac, evidence.join("; ")]));
  const other = find("#merge-other");
  const others = devices.filter(({ mac, kinds }) => mac !== device.mac && !kinds.includes("self") && !kinds.includes("gateway"))
    .sort((one, two) => why.has(two.mac) - why.has(one.mac) || displayName(one).localeCompare(displayName(two)));
  const options = others.map((each) => new Option(`${displayName(each)} (${each.mac})${why.has(each.mac) ? ` – ${why.get(each.mac)}` : ""}`, each.mac));
  const undo = (device.merged_macs || []).map((mac) => new Option(`Separate ${mac} again`, `undo ${mac}`));
  other.replaceChildren(new Option("Choose…", ""), ...undo, ...options);
  find("#merge-why").textContent = `${displayName(device)} and the chosen device become one: online while any of its MACs is, `
    + "with one label and one history. Devices choose their names themselves, so check that they are one. You can separate them again.";
  if ((await show(find("#ask-merge"))) !== "merge" || !other.value) return null;
  const [separated, chosen] = [other.value.startsWith("undo "), other.value.replace("undo ", "")];
  await (separated ? ask("DELETE", path(chosen, "/merge")) : ask("POST", path(device.mac, "/merge"), { mac: chosen }));
  return separated ? `${chosen} is a device of its own again.` : `${chosen} is merged into this device.`;
}

/** Open a dialog; a promise of the value of the button that closes it. */
export function show(dialog) {
  if (dialog.open) return Promise.resolve("");
  return new Promise((resolve) => {
    const form = find("form", dialog);
    const leave = (value) => {
      dialog.close(value);
      resolve(value);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      leave(event.submitter?.value || form.querySelector("[type=submit]").value);
    };
    form.onclick = (event) => {
      const button = event.target.closest("button[type=button]");
      if (button) leave(button.value);
    };
    // Escape; not the close before, whose event comes after the dialog is open again.
    dialog.onclose = () => {
      if (!dialog.open) resolve("");
    };
    dialog.showModal();
  });
}
