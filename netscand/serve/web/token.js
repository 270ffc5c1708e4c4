// The token of this page: entered in a dialog or taken from a link; and what is shown while one is missing.

import { takeToken } from "./address.js";
import { show } from "./dialogs.js";
import { find, mark, say } from "./element.js";
import { currentToken, isRemembered, useToken } from "./rest.js";

const MISSING = "This netscand shows the network only with a token.";
const UNKNOWN = "netscand does not know this token: it was mistyped, or revoked. Enter another one.";
const OF_LINK = "The link that you opened contains a token. Use it only if you trust its source.";
const USUAL = "A token gives this page the role that was chosen when it was created.";

export class TokenPrompt {
  /** `connect()`: connect again, with the token then in use. */
  constructor({ connect }) {
    this.connect = connect;
    this.asked = false; // because nothing is visible without one
    for (const selector of ["#token", "#locked button"]) find(selector).addEventListener("click", () => this.ask());
  }

  /** Ask for a token, with the `given` one in the field, and use it. */
  async ask(reason = USUAL, given = "") {
    const dialog = find("#ask-token"), text = find("#token-text"), keep = find("#token-keep");
    if (dialog.open) return;
    say(find("#token-why"), reason);
    find("#token-drop").hidden = !currentToken();
    text.value = given;
    keep.checked = isRemembered();
    const choice = await show(dialog);
    const token = text.value.trim();
    text.value = "";
    if (choice === "drop") useToken(null);
    else if (choice === "use" && token) useToken(token, keep.checked);
    else return;
    this.connect();
  }

  /** Ask whether to use the token of a link; return whether there is one. It replaces no stored token by itself. */
  offer() {
    const given = takeToken();
    if (given) this.ask(OF_LINK, given);
    this.asked ||= given !== null;
    return given !== null;
  }

  /** Forget a token that is not accepted; ask once if nothing is visible without one. */
  onFailure(failure) {
    if (failure.code === "unauthorized" && currentToken()) {
      useToken(null);
      this.asked = true;
      this.ask(UNKNOWN);
    } else if (!this.asked && isLocked(failure)) {
      this.asked = true;
      this.ask(MISSING);
    }
  }

  /** Show the role and the way to another one; `failure`: why nothing is received, or null. */
  draw(lan, failure) {
    const locked = isLocked(failure);
    find("#token").hidden = !lan.version && !failure;
    const role = lan.version && !locked ? `role: ${lan.role}` : "";
    say(find("#token-role"), role);
    find("#token-do").hidden = lan.role === "admin" && !locked;
    mark(find("#token"), "aria-label", role ? `${role}. Enter a token` : "Enter a token"); // a phone shows only the key
    find("#locked").hidden = !locked;
    if (locked) find("#empty").hidden = true;
  }
}

/** Return whether nothing is shown because the role is too low. */
function isLocked(failure) {
  return failure?.code === "unauthorized" || failure?.code === "forbidden";
}

/** Return the text for a failure that a token would end, or "". */
export const lockedText = (failure) => (isLocked(failure) ? MISSING : "");
