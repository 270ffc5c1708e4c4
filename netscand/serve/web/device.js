// The pane of one device: its properties, evidence, events, and the user's annotations.

import { drawAddresses } from "./addresses.js";
import { el, facts, find, mark, say } from "./element.js";
import { EventList } from "./events.js";
import { DEVICE_KINDS, deviceKindOf } from "./kinds.js";
import { MergeButton } from "./merge.js";
import { hours, legend, partsOf, query, week } from "./presence.js";
import { device as path } from "./rest.js";
import {
  age, count, deviceKey, displayName, inFull, isNeverSeen, isNew, kindsOf, leaseOf, reasonOf, sourceOf, span, stamp,
  errorText, tagsIn, vendorOf,
} from "./words.js";

const COUNTED_AGAIN = 600_000; // ms until the presence by hour is requested again
const FIELDS = ["label", "known", "notes", "kind", "tags", "patience"];
const NEEDED = "To edit devices, this page needs a token with the role admin.";

const CHOSEN = "chosen by a user"; // kind_reason of a kind that a user chose

/** Return the kind that a user chose, or "". */
const chosenKind = (device) => (device?.kind_reason === CHOSEN && device.kind) || "";

export class DevicePane {
  /**
   * `ask`: REST request; `lan`; `now()` in ms by the daemon's clock; `close()`; `notice(text)`; `token(why)` asks the user
   * for one; `forget(name)`: a promise of {history}, or of null; `reopen(mac)` opens a device; `erased(mac)`: its
   * events are deleted.
   */
  constructor({ element, lan, ask, now, close, notice, token, forget, reopen, erased }) {
    Object.assign(this, { element, lan, ask, now, close, notice, token, forget, reopen, erased });
    this.merging = new MergeButton({ lan, notice, failed: (failure) => this.#failed(failure), changed: () => this.refresh() });
    this.mac = null; // key of the device: on a hub, with the site
    this.drafts = new Map(); // MAC → edits that were not saved: they are kept while the page is open
    this.title = el("h2", { id: "device-title" });
    this.sub = el("p", { class: "sub" });
    this.dot = el("i", { "aria-hidden": "true" });
    this.presence = el("b");
    this.reason = el("span", { class: "why" });
    this.facts = el("dl");
    this.addresses = el("tbody");
    this.week = el("div");
    this.hours = el("div");
    this.events = new EventList({ ask, alone: true, page: 50 });
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
      el("h3", {}, "Last seven days"), this.week, legend(),
      el("h3", {}, "Hours of the last four weeks"), this.hours,
      el("p", { class: "why small" }, "The stronger the colour, the longer it was online in that hour."),
      this.form,
      el("h3", {}, "Events"), this.events.list, this.events.placeholder, this.events.more,
    );
    addEventListener("beforeunload", (event) => { if (this.drafts.size) event.preventDefault(); });
  }

  #form() {
    const button = (text, more) => el("button", { type: "button", ...more }, text);
    this.label = el("input", { id: "d-label", name: "label", maxLength: 128, autocomplete: "off" });
    this.known = el("input", { name: "known", type: "checkbox" });
    this.notes = el("textarea", { id: "d-notes", name: "notes", rows: 3, maxLength: 4096 });
    this.kind = el("select", { id: "d-kind", name: "kind" }, el("option", { value: "" }, "By evidence"),
      ...[...DEVICE_KINDS].map(([value, text]) => el("option", { value }, text)));
    this.tags = el("input", { id: "d-tags", name: "tags", maxLength: 600, autocomplete: "off", autocapitalize: "off" });
    this.patience = el("input", { id: "d-patience", name: "patience", type: "number", min: 1, max: 86400 });
    this.patience.step = "any";
    this.needed = el("p");
    this.unlock = el("div", { class: "unlock" }, this.needed,
      button("Enter a token to edit", { onclick: () => this.token(NEEDED) }),
      el("p", {}, "To create one, on the host of netscand: ", el("code", {}, "sudo netscanctl token add admin")));
    this.result = el("p", { class: "said", role: "status" });
    this.draft = el("p", { class: "draft", role: "status", hidden: true }, el("span"),
      button("Discard", { onclick: () => this.#discard() }));
    this.fields = el("fieldset", {},
      el("legend", {}, "Your annotations"),
      el("label", { for: "d-label" }, "Label"), this.label,
      el("label", { class: "check" }, this.known, "I know this device"),
      el("label", { for: "d-notes" }, "Notes"), this.notes,
      el("label", { for: "d-kind" }, "Kind"), this.kind,
      el("label", { for: "d-tags" }, "Tags, separated by spaces"), this.tags,
      el("label", { for: "d-patience" }, "Patience, in seconds"),
      el("div", { class: "beside" }, this.patience,
        button("Learn automatically", { class: "learn", onclick: () => this.#send({ patience: null }) })),
      el("p", { class: "why" }, "How long it may be silent before it is reported offline."),
      this.draft,
      el("div", { class: "buttons" }, el("button", { class: "main" }, "Save"),
        button("Wake up", { class: "wake", title: "Send a Wake-on-LAN packet", onclick: () => this.#wake() }),
        this.merging.element,
        button("Forget…", { class: "danger", onclick: () => this.#forget() })));
    this.form = el("form", { onsubmit: (event) => this.#submit(event) }, this.unlock, this.fields, this.result);
    this.touched = new Set(); // fields that the user changed: they are not overwritten
    this.form.addEventListener("input", (event) => this.#touch(event.target.name));
  }

  /** Keep an edit until it is saved or discarded. */
  #touch(name) {
    const device = this.lan.devices.get(this.mac);
    const stored = {
      label: device?.label || "", notes: device?.notes || "", known: device?.known, kind: chosenKind(device),
      tags: (device?.tags || []).join(" "), patience: "",
    };
    this.#value(name) === stored[name] ? this.touched.delete(name) : this.touched.add(name);
    this.#keep();
  }

  #value(name) {
    return name === "known" ? this.known.checked : this[name].value;
  }

  #keep() {
    if (this.touched.size) {
      this.drafts.set(this.mac, Object.fromEntries([...this.touched].map((name) => [name, this.#value(name)])));
    } else this.drafts.delete(this.mac);
    this.draft.hidden = !this.touched.size;
    const names = FIELDS.filter((name) => this.touched.has(name)).join(", ");
    say(this.draft.firstChild, names && `Not saved yet: ${names}.`);
  }

  #restore() {
    this.touched.clear();
    this.patience.value = "";
    for (const [name, value] of Object.entries(this.drafts.get(this.mac) || {})) {
      this.touched.add(name);
      if (name === "known") this.known.checked = value;
      else this[name].value = value;
    }
    this.#keep();
  }

  #discard() {
    this.drafts.delete(this.mac);
    this.#restore();
    this.draw();
    this.label.focus();
  }

  /** Show a device; null: none. */
  open(mac) {
    const was = this.mac;
    if (was && this.drafts.has(was) && this.lan.devices.has(was)) {
      const text = `The changes of ${displayName(this.lan.devices.get(was))} are not saved; they are kept while this page is open.`;
      this.notice(text, { act: "Open it", acts: () => this.reopen(was) });
    }
    this.mac = mac;
    this.element.hidden = !mac;
    this.events.open(mac && path(mac, "/events"));
    if (!mac) return;
    this.#restore();
    this.counted = null; // {days, at} of the last answer, or {failure, at}
    this.week.replaceChildren();
    this.hours.replaceChildren();
    say(this.result, "");
    this.element.scrollTop = 0;
    this.single = this.merging.device = null;
    this.draw();
    this.#fetchPresence();
    this.refresh();
  }

  /** Request `last seen`, which the stream does not update. */
  async refresh() {
    const mac = this.mac;
    if (!this.lan.devices.has(mac)) return;
    if (this.counted && this.now() - this.counted.at > COUNTED_AGAIN) this.#fetchPresence();
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
    const ours = events.filter((event) => event.device && deviceKey(event.device) === this.mac);
    if (ours.length) this.events.add(ours);
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
    const never = isNeverSeen(device);
    const here = device.kinds.includes("self") && device.status === "online"; // sends nothing to itself
    const seen = (text) => never ? ["never"] : [age(since(text)), inFull(text)];
    say(this.title, displayName(device));
    say(this.sub, [deviceKindOf(device), ...kindsOf(device), device.known ? "known" : isNew(device, this.now()) ? "new" : ""].filter(Boolean).join(" · "));
    mark(this.dot, "class", `dot ${device.status}`);
    const lasts = never ? "" : ` for ${span(Math.max(0, Math.floor(since(device.status_since))))}`;
    say(this.presence, device.status + lasts);
    say(this.reason, reasonOf(device));
    facts(this.facts, [
      ...(device.site ? [["Site", device.site]] : []),
      ["IP", (device.ip || "none") + (single?.address_origin === "lease" && single.ip === device.ip ? " (by DHCP)" : "")],
      ...(single?.dhcp ? [["DHCP lease", leaseOf(single.dhcp, since), inFull(single.dhcp.received)]] : []),
      ["MAC", device.mac + (device.randomized_mac ? " (randomized)" : "")],
      ["Kind", device.kind ? `${deviceKindOf(device)} (${device.kind_reason})` : "unknown"],
      ...(device.merged_macs ? [["Also", device.merged_macs.join(", ")]] : []),
      ["Vendor", single?.vendor_hint ? `probably ${single.vendor_hint}` : vendorOf(device) || "unknown"],
      ...(device.hostname ? [["Host name", device.hostname + (source && ` (${source})`)]] : []),
      ...(same ? [["Probably", `the same as ${same.label || same.mac} (${same.reason})`]] : []),
      ...(single?.services?.length ? [["Services", single.services.map((each) => each.type).join(", ")]] : []),
      ["Last seen", ...(here ? ["now"] : seen(device.last_seen))],
      ...(unsolicited ? [["Last own frame", age(since(unsolicited)), inFull(unsolicited)]] : []),
      ["First seen", ...seen(device.first_seen)],
      ["Round trip", device.rtt_ms === null ? "not measured" : `${device.rtt_ms} ms`],
      ["Patience", span(device.patience)],
    ]);
    drawAddresses(this.addresses, device, since);
    this.#drawForm(device);
    this.#drawPresence(device);
    this.events.draw();
  }

  /** Draw the answer once it and the device are there, in whichever order they came. */
  #drawPresence(device) {
    const { counted } = this;
    if (!counted || counted.drawn === device.first_seen) return;
    counted.drawn = device.first_seen;
    if (counted.failure) {
      this.hours.replaceChildren();
      return this.week.replaceChildren(el("p", { class: "why" }, errorText(counted.failure)));
    }
    const parts = partsOf(counted.days, stamp(device.first_seen), counted.at);
    this.week.replaceChildren(week(parts, counted.at));
    this.hours.replaceChildren(hours(parts, counted.at));
  }

  #drawForm(device) {
    this.fields.disabled = this.lan.role !== "admin";
    for (const only of [this.tags, this.merging.element]) only.disabled = Boolean(this.lan.sites); // done at the site
    this.merging.draw(device);
    find(".wake", this.form).hidden = device.status !== "offline" || Boolean(this.lan.sites);
    this.unlock.hidden = !this.fields.disabled;
    say(this.needed, `To edit this device, the page needs the role admin; it has the role ${this.lan.role}.`);
    for (const name of ["label", "notes"]) {
      const text = device[name] || "";
      if (!this.touched.has(name) && this[name].value !== text) this[name].value = text;
    }
    const tags = (device.tags || []).join(" ");
    if (!this.touched.has("tags") && this.tags.value !== tags) this.tags.value = tags;
    if (!this.touched.has("known")) this.known.checked = device.known;
    if (!this.touched.has("kind")) this.kind.value = chosenKind(device);
    this.label.placeholder = device.hostname || "none";
    this.patience.placeholder = `${Math.round(device.patience)} now`;
  }

  async #fetchPresence() {
    const mac = this.mac, at = this.now();
    let counted;
    try {
      counted = { ...(await this.ask("GET", path(mac, query(at)))), at };
    } catch (failure) {
      counted = { failure, at };
    }
    if (mac !== this.mac) return;
    this.counted = counted;
    this.draw();
  }

  #submit(event) {
    event.preventDefault();
    const changes = {};
    for (const name of ["label", "notes"]) if (this.touched.has(name)) changes[name] = this[name].value.trim() || null;
    if (this.touched.has("known")) changes.known = this.known.checked;
    if (this.touched.has("kind")) changes.kind = this.kind.value || null;
    if (this.touched.has("tags")) changes.tags = tagsIn(this.tags.value);
    if (this.touched.has("patience")) changes.patience = Number(this.patience.value);
    if (Object.keys(changes).length) this.#send(changes);
    else say(this.result, "No changes to save.");
  }

  async #send(changes) {
    const mac = this.mac;
    try {
      const device = await this.ask("PATCH", path(mac), changes);
      this.lan.put(device);
      if (mac !== this.mac) return this.#saved(mac, changes);
      for (const name of Object.keys(changes)) this.touched.delete(name);
      if ("patience" in changes) this.patience.value = "";
      this.#keep();
      say(this.result, ["Saved.", ...(device.warnings || []).filter((text) => !text.startsWith("not stored")).map((text) => errorText({ message: text }))].join(" "));
      this.draw();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  /** Drop the saved edits of a device that is not shown any more. */
  #saved(mac, changes) {
    const draft = this.drafts.get(mac) || {};
    for (const name of Object.keys(changes)) delete draft[name];
    if (!Object.keys(draft).length) this.drafts.delete(mac);
  }

  async #wake() {
    const mac = this.mac, button = find(".wake", this.form);
    button.disabled = true; // the limits of frames may delay it by seconds
    try {
      const sent = await this.ask("POST", path(mac, "/wake"));
      if (mac === this.mac) say(this.result, `Magic packet sent on ${sent.networks.join(", ")}.`);
    } catch (failure) {
      if (mac === this.mac) this.#failed(failure);
    }
    button.disabled = false;
  }

  async #forget() {
    const mac = this.mac;
    const name = displayName(this.lan.devices.get(mac));
    const choice = await this.forget(name);
    if (!choice) return;
    try {
      const erased = await this.ask("DELETE", path(mac, choice.history ? "?history=true" : ""));
      this.drafts.delete(mac);
      if (choice.history) this.erased(mac);
      const past = choice.history ? `, and ${count(erased.events, "event")} deleted from the history` : "";
      this.notice(`${name} is forgotten${past}.`);
      if (mac === this.mac) this.close();
    } catch (failure) {
      this.#failed(failure);
    }
  }

  #failed(failure) {
    say(this.result, errorText(failure));
    const refused = failure.code === "forbidden" || failure.code === "unauthorized";
    if (refused && this.lan.role !== "admin") this.token(NEEDED); // else a site refuses it
  }
}
