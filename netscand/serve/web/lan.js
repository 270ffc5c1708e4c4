// The state of the LAN, from the messages of the stream. Pure: messages in, changes out. No socket, no clock.
//
// It is more than a dictionary in two ways. A network that goes up, down or silent makes its devices `unknown` without
// an event for each, and a device that later has the same status as before is no change. And while a snapshot arrives in
// parts, the old state stays visible, so that nothing flickers; only the first snapshot is shown while it arrives. On a
// hub, a silent site makes its devices `unknown`, and never offline; until it is back, `status_at_site` has their status.

import { deviceKey, networkKey } from "./words.js";

const STATES = { network_up: "up", network_down: "down", network_silent: "silent", network_recovered: "up" };
const DOUBT = new Set(["network_up", "network_down", "network_silent"]);
const VERDICTS = new Set(["discovered", "online", "offline", "unknown"]);

/** The newest `protocol` number this page understands. */
export const PROTOCOL = 1;

/** Return whether a person is only certain again: home, or away, as before the doubt. */
const isReturn = ({ person, previous, at }) => previous?.status === "unknown" && person.status_since !== at;

/** Return the events to show: without devices that were `unknown` and have the same status as before. */
export function newsIn(events) {
  const verdicts = new Map();
  return events.filter((event) => {
    if (event.person) return !isReturn(event);
    if (!event.device || !VERDICTS.has(event.kind)) return true;
    const key = deviceKey(event.device);
    const was = verdicts.get(key) ?? event.device.status;
    verdicts.set(key, event.device.status);
    if (event.kind === "discovered") return true; // annotated before it was seen
    return event.previous?.status !== "unknown" || was !== event.device.status;
  });
}

export class Lan {
  constructor() {
    /** Key (words.js) → device, as the wire has it. */
    this.devices = new Map();
    /** Key → network. */
    this.networks = new Map();
    /** Name → site, on a hub of sites; else null. */
    this.sites = null;
    /** name in lower case → person. */
    this.people = new Map();
    /** Keys of devices that were changed, added or removed since the last `clear()`. */
    this.changed = new Set();
    /** Cursor to resume from; null: none. */
    this.cursor = null;
    /** A snapshot is complete, or a stream was resumed. */
    this.whole = false;
    this.interval = null;
    this.role = "none";
    this.version = null;
    this.protocol = null;
    /** scan_id → {cause, done, total} of running scans. */
    this.scans = new Map();
    this.before = new Map(); // key → status before it became `unknown`
    this.parts = null;
  }

  /** Apply one message; return the events to show, in order. */
  apply(message) {
    switch (message.type) {
      case "initial_state": return this.#begin(message);
      case "devices": return this.#part(message.devices, message.more);
      case "resumed": return this.#resume(message);
      case "event": return this.#event(message);
      case "scan_started":
        this.scans.set(message.scan_id, { cause: message.requested_by, done: 0, total: 0 });
        break;
      case "scan_progress": {
        const { cause } = this.scans.get(message.scan_id) || { cause: "client" };
        this.scans.set(message.scan_id, { cause, done: message.done, total: message.total });
        break;
      }
      case "scan_update": this.#scanned(message); break;
      case "interval": this.interval = message.seconds; break;
    }
    return [];
  }

  /** Update `last_seen` from a fresh list: a repeated observation makes no event. */
  refresh(devices) {
    for (const fresh of devices) {
      const key = deviceKey(fresh), known = this.devices.get(key);
      if (!known || Date.parse(fresh.last_seen) <= Date.parse(known.last_seen)) continue;
      known.last_seen = fresh.last_seen;
      known.rtt_ms = fresh.rtt_ms;
      if (fresh.addresses.length === known.addresses.length) known.addresses = fresh.addresses;
      this.changed.add(key);
    }
  }

  /** Set one device, from REST. */
  put(device) {
    this.devices.set(deviceKey(device), device);
    this.changed.add(deviceKey(device));
  }

  /** Set the networks, from REST. */
  putNetworks(networks) {
    this.networks = new Map(networks.map((network) => [networkKey(network.site, network.id), network]));
  }

  // ---- the snapshot

  #begin(message) {
    this.#hello(message);
    if (!this.whole) { // the first one was interrupted
      for (const key of this.devices.keys()) this.changed.add(key);
      this.devices.clear();
    }
    this.parts = [];
    this.cursor = null; // an incomplete snapshot cannot be resumed
    this.beginsAt = message.cursor;
    this.people = new Map((message.people || []).map((person) => [person.name.toLowerCase(), person]));
    return this.#part(message.devices, message.more);
  }

  #part(devices, more) {
    if (!this.parts) return [];
    if (this.whole) {
      for (const device of devices) this.parts.push(device);
    } else {
      for (const device of devices) this.put(device);
    }
    if (!more) this.#complete();
    return [];
  }

  #complete() {
    if (this.whole) {
      for (const key of this.devices.keys()) this.changed.add(key);
      this.devices = new Map();
      for (const device of this.parts) this.put(device);
    }
    this.whole = true;
    this.parts = null;
    this.before.clear();
    this.cursor = this.beginsAt;
  }

  #resume(message) {
    this.#hello(message);
    this.parts = null;
    this.whole = true;
    this.cursor = message.cursor;
    for (const site of message.sites || []) this.#site(site);
    return [];
  }

  #hello(message) {
    this.version = message.version;
    this.protocol = message.protocol;
    this.interval = message.interval;
    this.role = message.role;
    this.scans.clear();
    this.putNetworks(message.networks);
    this.sites = message.sites ? new Map(message.sites.map((site) => [site.site, site])) : null;
  }

  // ---- events

  #event(event) {
    if (!this.parts) this.cursor = event.cursor;
    const network = this.networks.get(networkKey(event.site, event.network));
    if (event.kind === "site_removed") this.#removeSite(event.site);
    if (event.state) this.#site(event.state);
    if (network && event.kind in STATES) network.state = STATES[event.kind];
    if (event.network && DOUBT.has(event.kind)) this.#doubt(event);
    const device = event.device;
    if (event.person) return this.#onPerson(event);
    if (!device) return [event];
    const key = deviceKey(device), known = this.devices.get(key);
    this.changed.add(key);
    if (event.kind === "forgotten") {
      this.devices.delete(key);
      this.before.delete(key);
      return [event];
    }
    this.devices.set(key, device);
    if (!VERDICTS.has(event.kind)) return [event];
    const shown = this.before.get(key) ?? known?.status;
    this.before.delete(key);
    const doubted = known?.status === "unknown" || event.previous?.status === "unknown";
    return doubted && shown === device.status ? [] : [event];
  }

  #site(site) {
    this.sites?.set(site.site, site);
    for (const device of this.devices.values()) {
      if (device.site !== site.site || (site.state === "silent") === Boolean(device.status_at_site)) continue;
      if (site.state !== "silent") {
        device.status = device.status_at_site;
        delete device.status_at_site;
      } else if (device.status !== "unknown") {
        device.status_at_site = device.status;
        device.status = "unknown";
      } else continue;
      this.changed.add(deviceKey(device));
    }
  }

  #removeSite(name) { // after a resume, there is no event for each device
    this.sites?.delete(name);
    this.putNetworks([...this.networks.values()].filter((network) => network.site !== name));
    for (const [key, device] of this.devices) {
      if (device.site !== name) continue;
      this.devices.delete(key);
      this.before.delete(key);
      this.changed.add(key);
    }
  }

  #onPerson(event) {
    const { person, previous } = event;
    if (event.site) return isReturn(event) ? [] : [event]; // a hub lists no people, and two sites may have one of the same name
    if (previous?.name) this.people.delete(previous.name.toLowerCase());
    if (event.kind === "person_removed") this.people.delete(person.name.toLowerCase());
    else this.people.set(person.name.toLowerCase(), person);
    return isReturn(event) ? [] : [event];
  }

  #doubt(event) {
    for (const device of this.devices.values()) {
      if (device.site !== event.site) continue;
      const others = new Set(device.addresses.map((known) => known.network));
      if (!others.delete(event.network)) continue;
      if (device.kinds.includes("self") && event.kind === "network_silent") continue; // it did not fall silent
      if (device.kinds.includes("self") && event.kind === "network_up") {
        device.status = "online"; // this host is online while its interface is up
        this.changed.add(deviceKey(device));
      } else if (device.status === "online" && ![...others].some((id) => this.networks.get(networkKey(device.site, id))?.state === "up")) {
        this.before.set(deviceKey(device), device.status);
        device.status = "unknown";
        device.status_since = event.at;
        device.reason = event.reason || "its network is down or silent";
        this.changed.add(deviceKey(device));
      }
    }
  }

  #scanned(message) {
    this.scans.delete(message.scan_id);
    for (const device of message.devices) this.put(device);
    for (const id of message.networks) {
      const network = this.networks.get(id);
      if (network) network.last_scan = message.finished_at;
    }
  }
}
