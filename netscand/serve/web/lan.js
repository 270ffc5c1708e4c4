// What this page knows of the LAN, folded from the stream. Pure: messages in, what changed out. No socket, no clock.
//
// Two things make it more than a dictionary. A network that goes up, down or silent puts its devices in doubt without
// an event for each, and a device that leaves the doubt as it entered it is no news. And while a snapshot arrives in
// parts the old picture stays, so that nothing flickers; only the very first one is shown as it comes.

const STATES = { network_up: "up", network_down: "down", network_silent: "silent", network_recovered: "up" };
const DOUBT = new Set(["network_up", "network_down", "network_silent"]);
const VERDICTS = new Set(["discovered", "online", "offline"]);

/** The newest `protocol` number this page understands. */
export const PROTOCOL = 1;

/** Of events that are kept, those worth telling: a device that left a doubt as it had entered it is no news. */
export function newsIn(events) {
  const verdicts = new Map();
  return events.filter((event) => {
    const mac = event.device?.mac;
    if (!mac || !VERDICTS.has(event.kind)) return true;
    const was = verdicts.get(mac) ?? event.device.status;
    verdicts.set(mac, event.device.status);
    return event.previous?.status !== "unknown" || was !== event.device.status;
  });
}

export class Lan {
  constructor() {
    /** MAC → device, as the wire has it. */
    this.devices = new Map();
    /** id → network. */
    this.networks = new Map();
    /** MACs whose device changed, came or went since somebody last looked; `clear()` it then. */
    this.changed = new Set();
    /** Where to resume; null: nowhere. */
    this.cursor = null;
    /** A snapshot arrived to its end, or a stream was resumed. */
    this.whole = false;
    this.interval = null;
    this.role = "none";
    this.version = null;
    this.protocol = null;
    /** scan_id → {cause, done, total}, of those that run. */
    this.scans = new Map();
    this.before = new Map(); // MAC → presence before the doubt it is in
    this.parts = null;
  }

  /** Fold one message in; the events that are worth telling, in order. */
  hear(message) {
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

  /** Take what a fresh list says of when devices were last heard: a repeated observation makes no event. */
  refresh(devices) {
    for (const told of devices) {
      const held = this.devices.get(told.mac);
      if (!held || Date.parse(told.last_seen) <= Date.parse(held.last_seen)) continue;
      held.last_seen = told.last_seen;
      held.rtt_ms = told.rtt_ms;
      if (told.addresses.length === held.addresses.length) held.addresses = told.addresses;
      this.changed.add(told.mac);
    }
  }

  /** Take one device as REST answered it. */
  put(device) {
    this.devices.set(device.mac, device);
    this.changed.add(device.mac);
  }

  /** Take the networks as REST answered them. */
  putNetworks(networks) {
    this.networks = new Map(networks.map((network) => [network.id, network]));
  }

  // ---- the snapshot

  #begin(message) {
    this.#hello(message);
    if (!this.whole) { // a first one that broke off
      for (const mac of this.devices.keys()) this.changed.add(mac);
      this.devices.clear();
    }
    this.parts = [];
    this.cursor = null; // half a snapshot is nowhere to resume from
    this.beginsAt = message.cursor;
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
      for (const mac of this.devices.keys()) this.changed.add(mac);
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
    return [];
  }

  #hello(message) {
    this.version = message.version;
    this.protocol = message.protocol;
    this.interval = message.interval;
    this.role = message.role;
    this.scans.clear();
    this.putNetworks(message.networks);
  }

  // ---- what happens

  #event(event) {
    if (!this.parts) this.cursor = event.cursor;
    const network = this.networks.get(event.network);
    if (network && event.kind in STATES) network.state = STATES[event.kind];
    if (event.network && DOUBT.has(event.kind)) this.#doubt(event);
    const device = event.device;
    if (!device) return [event];
    const known = this.devices.get(device.mac);
    this.changed.add(device.mac);
    if (event.kind === "forgotten") {
      this.devices.delete(device.mac);
      this.before.delete(device.mac);
      return [event];
    }
    this.devices.set(device.mac, device);
    if (!VERDICTS.has(event.kind)) return [event];
    const shown = this.before.get(device.mac) ?? known?.status;
    this.before.delete(device.mac);
    const doubted = known?.status === "unknown" || event.previous?.status === "unknown";
    return doubted && shown === device.status ? [] : [event];
  }

  #doubt(event) {
    for (const device of this.devices.values()) {
      const others = new Set(device.addresses.map((held) => held.network));
      if (!others.delete(event.network)) continue;
      if (device.kinds.includes("self") && event.kind === "network_up") {
        device.status = "online"; // this host needs nobody's verdict
        this.changed.add(device.mac);
      } else if (device.status === "online" && ![...others].some((id) => this.networks.get(id)?.state === "up")) {
        this.before.set(device.mac, device.status);
        device.status = "unknown";
        device.status_since = event.at;
        device.reason = event.reason || "its network is in doubt";
        this.changed.add(device.mac);
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
