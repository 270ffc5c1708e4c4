// One device: what it is, how we know, what happened to it, and what the user knows of it.

import { el, mark, say } from "./element.js";
import { item } from "./events.js";
import { newsIn } from "./lan.js";
import { facts } from "./networks.js";
import { device as path } from "./rest.js";
import { week } from "./week.js";
import { age, calledOf, evidenceOf, inFull, kindsOf, nameOf, sourceOf, span, stamp, troubleOf, vendorOf } from "./words.js";

const LISTED = 50;

export class DevicePane {
  /** `ask`: REST; `lan`; `now()`; `close()`; `notice(words)`; `token(why)`: asks for one; `forget(name)`: a promise of yes or no. */
  constructor({ element, lan, ask, now, close, notice, token, forget }) {
    Object.assign(this, { element, lan, ask, now, close, notice, token, forget });
    this.mac = null;
    this.title = el("h2", { id: "device-title" });
    this.sub = el("p", { class: "sub" });
    this.dot = el("i", { class: "dot", "aria-hidden": "true" });
    this.presence = el("b");
    this.reason = el("span", { class: "why" });
    this.facts = el("dl");
    this.addresses = el("tbody");
    this.picture = el("div", { class: "picture" });
    this.events = el("ol");
    this.eventsAbsent = el("p", { class: "why" });
    this.#form();
    const head = ["Address", "Evidence", "Last heard"].map((name) => el("th", { scope: "col" }, name));
    element.setAttribute("aria-labelledby", "device-title");
    element.append(
      el("header", {}, el("div", {}, this.title, this.sub), el("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "×")),
      el("p", { class: "verdict" }, this.dot, this.presence, this.reason),
      this.facts,
      el("h3", {}, "Addresses"), el("table", { class: "plain" }, el("thead", {}, el("tr", {}, ...head)), this.addresses),
      el("h3", {}, "Last seven days"), this.picture,
      this.form,
      el("h3", {}, "Events"), this.events, this.eventsAbsent,
    );
  }

  #form() {
    this.label = el("input", { id: "d-label", name: "label", maxLength: 200, autocomplete: "off" });
    this.known = el("input", { id: "d-known", name: "known", type: "checkbox" });
    this.notes = el("textarea", { id: "d-notes", name: "notes", rows: 3, maxLength: 4000 });
    this.patience = el("input", { id: "d-patience", name: "patience", type: "number", min: 1, max: 86400, step: 1, inputMode: "numeric" });
    this.learn = el("button", { type: "button", class: "quiet", onclick: () => this.#send({ patience: null }) }, "Learn it");
    this.save = el("button", { type: "submit", class: "main" }, "Save");
    this.drop = el("button", { type: "button", class: "quiet danger", onclick: () => this.#forget() }, "Forget…");
    this.unlock = el("button", { type: "button", class: "quiet", onclick: () => this.token("To edit devices, this page needs a token with the role admin.") }, "Enter a token to edit");
    this.said = el("p", { class: "said", role: "status" });
    this.fields = el("fieldset", {},
      el("legend", {}, "What you know of it"),
      el("label", { for: "d-label" }, "Label"), this.label,
      el("label", { class: "check" }, this.known, "I know this device"),
      el("label", { for: "d-notes" }, "Notes"), this.notes,
      el("label", { for: "d-patience" }, "Patience, in seconds"),
      el("div", { class: "beside" }, this.patience, this.learn),
      el("p", { class: "why" }, "How long it may be silent before it counts as gone."),
      el("div", { class: "buttons" }, this.save, this.drop));
    this.form = el("form", { noValidate: false, onsubmit: (event) => this.#submit(event) }, this.fields, this.unlock, this.said);
    this.touched = new Set();
    this.form.addEventListener("input", (event) => this.touched.add(event.target.name));
  }

  /** Show the device `mac`; null: none. */
  open(mac) {
    this.mac = mac;
    this.element.hidden = !mac;
    if (!mac) return;
    this.touched.clear();
    say(this.said, "");
    this.patience.value = "";
    this.events.replaceChildren();
    this.picture.replaceChildren();
    say(this.eventsAbsent, "");
    this.heard = new Set();
    this.element.scrollTop = 0;
    this.draw();
    this.#fetch(mac);
  }

  /** Ask again what the stream does not tell: when it was last heard. */
  async refresh() {
    const mac = this.mac;
    if (!mac) return;
    try {
      const device = await this.ask("GET", path(mac));
      this.lan.refresh([device]);
      if (mac === this.mac) this.draw();
    } catch { /* the stream says what is wrong */ }
  }

  /** Events of the stream; those of this device are shown. */
  hear(events) {
    for (const event of events) {
      if (event.device?.mac !== this.mac || this.heard?.has(event.cursor)) continue;
      this.heard.add(event.cursor);
      this.events.prepend(item(event, true));
      say(this.eventsAbsent, "");
    }
  }

  draw() {
    if (!this.mac) return;
    const device = this.lan.devices.get(this.mac);
    mark(this.element, "data-gone", device ? null : "");
    if (!device) {
      say(this.title, this.mac);
      say(this.sub, this.lan.whole ? "No such device: it was forgotten, or never here." : "…");
      return;
    }
    const now = this.now();
    const since = (text) => (now - stamp(text)) / 1000;
    say(this.title, calledOf(device));
    const source = sourceOf(device);
    say(this.sub, [
      device.label && device.hostname ? `${device.hostname}` : "",
      source && !device.label ? `name by ${source}` : "", ...kindsOf(device), device.known ? "known" : "",
    ].filter(Boolean).join(" · "));
    mark(this.dot, "class", `dot ${device.status}`);
    say(this.presence, `${device.status} for ${span(Math.max(0, Math.floor(since(device.status_since))))}`);
    say(this.reason, device.reason);
    facts(this.facts, [
      ["IP", device.ip || "none"],
      ["MAC", device.mac + (device.randomized_mac ? " (randomised)" : "")],
      ["Vendor", vendorOf(device) || "unknown"],
      ...(nameOf(device) && device.hostname ? [["Host name", device.hostname + (device.hostname_source ? ` (${sourceOf({ ...device, label: null })})` : "")]] : []),
      ["Last seen", age(since(device.last_seen)), inFull(device.last_seen)],
      ["First seen", age(since(device.first_seen)), inFull(device.first_seen)],
      ["Round trip", device.rtt_ms === null ? "not measured" : `${device.rtt_ms} ms`],
      ["Patience", span(device.patience)],
    ]);
    this.#drawAddresses(device, now);
    this.#drawForm(device);
  }

  #drawAddresses(device, now) {
    const held = [...device.addresses].sort((one, other) => (one.last_seen < other.last_seen ? 1 : -1));
    while (this.addresses.childElementCount > held.length) this.addresses.lastElementChild.remove();
    while (this.addresses.childElementCount < held.length) {
      this.addresses.append(el("tr", {}, el("td", {}, el("b"), el("small")), el("td"), el("td")));
    }
    held.forEach((address, at) => {
      const [where, how, when] = this.addresses.children[at].children;
      say(where.firstChild, address.ip);
      say(where.lastChild, address.network);
      say(how, evidenceOf(address.evidence));
      say(when, age((now - stamp(address.last_seen)) / 1000));
      when.title = inFull(address.last_seen);
    });
  }

  #drawForm(device) {
    const may = this.lan.role === "admin";
    this.fields.disabled = !may;
    this.unlock.hidden = may;
    const fresh = (name, put) => this.touched.has(name) || put();
    fresh("label", () => { if (this.label.value !== (device.label || "")) this.label.value = device.label || ""; });
    fresh("notes", () => { if (this.notes.value !== (device.notes || "")) this.notes.value = device.notes || ""; });
    fresh("known", () => { this.known.checked = device.known; });
    this.label.placeholder = device.hostname || "none";
    this.patience.placeholder = `${Math.round(device.patience)} now`;
  }

  async #fetch(mac) {
    const [told, presence] = await Promise.allSettled([
      this.ask("GET", path(mac, "/events")), this.ask("GET", path(mac, "/presence?days=7")),
    ]);
    if (mac !== this.mac) return;
    if (presence.status === "fulfilled") this.picture.replaceChildren(week(presence.value.days, this.now()));
    else this.picture.replaceChildren(el("p", { class: "why" }, absent(presence.reason)));
    if (told.status === "fulfilled") {
      const events = newsIn(told.value.events).filter((event) => !this.heard.has(event.cursor)).slice(-LISTED).reverse();
      for (const event of events) this.heard.add(event.cursor);
      this.events.append(...events.map((event) => item(event, true)));
      say(this.eventsAbsent, this.events.childElementCount ? "" : "Nothing is kept of it.");
    } else {
      say(this.eventsAbsent, absent(told.reason));
    }
  }

  #submit(event) {
    event.preventDefault();
    const changes = {};
    if (this.touched.has("label")) changes.label = this.label.value.trim() || null;
    if (this.touched.has("notes")) changes.notes = this.notes.value.trim() || null;
    if (this.touched.has("known")) changes.known = this.known.checked;
    if (this.touched.has("patience") && this.patience.value) changes.patience = Number(this.patience.value);
    if (Object.keys(changes).length) this.#send(changes);
    else say(this.said, "Nothing was changed.");
  }

  async #send(changes) {
    const mac = this.mac;
    try {
      const device = await this.ask("PATCH", path(mac), changes);
      if (device?.mac) this.lan.put(device);
      if (mac !== this.mac) return;
      for (const name of Object.keys(changes)) this.touched.delete(name);
      if ("patience" in changes) this.patience.value = "";
      say(this.said, "Saved.");
      this.draw();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  async #forget() {
    const mac = this.mac;
    const device = this.lan.devices.get(mac);
    if (!device || !(await this.forget(calledOf(device)))) return;
    try {
      await this.ask("DELETE", path(mac));
      this.notice(`${calledOf(device)} is forgotten.`);
      if (mac === this.mac) this.close();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  #failed(failure) {
    if (failure.code === "forbidden" || failure.code === "unauthorized") {
      this.token(`${troubleOf(failure)} To edit devices, this page needs a token with the role admin.`);
    }
    say(this.said, troubleOf(failure));
  }
}

const absent = (failure) => (failure.code === "not_built" || failure.code === "not_found" ? "This netscand keeps no history." : troubleOf(failure));
