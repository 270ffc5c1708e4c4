// The list of events, newest first, of all devices or of one.

import { el } from "./element.js";
import { newsIn } from "./lan.js";
import { displayName, detailOf, inFull, markOf, moment, stamp, titleOf } from "./words.js";

const KEPT = 200;

/** Return one event as a list item; `alone`: in the list of its device. */
export function item(event, alone = false) {
  const at = el("time", { dateTime: event.at, title: inFull(event.at) }, moment(event.at));
  const title = el("b", {}, titleOf(event));
  const device = event.device;
  const subject = device && !alone && el("a", { href: `#${device.mac}`, class: "subject" }, displayName(device));
  const what = subject || (!alone && event.network ? el("span", { class: "subject" }, event.network) : "");
  const detail = el("span", { class: "why" }, detailOf(event));
  return el("li", { class: markOf(event) }, at, title, " ", what, " ", detail);
}

export class Events {
  constructor({ list, empty, unread }) {
    Object.assign(this, { list, empty, unread });
    this.kept = []; // newest last
    this.drawn = 0; // number of them that have been shown
    this.fresh = 0;
  }

  /** Add events, oldest first; `draw` shows them. */
  add(events) {
    this.kept.push(...events);
    this.fresh += events.length;
    const over = this.kept.length - KEPT;
    if (over > 0) {
      this.kept.splice(0, over);
      this.drawn = Math.max(0, this.drawn - over);
    }
  }

  /** Insert events of the history, oldest first, each event once. */
  insertHistory(events) {
    const known = new Set(this.kept.map((event) => event.cursor));
    const missed = newsIn(events).filter((event) => !known.has(event.cursor));
    if (!missed.length) return;
    this.kept = [...missed, ...this.kept].sort((one, other) => stamp(one.at) - stamp(other.at)).slice(-KEPT);
    this.list.replaceChildren();
    this.drawn = 0;
  }

  /** Show new events; `watched`: the list is visible. */
  draw(watched) {
    if (this.drawn < this.kept.length) {
      this.list.prepend(...this.kept.slice(this.drawn).reverse().map((event) => item(event)));
      this.drawn = this.kept.length;
      while (this.list.childElementCount > KEPT) this.list.lastElementChild.remove();
    }
    this.empty.hidden = this.drawn > 0;
    if (watched) this.fresh = 0;
    this.unread.hidden = !this.fresh;
    const text = this.fresh > 99 ? "99+" : String(this.fresh);
    if (this.unread.textContent !== text) this.unread.textContent = text;
  }
}

/** Live region for screen readers: the events of the last seconds, in one sentence. */
export class LiveRegion {
  constructor(element) {
    this.element = element;
    this.events = [];
    this.timer = 0;
  }

  add(events) {
    for (const event of events) if (markOf(event)) this.events.push(event);
    if (this.events.length && !this.timer) this.timer = setTimeout(() => this.#speak(), 3000);
  }

  #speak() {
    this.timer = 0;
    const events = this.events;
    this.events = [];
    if (events.length <= 2) {
      this.element.textContent = events.map((event) =>
        `${titleOf(event)}: ${event.device ? displayName(event.device) : event.network || ""}`).join(". ");
      return;
    }
    const ways = { in: "came", out: "left", odd: "odd" };
    this.element.textContent = Object.entries(ways)
      .map(([way, word]) => [events.filter((event) => markOf(event) === way).length, word])
      .filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(", ");
  }
}
