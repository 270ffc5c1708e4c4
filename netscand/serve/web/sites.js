// What only the page of a hub has: the column and the filter of sites, and a card for each site.

import { el, facts, find, mark, say } from "./element.js";
import { age, count, inFull, KINDS_OF_SITES, stamp } from "./words.js";

/** Show the column of sites, their filter, their events and their view. */
export function showSites(table, events) {
  table.addColumn("site", "Site");
  find("#sort").append(new Option("by Site", "site"));
  events.offer(KINDS_OF_SITES);
  find("#pick-site").hidden = false;
  find('.views [data-view="networks"]').firstChild.data = "Sites";
}

/** Draw the filter of sites; `sites`: null on a host. */
export function drawSiteFilter(sites, chosen) {
  if (!sites) return;
  const select = find("#site"), names = [...sites.keys()].sort();
  if (chosen && !names.includes(chosen)) names.push(chosen);
  const has = [...select.options].slice(1).map((option) => option.value);
  if (has.join() !== names.join()) select.replaceChildren(select.options[0], ...names.map((name) => new Option(name, name)));
  select.value = chosen;
}

/** A site of a hub, with its condition. */
export class SiteCard {
  constructor(choose) {
    this.name = el("h3");
    this.state = el("span", { class: "state" });
    this.show = el("button", { type: "button", onclick: () => choose(this.site) }, "Devices");
    this.why = el("ul", { class: "problems" });
    this.facts = el("dl");
    this.element = el("article", { class: "card" }, el("header", {}, this.name, this.state, this.show), this.why, this.facts);
  }

  draw(site, counts, now) {
    this.site = site.site;
    say(this.name, site.site);
    say(this.state, site.state);
    mark(this.state, "class", `state ${site.state}`);
    mark(this.show, "aria-label", `Show the devices of ${site.site}`);
    const why = site.state === "silent" ? ["Nothing was received from it for 90 s; its devices are unknown.", ...site.why] : site.why;
    if (why.join("\n") !== this.shown) this.why.replaceChildren(...why.map((reason) => el("li", {}, reason)));
    this.shown = why.join("\n");
    this.why.hidden = !why.length;
    const { online = 0, offline = 0, unknown = 0 } = counts || {};
    const last = site.state === "connected" ? "connected" : site.received_at ? age((now - stamp(site.received_at)) / 1000) : "none yet";
    facts(this.facts, [
      ["Devices", `${online} online, ${offline} offline, ${unknown} unknown`],
      ["Last sign of life", last, inFull(site.received_at)],
      ["Backlog", count(site.backlog, "event")],
      ["Version", site.version || "unknown"],
    ]);
  }
}
