// When a device was online, drawn in the time zone of the viewer: a bar for each of seven days, and the hours of four
// weeks. The daemon counts in parts of UTC days, of an hour or, where the time zone requires it, of 30 or 15 minutes.

import { el, svg } from "./element.js";
import { span } from "./words.js";

const WEEKS = 4, DAYS = 7 * WEEKS;
const HOUR = 3_600_000;
const WIDTH = 36, GAP = 8, HEIGHT = 64, FOOT = 16; // of the bars
const CELL = 12, LINE = 9, EDGE = 46; // of the hours

const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const date = new Intl.DateTimeFormat(undefined, { weekday: "short", month: "short", day: "numeric" });

/** Return the query for the presence of four weeks. */
export function query(now) {
  const off = [0, DAYS].map((days) => Math.abs(new Date(now - days * 24 * HOUR).getTimezoneOffset()) % 60);
  const step = off.every((minutes) => minutes === 0) ? 3600 : off.every((minutes) => minutes % 30 === 0) ? 1800 : 900;
  return `/presence?days=${DAYS + 1}&step=${step}`; // a local day may begin on the day before, by UTC
}

/** Return parts {at, ends (ms), online, unknown, passed (s)} of `days` of the answer, between `first` seen and `now`. */
export function partsOf(days, first, now) {
  const parts = [];
  for (const { date, online_parts: online, unknown_parts: unknown } of days) {
    const long = (24 * HOUR) / online.length;
    const begin = Date.parse(date);
    for (let number = 0; number < online.length; number++) {
      const at = begin + number * long;
      const passed = (Math.min(at + long, now) - Math.max(at, first)) / 1000;
      if (passed <= 0) continue;
      const known = Math.min(online[number], passed);
      parts.push({ at, ends: at + long, online: known, unknown: Math.min(unknown[number], passed - known), passed });
    }
  }
  return parts;
}

/** Return the local midnight `back` days before the day of `now`. */
function midnight(now, back) {
  const day = new Date(now);
  day.setHours(0, 0, 0, 0);
  day.setDate(day.getDate() - back);
  return day.getTime();
}

const sum = (parts) => parts.reduce((all, { online, unknown, passed }) =>
  ({ online: all.online + online, unknown: all.unknown + unknown, passed: all.passed + passed }),
{ online: 0, unknown: 0, passed: 0 });

const textOf = ({ online, unknown, passed }) => passed
  ? `online ${span(online)}${unknown >= 60 ? `, unknown ${span(unknown)}` : ""}` : "nothing known";

/** Return the chart of seven days: one bar for each, as high as the time that it was online. */
export function week(parts, now) {
  const picture = svg("svg", { viewBox: `0 0 ${7 * (WIDTH + GAP) - GAP} ${HEIGHT + FOOT}`, class: "week", role: "img" });
  const texts = [];
  for (let back = 6; back >= 0; back--) {
    const begin = midnight(now, back), end = midnight(now, back - 1);
    const day = sum(parts.filter(({ at }) => at >= begin && at < end));
    const name = weekday.format(begin);
    const text = `${name}: ${textOf(day)}`;
    const x = (6 - back) * (WIDTH + GAP);
    const bar = svg("g", {}, svg("title", {}, text));
    const piece = (kind, from, seconds) => bar.append(svg("rect", {
      class: kind, x, width: WIDTH, y: (HEIGHT * (1 - (1000 * (from + seconds)) / (end - begin))).toFixed(2),
      height: Math.max(0, (HEIGHT * 1000 * seconds) / (end - begin)).toFixed(2),
    }));
    bar.append(svg("rect", { class: "whole", x, y: 0, width: WIDTH, height: HEIGHT }));
    piece("passed", 0, day.passed);
    piece("was-online", 0, day.online);
    piece("was-unknown", day.online, day.unknown);
    const place = { x: x + WIDTH / 2, y: HEIGHT + FOOT - 3, "text-anchor": "middle" };
    picture.append(bar, svg("text", place, back ? name : "today"));
    texts.push(text);
  }
  picture.setAttribute("aria-label", `Presence of the last seven days. ${texts.join("; ")}`);
  return picture;
}

/** Return the chart of four weeks: a line for each day, a cell for each hour, the darker the longer it was online. */
export function hours(parts, now) {
  const high = DAYS * LINE;
  const picture = svg("svg", { viewBox: `0 0 ${EDGE + 24 * CELL} ${high + FOOT}`, class: "hours", role: "img" });
  const byCell = new Map();
  const byHour = Array.from({ length: 24 }, () => []);
  for (const part of parts) {
    const local = new Date(part.at);
    const day = local.toDateString(), hour = local.getHours();
    const key = `${day} ${hour}`;
    byCell.has(key) ? byCell.get(key).push(part) : byCell.set(key, [part]);
    byHour[hour].push(part);
  }
  for (let back = DAYS - 1; back >= 0; back--) {
    const day = new Date(midnight(now, back));
    const y = (DAYS - 1 - back) * LINE;
    if (day.getDay() === 1 || !back) {
      picture.append(svg("text", { x: 0, y: y + LINE - 1 }, back ? date.format(day).replace(/^\S+\s/, "") : "today"));
    }
    for (let hour = 0; hour < 24; hour++) {
      const cell = sum(byCell.get(`${day.toDateString()} ${hour}`) || []);
      if (!cell.passed) continue;
      const share = cell.online / cell.passed;
      const isUnknown = cell.unknown > cell.passed / 2;
      const level = isUnknown ? "was-unknown" : share < 0.02 ? "passed" : `was-online l${Math.ceil(share * 4)}`;
      const title = `${date.format(day)}, ${hour}:00–${hour + 1}:00: ${textOf(cell)}`;
      const inset = isUnknown ? 2 : 0; // smaller, for those who do not see the colour
      const box = { x: EDGE + hour * CELL + inset, y: y + inset, width: CELL - 1 - 2 * inset, height: LINE - 1 - 2 * inset };
      picture.append(svg("rect", { class: level, ...box }, svg("title", {}, title)));
    }
  }
  for (let hour = 0; hour <= 24; hour += 6) {
    const anchor = hour === 24 ? "end" : hour ? "middle" : "start";
    picture.append(svg("text", { x: EDGE + hour * CELL, y: high + FOOT - 3, "text-anchor": anchor }, String(hour)));
  }
  picture.setAttribute("aria-label", summaryOf(parts, byHour));
  return picture;
}

/** Return the hours as sentences, for those who cannot see them. */
function summaryOf(parts, byHour) {
  const all = sum(parts);
  const begin = "Presence by hour of the last four weeks.";
  if (!all.passed) return `${begin} Nothing known.`;
  const percent = ({ online, passed }) => (passed ? Math.round((100 * online) / passed) : 0);
  const shares = byHour.map((parts) => sum(parts)).map((hour, number) => ({ number, passed: hour.passed, share: percent(hour) }))
    .filter(({ passed }) => passed).sort((one, other) => other.share - one.share || one.number - other.number);
  const [most, least] = [shares[0], shares.at(-1)];
  const when = ({ number, share }) => `${number}:00 to ${number + 1}:00 (${share} %)`;
  const spread = most.share > least.share ? ` Most often from ${when(most)}, least often from ${when(least)}.` : "";
  return `${begin} Online ${percent(all)} % of the time.${spread}`;
}

/** Return the legend of both charts. */
export function legend() {
  const entry = (kind, text) => el("li", {}, el("i", { class: `key ${kind}`, "aria-hidden": "true" }), text);
  return el("ul", { class: "legend" }, entry("was-online", "online"), entry("passed", "offline"),
    entry("was-unknown", "unknown"), entry("whole", "not seen yet"));
}
