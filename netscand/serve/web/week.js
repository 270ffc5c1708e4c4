// The presence of the last seven days as a chart: one bar for each day, from midnight UTC (bottom) to midnight (top).

import { svg } from "./element.js";
import { span } from "./words.js";

const DAY = 86400;
const WIDTH = 36, GAP = 8, HEIGHT = 64, FOOT = 16;

const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short", timeZone: "UTC" });

/** Return the chart for `days` of /api/devices/MAC/presence; the device was first seen at `first`; times in ms. */
export function week(days, first, now) {
  const byDate = new Map(days.map((day) => [day.date, day]));
  const wide = 7 * (WIDTH + GAP) - GAP;
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${HEIGHT + FOOT}`, class: "week", role: "img" });
  const texts = [];
  for (let back = 6; back >= 0; back--) {
    const at = new Date(now - back * DAY * 1000);
    const date = at.toISOString().slice(0, 10);
    const dawn = Date.parse(date);
    const passed = (Math.min(dawn + DAY * 1000, now) - Math.max(dawn, first)) / 1000; // seconds of this day since it was first seen
    const day = passed > 0 && byDate.get(date);
    const online = day ? Math.min(day.online_seconds, passed) : 0;
    const unknown = day ? Math.min(day.unknown_seconds, passed - online) : 0;
    const x = (6 - back) * (WIDTH + GAP);
    const name = weekday.format(at);
    const doubt = unknown >= 60 ? `, unknown ${span(unknown)}` : "";
    const text = `${name}: ${day ? `online ${span(online)}${doubt}` : "nothing known"}`;
    const bar = svg("g", {}, svg("title", {}, text));
    const part = (kind, from, seconds) => bar.append(svg("rect", {
      class: kind, x, width: WIDTH, y: (HEIGHT * (1 - (from + seconds) / DAY)).toFixed(2),
      height: Math.max(0, (HEIGHT * seconds) / DAY).toFixed(2),
    }));
    bar.append(svg("rect", { class: "whole", x, y: 0, width: WIDTH, height: HEIGHT }));
    part("passed", 0, day ? passed : 0);
    part("was-online", 0, online);
    part("was-unknown", online, unknown);
    const place = { x: x + WIDTH / 2, y: HEIGHT + FOOT - 3, "text-anchor": "middle" };
    picture.append(bar, svg("text", place, back ? name : "today"));
    texts.push(text);
  }
  picture.setAttribute("aria-label", `Presence of the last seven days. ${texts.join("; ")}`);
  return picture;
}
