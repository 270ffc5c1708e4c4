// Events as they happen, the newest first; and the same list for one device.

import { el } from "./element.js";
import { newsIn } from "./lan.js";
import { calledOf, detailOf, inFull, markOf, moment, stamp, titleOf } from "./words.js";

const KEPT = 200;

/** One event as a list item; `alone`: in a list that is about its device anyway. */
export function item(event, alone = false) {
  const at = el("time", { dateTime: event.at, title: inFull(event.at) }, moment(event.at));
  const title = el("b", {}, titleOf(event));
  const device = event.device;
  const whom = device && !alone && el("a", { href: `#${device.mac}`, class: "whom" }, calledOf(device));
  const what = whom || (!alone && event.network ? el("span", { class: "whom" }, event.network) : "");
  const detail = el("span", { class: "why" }, detailOf(event));
  return el("li", { class: markOf(event) }, at, title, " ", what, " ", detail);
}

export class Events {
  constructor({ list, empty, unread }) {
    Object.assign(this, { list, empty, unread });
    this.kept = []; // the newest last
    this.drawn = 0; // how many of them have been shown
    this.fresh = 0;
  }

  /** Tell these, oldest first; they appear with `draw`. */
  add(events) {
    this.kept.push(...events);
    this.fresh += events.length;
    const over = this.kept.length - KEPT;
    if (over > 0) {
      this.kept.splice(0, over);
      this.drawn = Math.max(0, this.drawn - over);
    }
  }

  /** What history tells of the last time, oldest first: put where it belongs, each event once. */
  past(events) {
    const known = new Set(this.kept.map((event) => event.cursor));
    const missed = newsIn(events).filter((event) => !known.has(event.cursor));
    if (!missed.length) return;
    this.kept = [...missed, ...this.kept].sort((one, other) => stamp(one.at) - stamp(other.at)).slice(-KEPT);
    this.list.replaceChildren();
    this.drawn = 0;
  }

  /** Show what is new; `watched`: somebody looks at the list. */
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

/** What a screen reader is told: what happened in the last seconds, in one sentence. */
export class Herald {
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
        `${titleOf(event)}: ${event.device ? calledOf(event.device) : event.network || ""}`).join(". ");
      return;
    }
    const ways = { in: "came", out: "left", odd: "odd" };
    this.element.textContent = Object.entries(ways)
      .map(([way, word]) => [events.filter((event) => markOf(event) === way).length, word])
      .filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(", ");
  }
}
