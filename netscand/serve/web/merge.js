// One device of several MACs: the button of a device, and its dialog, which merges, separates, or says that two are different.

import { show } from "./dialogs.js";
import { el, find, say } from "./element.js";
import { ask, device as path } from "./rest.js";
import { displayName } from "./words.js";

export class MergeButton {
  /** `lan`; `notice(text)`; `failed(failure)`; `changed()`: something was done. */
  constructor({ lan, notice, failed, changed }) {
    Object.assign(this, { lan, notice, failed, changed });
    this.element = el("button", { type: "button", class: "merge", onclick: () => this.#press() }, "Merge…");
  }

  /** Take the device that is shown; once, until `device` is null, ask whether another one is probably the same, and say so. */
  async draw(device) {
    if (this.device?.mac === device.mac && this.role === this.lan.role) return;
    [this.device, this.role] = [device, this.lan.role];
    say(this.element, "Merge…");
    if (this.role !== "admin" || this.lan.sites) return; // a hub has no suggestions
    try {
      const [suggested] = await suggestionsFor(device);
      if (device === this.device && suggested.size) say(this.element, "Merge… (suggested)");
    } catch { /* the stream says what is wrong */ }
  }

  async #press() {
    try {
      const done = await askMerge(this.lan.devices.get(this.device.mac), [...this.lan.devices.values()]);
      if (!done) return;
      this.notice(done);
      this.role = null; // suggestions have changed; the button works meanwhile
      this.changed();
    } catch (failure) {
      this.failed(failure);
    }
  }
}

/** Return a promise of the MACs that are suggested for a device, and of those that were dismissed, each with the evidence. */
async function suggestionsFor(device) {
  const { suggestions, dismissed } = await ask("GET", "api/suggestions");
  const isOf = ({ mac, into }) => mac === device.mac || into === device.mac;
  const pair = ({ mac, into, evidence }) => [mac === device.mac ? into : mac, evidence.join("; ")];
  return [suggestions, dismissed].map((list) => new Map(list.filter(isOf).map(pair)));
}

/** Ask what to merge into a device, or which MAC to separate, and do it; a promise of a sentence about it, or of null. */
async function askMerge(device, devices) {
  const [suggested, dismissed] = await suggestionsFor(device);
  const rank = ({ mac }) => (suggested.has(mac) ? 2 : dismissed.has(mac) ? 1 : 0);
  const others = devices.filter(({ mac, kinds }) => mac !== device.mac && !kinds.includes("self") && !kinds.includes("gateway"))
    .sort((one, two) => rank(two) - rank(one) || displayName(one).localeCompare(displayName(two)));
  const undo = (device.merged_macs || []).map((mac) => new Option(`Separate ${mac} again`, `undo ${mac}`));
  const options = others.map((each) => new Option(`${displayName(each)} (${each.mac})`, each.mac));
  const [other, evidence, merge, differ] = [find("#merge-other"), find("#merge-evidence"), find("#merge-do"), find("#merge-differ")];
  other.replaceChildren(new Option("Choose…", ""), ...undo, ...options);
  other.value = suggested.keys().next().value || "";
  other.onchange = () => {
    const why = suggested.get(other.value) || dismissed.get(other.value);
    say(evidence, !why ? "" : dismissed.has(other.value) ? `Dismissed, but there is evidence: ${why}.` : `Probably the same: ${why}.`);
    say(merge, other.value.startsWith("undo ") ? "Separate" : "Merge");
    say(differ, dismissed.has(other.value) ? "Suggest again" : "They are different");
    merge.disabled = !other.value;
    differ.hidden = !why;
  };
  other.onchange();
  say(find("#merge-why"), `${displayName(device)} and the chosen device become one: online while any of its MACs is, with one label `
    + "and one history. Devices choose their names themselves, so check that they are one. You can separate them again.");
  const answer = await show(find("#ask-merge")), chosen = other.value.replace("undo ", "");
  if (!chosen || (answer !== "merge" && answer !== "differ")) return null;
  if (answer === "differ") return setDifferent(device, others.find(({ mac }) => mac === chosen), !dismissed.has(chosen));
  const separated = chosen !== other.value;
  await (separated ? ask("DELETE", path(chosen, "/merge")) : ask("POST", path(device.mac, "/merge"), { mac: chosen }));
  return separated ? `${chosen} is a device of its own again.` : `${chosen} is merged into this device.`;
}

/** Say that two devices are different, so that they are not suggested again; or undo that, whichever of the two has it. */
async function setDifferent(device, other, different) {
  const set = (each, macs) => ask("PATCH", path(each.mac), { not_same_as: macs });
  if (different) await set(device, [...(device.not_same_as || []), other.mac]);
  else {
    for (const [one, two] of [[device, other], [other, device]]) {
      if (one.not_same_as?.includes(two.mac)) await set(one, one.not_same_as.filter((mac) => mac !== two.mac));
    }
  }
  return `${displayName(other)} ${different ? "is not suggested again" : "may be suggested again"} as the same device.`;
}
