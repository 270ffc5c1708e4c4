// The row of people above the list: who is home. The dialog of one person: name, devices, and which of them count.

import { show } from "./dialogs.js";
import { el, find, mark, say } from "./element.js";
import { ask } from "./rest.js";
import { displayName, errorText, inFull, moment } from "./words.js";

const path = (name) => `api/people/${encodeURIComponent(name)}`;

export class People {
  /** `lan`; `element`: the row; `notice(text)`; `add`: the button that adds a person. */
  constructor({ lan, element, add, notice }) {
    Object.assign(this, { lan, element, add, notice });
    this.drawn = "";
    add.addEventListener("click", () => this.#edit(null));
  }

  /** Draw the row, if it changed. */
  draw() {
    const { people, role } = this.lan;
    this.add.hidden = role !== "admin" || Boolean(this.lan.sites); // a hub has no people
    const listed = [...people.values()];
    const drawn = JSON.stringify([listed, role, new Date().toDateString()]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.element.hidden = !listed.length;
    this.element.replaceChildren(...listed.map((person) => this.#item(person)));
  }

  #item(person) {
    const dot = el("i", { class: `dot ${{ home: "online", away: "offline" }[person.status] || "unknown"}`, "aria-hidden": "true" });
    const since = el("small", { class: "faint" }, `${person.status} since ${moment(person.status_since)}`);
    const title = `since ${inFull(person.status_since)}`;
    return el("li", {}, el("button", { type: "button", title, onclick: () => this.#edit(person) }, dot, el("b", {}, person.name), " ", since));
  }

  /** Show a person, and change the devices if the role allows it; null: a new person. */
  async #edit(person) {
    if (person && !this.lan.sites) { // no event says that the reason has changed
      try {
        const { people } = await ask("GET", "api/people");
        person = people.find(({ name }) => name === person.name) || person;
      } catch { /* the stream says what is wrong */ }
    }
    const mine = new Map((person?.devices || []).map(({ mac, counts }) => [mac, counts]));
    const [name, list, remove] = [find("#person-name"), find("#person-devices"), find("#person-remove")];
    const admin = this.lan.role === "admin";
    say(find("#person-title"), person ? person.name : "Add a person");
    say(find("#person-why"), person ? `${person.status} since ${moment(person.status_since)}: ${person.reason}.` : "");
    name.value = person?.name || "";
    name.disabled = !admin;
    remove.hidden = !person || !admin;
    find("#person-save").hidden = !admin;
    const devices = [...this.lan.devices.values()].filter(({ mac, kinds }) => mine.has(mac) || !kinds.includes("self"))
      .sort((one, other) => mine.has(other.mac) - mine.has(one.mac) || displayName(one).localeCompare(displayName(other)));
    list.replaceChildren(...devices.slice(0, MOST).map((device) => choice(device, mine, admin)));
    const answer = await show(find("#ask-person"));
    if (!admin || (answer !== "save" && answer !== "remove")) return;
    try {
      if (answer === "remove") {
        await ask("DELETE", path(person.name));
        return this.notice(`${person.name} is removed; the devices stay.`);
      }
      const chosen = new Map([...list.children].map((row) => [row.dataset.mac, row.querySelector("select").value]));
      const add = [], gone = [];
      for (const [mac, value] of chosen) {
        if (value && mine.get(mac) !== (value === "counts")) add.push({ mac, counts: value === "counts" });
        if (!value && mine.has(mac)) gone.push(mac);
      }
      const wanted = name.value.trim();
      await ask("PATCH", path(person?.name || wanted), { add, remove: gone, ...(person && wanted !== person.name ? { name: wanted } : {}) });
    } catch (failure) {
      this.notice(errorText(failure));
    }
  }
}

const MOST = 500; // devices in the dialog: those of the person first

/** Return the row of a device: it is not the person's, it counts, or it does not. */
function choice(device, mine, admin) {
  const options = [["", "not theirs"], ["counts", "counts"], ["owned", "does not count"]].map(([value, text]) => new Option(text, value));
  const select = el("select", { disabled: !admin, "aria-label": displayName(device) }, ...options);
  select.value = mine.has(device.mac) ? (mine.get(device.mac) ? "counts" : "owned") : "";
  const row = el("li", {}, el("span", {}, displayName(device), " ", el("small", { class: "faint" }, device.mac)), select);
  mark(row, "data-mac", device.mac);
  return row;
}
