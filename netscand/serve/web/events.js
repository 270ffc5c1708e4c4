// The list of events, newest first, of all devices or of one.

import { el, say } from "./element.js";
import { newsIn } from "./lan.js";
import { withQuery } from "./rest.js";
import { displayName, detailOf, errorText, inFull, deviceKey, KIND_GROUPS, markOf, moment, stamp, titleOf } from "./words.js";

const PAGE = 200; // events of one request
const AT_ONCE = 10; // requests at a time, at most
const KEPT = 200; // events that stay in the list beside those that were read from the history

/** Return one event as a list item; `alone`: in the list of its device. */
export function item(event, alone = false) {
  const at = el("time", { dateTime: event.at, title: inFull(event.at) }, moment(event.at));
  const title = el("b", {}, titleOf(event));
  const device = event.device;
  const subject = device && !alone && el("a", { href: `#${deviceKey(device)}`, class: "subject" }, displayName(device));
  const what = subject || (event.person && el("span", { class: "subject" }, event.person.name)) || (!alone && event.network ? el("span", { class: "subject" }, event.network) : "");
  const where = !alone && event.site ? [el("span", { class: "tag" }, event.site), " "] : [];
  const detail = el("span", { class: "why" }, detailOf(event));
  return el("li", { class: markOf(event) }, at, title, " ", ...where, what, " ", detail);
}

/** Return what identifies an event: what a hub itself noticed has the cursor of another one. */
const idOf = (event) => (event.state ? `${event.cursor} ${event.kind} ${event.site}` : event.cursor);

/** List of events that reads the history backwards, a page at a time; new ones are added at its top. */
export class EventList {
  /** `ask`: REST request; `alone`: the events of one device; `page`: events loaded at a time. */
  constructor({ ask, list = el("ol"), placeholder = el("p", { class: "why" }), more = null, alone = false, page = PAGE }) {
    Object.assign(this, { ask, list, placeholder, alone, page });
    this.more = more || el("button", { type: "button", class: "older" }, "Older events");
    this.more.addEventListener("click", () => this.#load());
    this.more.hidden = true;
    this.path = null;
    this.kinds = "";
    this.until = ""; // a wire time: the events up to then, and no new ones
    this.day = "";
    this.#clear();
  }

  /** Show the events of a REST path from now on; null: none. */
  open(path) {
    this.path = path;
    this.#clear();
    if (path) this.#load();
  }

  /** Show only these kinds (separated by commas; "": all), and only events up to a time ("": up to now). */
  filter({ kinds = this.kinds, until = this.until }) {
    Object.assign(this, { kinds, until });
    this.open(this.path);
  }

  /** Add events of the stream, oldest first; `draw` shows them. */
  add(events) {
    if (this.until) return;
    const fit = this.kinds ? events.filter((event) => this.kinds.split(",").includes(event.kind)) : events;
    this.#insert(fit);
  }

  /** Drop the events about a device: they were deleted. */
  drop(mac) {
    this.kept = this.kept.filter((event) => event.device?.mac !== mac && event.other !== mac);
    this.cursors = new Set(this.kept.map(idOf));
    this.changed = true;
  }

  #clear() {
    this.kept = []; // newest last
    this.cursors = new Set();
    this.items = new Map(); // cursor → list item
    this.oldest = null; // cursor to read backwards from
    this.most = KEPT;
    this.loading = null;
    this.changed = true;
    this.failed = "";
    this.more.hidden = true;
    say(this.placeholder, "");
  }

  async #load() {
    if (this.loading) return;
    const run = (this.loading = {});
    this.more.disabled = true;
    let found, news = 0;
    try {
      // After a restart of netscand, many events only confirm the status before it, and are not shown: read on.
      for (let times = 0; times < AT_ONCE && news < this.page / 4 && found?.length !== 0; times++) {
        found = (await this.ask("GET", withQuery(this.path, this.#query()))).events.filter(({ cursor }) => cursor !== this.oldest);
        if (this.loading !== run) return; // another list was opened
        news += this.#insertPage(found);
        if (found.length < this.page) break;
      }
      this.failed = "";
    } catch (failure) {
      if (this.loading !== run) return;
      this.failed = errorText(failure);
    }
    this.loading = null;
    this.more.disabled = false;
    this.more.hidden = found ? found.length < this.page : !this.oldest;
    this.draw();
  }

  #query() {
    const query = new URLSearchParams({ last: this.page + (this.oldest ? 1 : 0) }); // with the oldest one itself
    if (this.kinds) query.set("kind", this.kinds);
    if (this.oldest || this.until) query.set("until", this.oldest || this.until);
    return query;
  }

  /** Insert a page of the history; return how many of its events are shown. */
  #insertPage(found) {
    if (found.length) this.oldest = found[0].cursor;
    this.most += found.length;
    const news = newsIn(found);
    this.#insert(news);
    return news.length;
  }

  /** Insert events, oldest first, each once. */
  #insert(events) {
    const fresh = events.filter((event) => !this.cursors.has(idOf(event)));
    if (!fresh.length) return;
    for (const event of fresh) this.cursors.add(idOf(event));
    const isInOrder = !this.kept.length || stamp(fresh[0].at) >= stamp(this.kept.at(-1).at);
    this.kept = isInOrder ? this.kept.concat(fresh)
      : fresh.concat(this.kept).sort((one, other) => stamp(one.at) - stamp(other.at));
    const gone = this.kept.splice(0, Math.max(0, this.kept.length - this.most));
    if (gone.length) { // they can be read again
      for (const event of gone) this.cursors.delete(idOf(event));
      this.oldest = this.kept[0].cursor;
      this.more.hidden = false;
    }
    this.changed = true;
  }

  /** Show what was added. */
  draw() {
    const today = new Date().toDateString();
    if (this.day !== today) this.items.clear(); // times of another day have a date
    if (this.changed || this.day !== today) {
      this.changed = false;
      this.day = today;
      let at = this.list.firstElementChild;
      for (const event of this.kept.toReversed()) {
        const shown = this.items.get(idOf(event)) || item(event, this.alone);
        this.items.set(idOf(event), shown);
        if (shown === at) at = at.nextElementSibling;
        else this.list.insertBefore(shown, at);
      }
      while (at) {
        const next = at.nextElementSibling;
        at.remove();
        at = next;
      }
      for (const cursor of this.items.keys()) if (!this.cursors.has(cursor)) this.items.delete(cursor);
    }
    const filtered = this.kinds || this.until;
    const none = this.kept.length || this.loading ? "" : filtered ? "No such events are stored." : "No events are stored.";
    say(this.placeholder, this.failed || none);
    this.placeholder.hidden = !this.placeholder.textContent;
  }
}

/** The events of all devices, with the number of those that were not shown yet. */
export class Events extends EventList {
  constructor({ unread, kinds, day, ...how }) {
    super(how);
    this.unread = unread;
    this.fresh = 0;
    this.choices = kinds;
    kinds.append(new Option("All kinds", ""), ...KIND_GROUPS.map(([title, names]) => new Option(title, names.join())));
    const single = [...new Set(KIND_GROUPS.flatMap(([, names]) => names))];
    kinds.append(el("optgroup", { label: "One kind" }, ...single.map((kind) => new Option(titleOf({ kind }), kind))));
    kinds.addEventListener("change", () => this.filter({ kinds: kinds.value }));
    day.addEventListener("change", () => this.filter({ until: endOf(day.value) }));
  }

  /** Offer another group of kinds. */
  offer([title, names]) {
    this.choices.append(new Option(title, names.join()));
  }

  add(events) {
    super.add(events);
    this.fresh += events.length;
  }

  /** Show what was added; `watched`: the list is visible. */
  draw(watched = false) {
    super.draw();
    if (watched) this.fresh = 0;
    this.unread.hidden = !this.fresh;
    say(this.unread, this.fresh > 99 ? "99+" : String(this.fresh));
  }
}

/** Return the end of a local day `2026-11-30` as a wire time; "" for none. */
function endOf(day) {
  if (!day) return "";
  const [year, month, date] = day.split("-").map(Number);
  return new Date(new Date(year, month - 1, date + 1).getTime() - 1).toISOString();
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
        `${titleOf(event)}: ${event.device ? displayName(event.device) : event.person?.name || event.network || event.site || ""}`).join(". ");
      return;
    }
    const ways = { in: "came", out: "left", odd: "odd" };
    this.element.textContent = Object.entries(ways)
      .map(([way, word]) => [events.filter((event) => markOf(event) === way).length, word])
      .filter(([number]) => number).map(([number, word]) => `${number} ${word}`).join(", ");
  }
}
