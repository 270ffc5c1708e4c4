// Events as they happen, the newest first; and the same list for one device.

import { el } from "./element.js";
import { calledOf, detailOf, inFull, markOf, moment, titleOf } from "./words.js";

const KEPT = 300;

/** One event as a list item; `alone`: in a list that is about its device anyway. */
export function item(event, alone = false) {
  const at = el("time", { dateTime: event.at, title: inFull(event.at) }, moment(event.at));
  const title = el("b", {}, titleOf(event));
  const device = event.device;
  const whom = device && !alone && el("a", { href: `#${device.mac}`, class: "whom" }, calledOf(device));
  const what = whom || (!alone && event.network ? el("span", { class: "whom" }, event.network) : "");
  const detail = el("span", { class: "why" }, detailOf(event));
  return el("li", { class: markOf(event) }, at, title, what, detail);
}

export class Events {
  constructor({ list, empty, unread }) {
    Object.assign(this, { list, empty, unread });
    this.waiting = [];
    this.seen = new Set(); // cursors, so that history and stream tell each once
    this.fresh = 0;
  }

  /** Tell these, oldest first; they appear with `draw`. */
  add(events) {
    for (const event of events) {
      if (this.seen.has(event.cursor)) continue;
      this.seen.add(event.cursor);
      this.waiting.push(event);
      this.fresh += 1;
    }
    if (this.waiting.length > KEPT) this.waiting.splice(0, this.waiting.length - KEPT);
    if (this.seen.size > 8 * KEPT) this.seen = new Set([...this.seen].slice(-4 * KEPT));
  }

  /** What happened before this page was opened, oldest first: goes below what is there. */
  past(events) {
    const items = events.filter((event) => !this.seen.has(event.cursor)).slice(-KEPT).reverse();
    for (const event of items) this.seen.add(event.cursor);
    this.list.append(...items.map((event) => item(event)));
    this.#trim();
  }

  /** Show what waits; `watched`: somebody looks at the list. */
  draw(watched) {
    if (this.waiting.length) {
      this.list.prepend(...this.waiting.reverse().map((event) => item(event)));
      this.waiting = [];
      this.#trim();
    }
    if (watched) this.fresh = 0;
    this.unread.hidden = !this.fresh;
    const text = this.fresh > 99 ? "99+" : String(this.fresh);
    if (this.unread.textContent !== text) this.unread.textContent = text;
  }

  #trim() {
    while (this.list.childElementCount > KEPT) this.list.lastElementChild.remove();
    this.empty.hidden = this.list.childElementCount > 0;
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
