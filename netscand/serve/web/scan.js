// The scan button and its progress.

import { count, span, stamp, errorText } from "./words.js";
import { find } from "./element.js";

const NOTICE_FOR = 6000; // ms that the result is shown

export class ScanNow {
  /** `stream` sends the request; `lan` has the running scans; `notice(text)`; `token(why)` asks the user for one; `site()`: chosen site of a hub. */
  constructor({ stream, lan, notice, token, site }) {
    Object.assign(this, { stream, lan, notice, token, site });
    this.button = find("#scan");
    this.bar = find("#scan-progress");
    this.ours = new Set();
    this.last = new Map(); // scan_id → found
  }

  /** Request a scan of these networks; none: all. On a hub, the site is asked, and its scan is not followed. */
  async start(targets = [], site = "") {
    try {
      const { scan_id } = await this.stream.ask({ type: "scan_now", targets, ...(site && { site }) });
      if (site) return this.notice(`Scan requested at site ${site}.`, { lasts: NOTICE_FOR });
      this.ours.add(scan_id);
      this.draw();
    } catch (failure) {
      if (failure.code === "forbidden" || failure.code === "unauthorized") this.token("To scan, this page needs a token with the role scan.");
      else this.notice(errorText(failure));
    }
  }

  /** Handle a message of the stream. */
  onMessage(message) {
    if (message.type === "scan_progress") this.last.set(message.scan_id, message.found);
    if (message.type === "scan_update" && this.ours.delete(message.scan_id)) {
      const found = this.last.get(message.scan_id) ?? message.online;
      const took = (stamp(message.finished_at) - stamp(message.started_at)) / 1000;
      const text = `Scanned ${message.networks.join(", ")} in ${span(took)}: ${count(found, "device")} answered.`;
      this.notice(text, { lasts: NOTICE_FOR });
    }
    if (message.type === "scan_update") this.last.delete(message.scan_id);
    if (message.type === "scan_error") this.notice(`${message.network} could not be scanned: ${message.message}.`);
  }

  /** Drop our requests: the connection was lost. */
  lost() {
    this.ours.clear();
    this.last.clear();
  }

  draw() {
    const requested = [...this.lan.scans.values()].filter((scan) => scan.cause === "client");
    const busy = requested.length > 0 || this.ours.size > 0;
    this.button.disabled = !this.stream.live || this.ours.size > 0;
    this.button.hidden = this.lan.sites !== null && !this.lan.sites.get(this.site())?.commands;
    this.bar.hidden = !busy;
    if (!busy) return this.#label("Scan now");
    const done = requested.reduce((sum, scan) => sum + scan.done, 0);
    const total = requested.reduce((sum, scan) => sum + scan.total, 0);
    if (total) this.bar.value = done / total;
    else this.bar.removeAttribute("value");
    const way = total ? ` ${Math.floor((100 * done) / total)} %` : "…";
    this.#label(requested.length ? `Scanning${way}` : "Scan is next…");
  }

  #label(text) {
    if (this.button.textContent !== text) this.button.textContent = text;
  }
}
