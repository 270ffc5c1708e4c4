// The configuration in force, read only. It is requested when it is opened.

import { el, facts, say } from "./element.js";
import { errorText } from "./words.js";

export class Settings {
  /** `ask`: REST request. */
  constructor({ ask }) {
    this.ask = ask;
    this.why = el("p", { class: "why", role: "status" });
    this.tables = el("div");
    this.element = el("details", { id: "settings", ontoggle: () => this.element.open && this.load() },
      el("summary", {}, "Settings"), this.why, this.tables);
    this.role = null;
  }

  /** Request the settings again if they are shown, and the role is another one. */
  draw(role) {
    if (role !== this.role && this.element.open) this.load();
    this.role = role;
  }

  async load() {
    try {
      const { settings } = await this.ask("GET", "api/settings");
      say(this.why, "The configuration in force. To change it, edit netscand.toml on the host, then: sudo netscanctl reload");
      const tables = new Map(settings.map(({ table }) => [table, []]));
      for (const setting of settings) tables.get(setting.table).push(setting);
      this.#show(tables);
    } catch (failure) {
      this.tables.replaceChildren();
      say(this.why, errorText(failure));
    }
  }

  #show(tables) {
    this.tables.replaceChildren(...[...tables].map(([title, settings]) => {
      const list = el("dl");
      facts(list, settings.map(({ key, value, default: usual }) => {
        const isUsual = JSON.stringify(value) === JSON.stringify(usual);
        return [key, shown(value) + (isUsual || title.startsWith("[[") ? "" : ` (default: ${shown(usual)})`)];
      }));
      settings.forEach(({ value, default: usual }, at) =>
        list.children[2 * at + 1].classList.toggle("chosen", JSON.stringify(value) !== JSON.stringify(usual)));
      return el("section", {}, el("h3", {}, title), list);
    }));
  }
}

/** Return a value as text. */
function shown(value) {
  if (value === null) return "not set";
  if (typeof value === "boolean") return value ? "true" : "false";
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  return String(value);
}
