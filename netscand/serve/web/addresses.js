// The addresses of one device, each with its evidence.

import { el, say } from "./element.js";
import { age, evidenceOf } from "./words.js";

/** Draw the addresses of a device into the rows of a table, the latest first; `since(time)`: seconds since then. */
export function drawAddresses(rows, device, since) {
  const addresses = [...device.addresses].sort((one, other) => (one.last_seen < other.last_seen ? 1 : -1));
  while (rows.childElementCount > addresses.length) rows.lastElementChild.remove();
  while (rows.childElementCount < addresses.length) {
    rows.append(el("tr", {}, el("td", {}, el("b"), el("small", { class: "faint" })), el("td"), el("td")));
  }
  addresses.forEach((address, at) => {
    const [where, how, when] = rows.children[at].children;
    say(where.firstChild, address.ip);
    say(where.lastChild, address.hostname || (address.foreign ? `foreign to ${address.network}` : address.network));
    say(how, evidenceOf(address.evidence));
    say(when, age(since(address.last_seen)));
  });
}
