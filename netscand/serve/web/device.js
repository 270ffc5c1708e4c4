// The pane of one device: its properties, evidence, events, and the user's annotations.

import { el, mark, say } from "./element.js";
import { item } from "./events.js";
import { newsIn } from "./lan.js";
import { facts } from "./networks.js";
import { device as path } from "./rest.js";
import { week } from "./week.js";
import {
  age, displayName, evidenceOf, inFull, kindsOf, sourceOf, span, stamp, errorText, vendorOf,
} from "./words.js";

const NEEDED = "To edit devices, this page needs a token with the role admin.";

export class DevicePane {
  /**
   * `ask`: REST request; `lan`; `now()` in ms by the daemon's clock; `close()`; `notice(text)`; `token(why)` asks the user
   * for one; `forget(name)`: a promise of yes or no.
   */
  constructor({ element, lan, ask, now, close, notice, token, forget }) {
    Object.assign(this, { element, lan, ask, now, close, notice, token, forget });
    this.mac = null;
    this.shown = new Set(); // cursors of the events shown
    this.title = el("h2", { id: "device-title" });
    this.sub = el("p", { class: "sub" });
    this.dot = el("i", { "aria-hidden": "true" });
    this.presence = el("b");
    this.reason = el("span", { class: "why" });
    this.facts = el("dl");
    this.addresses = el("tbody");
    this.picture = el("div");
    this.events = el("ol");
    this.placeholder = el("p", { class: "why" });
    this.#form();
    const heads = ["Address", "Evidence", "Last seen"].map((name) => el("th", { scope: "col" }, name));
    element.setAttribute("aria-labelledby", "device-title");
    element.append(
      el("header", {}, el("div", {}, this.title, this.sub),
        el("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "×")),
      el("p", { class: "verdict" }, this.dot, this.presence, this.reason),
      this.facts,
      el("h3", {}, "Addresses"),
      el("table", { class: "plain" }, el("thead", {}, el("tr", {}, ...heads)), this.addresses),
      el("h3", {}, "Last seven days"), this.picture,
      this.form,
      el("h3", {}, "Events"), this.events, this.placeholder,
    );
  }

  #form() {
    const button = (text, more) => el("button", { type: "button", ...more }, text);
    this.label = el("input", { id: "d-label", name: "label", maxLength: 128, autocomplete: "off" });
    this.known = el("input", { name: "known", type: "checkbox" });
    this.notes = el("textarea", { id: "d-notes", name: "notes", rows: 3, maxLength: 4096 });
    this.patience = el("input", { id: "d-patience", name: "patience", type: "number", min: 1, max: 86400 });
    this.patience.step = "any";
    this.needed = el("p");
    this.unlock = el("div", { class: "unlock" }, this.needed,
      button("Enter a token to edit", { onclick: () => this.token(NEEDED) }),
      el("p", {}, "To create one, on the host of netscand: ", el("code", {}, "sudo netscanctl token add admin")));
    this.result = el("p", { class: "said", role: "status" });
    this.fields = el("fieldset", {},
      el("legend", {}, "Your annotations"),
      el("label", { for: "d-label" }, "Label"), this.label,
      el("label", { class: "check" }, this.known, "I know this device"),
      el("label", { for: "d-notes" }, "Notes"), this.notes,
      el("label", { for: "d-patience" }, "Patience, in seconds"),
      el("div", { class: "beside" }, this.patience,
        button("Learn it", { class: "learn", onclick: () => this.#send({ patience: null }) })),
      el("p", { class: "why" }, "How long it may be silent before it is reported offline."),
      el("div", { class: "buttons" }, el("button", { class: "main" }, "Save"),
        button("Forget…", { class: "danger", onclick: () => this.#forget() })));
    this.form = el("form", { onsubmit: (event) => this.#submit(event) }, this.unlock, this.fields, this.result);
    this.touched = new Set(); // fields that the user changed: they are not overwritten
    this.form.addEventListener("input", (event) => this.touched.add(event.target.name));
  }

  /** Show a device; null: none. */
  open(mac) {
    this.mac = mac;
    this.element.hidden = !mac;
    if (!mac) return;
    this.touched.clear();
    this.shown.clear();
    this.patience.value = "";
    this.events.replaceChildren();
    this.picture.replaceChildren();
    say(this.placeholder, "");
    say(this.result, "");
    this.element.scrollTop = 0;
    this.single = null;
    this.draw();
    this.#fetch(mac);
    this.refresh();
  }

  /** Request `last seen`, which the stream does not update. */
  async refresh() {
    const mac = this.mac;
    if (!this.lan.devices.has(mac)) return;
    try {
      const device = await this.ask("GET", path(mac));
      this.lan.refresh([device]);
      if (mac !== this.mac) return;
      this.single = device;
      this.draw();
    } catch { /* the stream says what is wrong */ }
  }

  /** Show those events of the stream that belong to this device. */
  addEvents(events) {
    for (const event of events) {
      if (event.device?.mac !== this.mac || this.shown.has(event.cursor)) continue;
      this.shown.add(event.cursor);
      this.events.prepend(item(event, true));
      say(this.placeholder, "");
    }
  }

  draw() {
    if (!this.mac) return;
    const device = this.lan.devices.get(this.mac);
    mark(this.element, "data-gone", device ? null : "");
    if (!device) {
      say(this.title, this.mac);
      say(this.sub, this.lan.whole ? "No such device; it may have been forgotten." : "…");
      return;
    }
    const since = (text) => (this.now() - stamp(text)) / 1000;
    const source = sourceOf({ ...device, label: null });
    const single = this.single; // what only the request for one device shows
    const [same, unsolicited] = [single?.probably_same_as, single?.last_unsolicited];
    const never = device.kinds.includes("never_seen"); // its times are those of the annotation
    const seen = (text) => never ? ["never"] : [age(since(text)), inFull(text)];
    say(this.title, displayName(device));
    say(this.sub, [...kindsOf(device), device.known ? "known" : ""].filter(Boolean).join(" · "));
    mark(this.dot, "class", `dot ${device.status}`);
    say(this.presence, `${device.status} for ${span(Math.max(0, Math.floor(since(device.status_since))))}`);
    say(this.reason, device.reason);
    facts(this.facts, [
      ["IP", device.ip || "none"],
      ["MAC", device.mac + (device.randomized_mac ? " (randomised)" : "")],
      ["Vendor", single?.vendor_hint ? `probably ${single.vendor_hint}` : vendorOf(device) || "unknown"],
      ...(device.hostname ? [["Host name", device.hostname + (source && ` (${source})`)]] : []),
      ...(same ? [["Probably", `the same as ${same.label || same.mac} (${same.reason})`]] : []),
      ["Last seen", ...seen(device.last_seen)],
      ...(unsolicited ? [["Last own frame", age(since(unsolicited)), inFull(unsolicited)]] : []),
      ["First seen", ...seen(device.first_seen)],
      ["Round trip", device.rtt_ms === null ? "not measured" : `${device.rtt_ms} ms`],
      ["Patience", span(device.patience)],
    ]);
    this.#drawAddresses(device, since);
    this.#drawForm(device);
  }

  #drawAddresses(device, since) {
    const rows = this.addresses;
    const addresses = [...device.addresses].sort((one, other) => (one.last_seen < other.last_seen ? 1 : -1));
    while (rows.childElementCount > addresses.length) rows.lastElementChild.remove();
    while (rows.childElementCount < addresses.length) {
      rows.append(el("tr", {}, el("td", {}, el("b"), el("small", { class: "faint" })), el("td"), el("td")));
    }
    addresses.forEach((address, at) => {
      const [where, how, when] = rows.children[at].children;
      say(where.firstChild, address.ip);
      say(where.lastChild, address.hostname || (address.foreign ? `foreign to ${address.network}` : address.network));
      say(how, evidenceOf(address.evidence));
      say(when, age(since(address.last_seen)));
    });
  }

  #drawForm(device) {
    this.fields.disabled = this.lan.role !== "admin";
    this.unlock.hidden = !this.fields.disabled;
    say(this.needed, `To edit this device, the page needs the role admin; it has the role ${this.lan.role}.`);
    for (const name of ["label", "notes"]) {
      const text = device[name] || "";
      if (!this.touched.has(name) && this[name].value !== text) this[name].value = text;
    }
    if (!this.touched.has("known")) this.known.checked = device.known;
    this.label.placeholder = device.hostname || "none";
    this.patience.placeholder = `${Math.round(device.patience)} now`;
  }

  async #fetch(mac) {
    const requests = [this.ask("GET", path(mac, "/events?last=50")), this.ask("GET", path(mac, "/presence?days=7"))];
    const [history, presence] = await Promise.allSettled(requests);
    if (mac !== this.mac) return;
    const first = stamp(this.lan.devices.get(mac)?.first_seen) || 0;
    this.picture.append(presence.status === "fulfilled" ? week(presence.value.days, first, this.now())
      : el("p", { class: "why" }, errorText(presence.reason)));
    if (history.status !== "fulfilled") return say(this.placeholder, errorText(history.reason));
    const events = newsIn(history.value.events).filter((event) => !this.shown.has(event.cursor)).reverse();
    for (const event of events) this.shown.add(event.cursor);
    this.events.append(...events.map((event) => item(event, true)));
    say(this.placeholder, this.events.childElementCount ? "" : "No events are stored.");
  }

  #submit(event) {
    event.preventDefault();
    const changes = {};
    for (const name of ["label", "notes"]) if (this.touched.has(name)) changes[name] = this[name].value.trim() || null;
    if (this.touched.has("known")) changes.known = this.known.checked;
    if (this.patience.value) changes.patience = Number(this.patience.value);
    if (Object.keys(changes).length) this.#send(changes);
    else say(this.result, "No changes to save.");
  }

  async #send(changes) {
    const mac = this.mac;
    try {
      this.lan.put(await this.ask("PATCH", path(mac), changes));
      if (mac !== this.mac) return;
      for (const name of Object.keys(changes)) this.touched.delete(name);
      this.patience.value = "";
      say(this.result, "Saved.");
      this.draw();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  async #forget() {
    const mac = this.mac;
    const name = displayName(this.lan.devices.get(mac));
    if (!(await this.forget(name))) return;
    try {
      await this.ask("DELETE", path(mac));
      this.notice(`${name} is forgotten.`);
      if (mac === this.mac) this.close();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  #failed(failure) {
    say(this.result, errorText(failure));
    if (failure.code === "forbidden" || failure.code === "unauthorized") this.token(NEEDED);
  }
}
