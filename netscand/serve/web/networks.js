// The networks with their coverage, the interval, and the health of the daemon.

import { el, facts, mark, say } from "./element.js";
import { Settings } from "./settings.js";
import { SiteCard } from "./sites.js";
import { age, count, coverageOf, inFull, networkKey, span, stamp, errorText } from "./words.js";

const LEASES = [1, 2, 5, 10, 15];

class Card {
  constructor(scan) {
    this.name = el("h3");
    this.state = el("span", { class: "state" });
    this.why = el("p", { class: "why" });
    this.facts = el("dl");
    this.scan = el("button", { type: "button", onclick: () => scan(this.network) }, "Scan");
    const head = el("header", {}, this.name, this.state, this.scan);
    this.element = el("article", { class: "card" }, head, this.why, this.facts);
  }

  /** `mute`: of a site that takes no commands. */
  draw(network, online, now, mute) {
    this.network = network;
    say(this.name, network.site ? `${network.site}: ${network.id}` : network.id);
    say(this.state, network.state);
    mark(this.state, "class", `state ${network.state}`);
    say(this.why, network.why);
    mark(this.scan, "aria-label", `Scan ${network.id} now`);
    this.scan.hidden = network.state !== "up" || mute;
    const last = network.last_scan;
    facts(this.facts, network.state !== "excluded" ? [
      ["Online", online.toLocaleString() + (network.coverage.fraction
        ? ` of ${count(network.addresses, "address", "addresses")}` : "")],
      ["Coverage", coverageOf(network)],
      ["Interval", span(network.interval)],
      ["Last scan", last ? age((now - stamp(last)) / 1000) : "not yet", inFull(last)],
      ["Gateway", network.gateway || "none"],
    ] : []);
  }
}

/** Sentences about lasting conflicts. */
function conflicts(status) {
  const listed = status.conflicts || [];
  const lines = listed.map((one) => `Address conflict: ${one.address} is used by ${one.macs.join(" and ")}.`);
  const more = (status.conflict_count || 0) - listed.length;
  return more > 0 ? [...lines, `${count(more, "more address conflict")}.`] : lines;
}

export class Networks {
  /**
   * `ask(method, path)`: REST request; `stream`; `scan(targets, site)`; `now()` in ms by the daemon's clock; `choose(site)`
   * shows the devices of a site.
   */
  constructor({ element, ailing, lan, stream, ask, scan, now, notice, token, choose }) {
    Object.assign(this, { element, ailing, lan, stream, ask, scan, now, notice, choose });
    this.settings = new Settings({ ask });
    this.cards = new Map();
    this.siteCards = new Map();
    this.siteList = el("div", { class: "cards" });
    this.sites = el("div", { hidden: true }, el("h2", {}, "Sites"), this.siteList);
    this.status = null;
    this.leased = null;
    this.list = el("div", { class: "cards" });
    this.excluded = el("div", { class: "cards" });
    this.others = el("details", { hidden: true }, el("summary", {}, "Not scanned"), this.excluded);
    this.lease = el("select", { onchange: () => this.#lease() });
    this.force = el("p", { class: "why" });
    this.problems = el("ul", { class: "problems" });
    this.health = el("dl");
    this.absent = el("p", { class: "why" });
    this.role = el("span");
    element.append(
      this.sites, el("h2", {}, "Networks"), this.list, this.others,
      (this.interval = el("div", {}, el("h2", {}, "Interval"), el("label", { class: "lease" }, "Scan every ", this.lease), this.force)),
      this.settings.element,
      el("h2", {}, "Health"), this.problems, this.health, this.absent,
      el("div", { class: "role" }, this.role,
        el("button", { type: "button", onclick: () => token() }, "Enter a token")),
    );
  }

  /** Request the interval again after a reconnect: the lease ended with the connection. */
  async connected() {
    this.usual = Math.max(this.usual || 0, this.lan.interval);
    if (this.leased) await this.#requestInterval(this.leased);
    await this.refresh();
  }

  /** Request the status of the daemon. */
  async refresh() {
    try {
      this.status = await this.ask("GET", "api/status");
      this.lan.putNetworks(this.status.networks);
      say(this.absent, "");
    } catch (failure) {
      this.status = null;
      say(this.absent, errorText(failure));
    }
    this.draw();
  }

  draw() {
    const now = this.now();
    const online = new Map();
    for (const device of this.lan.devices.values()) {
      if (device.status !== "online" || device.kinds.includes("self")) continue;
      const seen = new Set();
      for (const address of device.addresses) {
        const network = networkKey(device.site, address.network);
        if (!seen.has(network)) online.set(network, (online.get(network) || 0) + 1);
        seen.add(network);
      }
    }
    for (const [key, network] of this.lan.networks) {
      let card = this.cards.get(key);
      if (!card) this.cards.set(key, (card = new Card(({ id, site }) => this.scan([id], site))));
      const home = network.state === "excluded" ? this.excluded : this.list;
      if (card.element.parentNode !== home) home.append(card.element);
      card.draw(network, online.get(key) || 0, now, this.lan.sites !== null && !this.lan.sites.get(network.site)?.commands);
      card.scan.disabled = !this.stream.live;
    }
    for (const [key, card] of this.cards) {
      if (this.lan.networks.has(key)) continue;
      card.element.remove();
      this.cards.delete(key);
    }
    this.#drawSites(now);
    this.others.hidden = !this.excluded.childElementCount;
    this.settings.draw(this.lan.role);
    say(this.role, `This page has the role ${this.lan.role}.`);
    this.#drawLease();
    this.#drawHealth(now);
  }

  #drawSites(now) {
    const { sites } = this.lan;
    this.sites.hidden = !sites;
    this.interval.hidden = Boolean(sites); // a hub scans nothing
    if (!sites) return;
    const counts = new Map();
    for (const { site, status, kinds } of this.lan.devices.values()) {
      if (kinds.includes("self")) continue;
      if (!counts.has(site)) counts.set(site, { online: 0, offline: 0, unknown: 0 });
      counts.get(site)[status] += 1;
    }
    for (const [name, site] of [...sites].sort(([one], [other]) => (one < other ? -1 : 1))) {
      let card = this.siteCards.get(name);
      if (!card) this.siteCards.set(name, (card = new SiteCard(this.choose)));
      if (!card.element.parentNode) this.siteList.append(card.element);
      card.draw(site, counts.get(name), now);
    }
    for (const [name, card] of this.siteCards) {
      if (sites.has(name)) continue;
      card.element.remove();
      this.siteCards.delete(name);
    }
  }

  #drawLease() {
    const usual = this.usual || this.lan.interval || 30;
    const choices = [0, ...LEASES.filter((seconds) => seconds < usual).reverse()];
    if (this.lease.childElementCount !== choices.length) {
      const title = (seconds) => (seconds ? span(seconds) : `${span(usual)}, as configured`);
      this.lease.replaceChildren(...choices.map((seconds) => new Option(title(seconds), seconds)));
    }
    if (document.activeElement !== this.lease) this.lease.value = String(this.leased || 0);
    this.lease.disabled = !this.stream.live;
    const force = span(this.lan.interval || usual);
    say(this.force, `Now every ${force}. A shorter interval applies to all clients until this page is closed.`);
  }

  #drawHealth(now) {
    const status = this.status;
    const wrong = [...(this.lan.sites?.values() || [])].some((site) => site.state === "silent" || site.problems.length);
    this.ailing.hidden = !wrong && (!status || !status.problems.length);
    const problems = status ? [...status.problems, ...conflicts(status)] : [];
    this.problems.hidden = !problems.length;
    const text = problems.join("\n");
    if (text !== this.shownProblems) this.problems.replaceChildren(...problems.map((problem) => el("li", {}, problem)));
    this.shownProblems = text;
    if (!status) return facts(this.health, []);
    const { frames, budget, devices } = status;
    facts(this.health, [
      ["State", status.status],
      ["Devices", `${devices.online} online, ${devices.offline} offline, ${devices.unknown} unknown`],
      ["Received", `${count(frames.received, "frame")}, ${frames.dropped.toLocaleString()} dropped`],
      ["Sent", `${frames.broadcast.toLocaleString()} broadcast, ${frames.unicast.toLocaleString()} unicast, ${count(frames.send_errors, "error")}`],
      ["Budget", `${budget.used} of ${budget.rate || "unlimited"} frames/s in use`],
      ["Clients", String(status.clients)],
      ["Memory", `${Math.round(status.memory_mib)} MiB`],
      ["Up for", span(Math.max(0, (now - stamp(status.started_at)) / 1000)), inFull(status.started_at)],
      ["Version", `${status.version}, protocol ${status.protocol}`],
    ]);
  }

  async #lease() {
    const seconds = Number(this.lease.value) || null;
    this.leased = seconds;
    await this.#requestInterval(seconds);
  }

  async #requestInterval(seconds) {
    try {
      await this.stream.ask({ type: "set_interval", seconds });
    } catch (failure) {
      this.leased = null;
      if (failure.code !== "unreachable") this.notice(errorText(failure));
    }
    this.lease.blur();
    this.draw();
  }
}
