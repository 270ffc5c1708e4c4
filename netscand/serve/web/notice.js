// The notice line above the list: errors and results. The connection status never replaces another notice.

import { find, say } from "./element.js";

let timer = 0;
let taken = false;

/** Show a notice for `lasts` ms (0: until `clearNotice`), with a button or none. */
export function notice(words, { lasts = 8000, act = "", acts = null } = {}) {
  clearTimeout(timer);
  taken = true;
  if (lasts) timer = setTimeout(clearNotice, lasts);
  show(words, act, acts);
}

/** Show the status of the connection, unless a notice is shown. */
export function showStatus(words) {
  if (!taken) show(words, "", null);
}

/** Clear the line. */
export function clearNotice() {
  clearTimeout(timer);
  taken = false;
  find("#notice").hidden = true;
}

function show(words, act, acts) {
  find("#notice").hidden = false;
  say(find("#notice-words"), words);
  const button = find("#notice-act");
  button.hidden = !acts;
  say(button, act);
  button.onclick = acts;
}
