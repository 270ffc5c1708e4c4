// One line above the list: what went wrong, or what came of something. What is urgent is not talked over.

import { find, say } from "./element.js";

let timer = 0;
let taken = false;

/** Say something for `lasts` ms (0: until `hush`), with a button or none. */
export function notice(words, { lasts = 8000, act = "", acts = null } = {}) {
  clearTimeout(timer);
  taken = true;
  if (lasts) timer = setTimeout(hush, lasts);
  show(words, act, acts);
}

/** Say how the connection is, unless something else is being said. */
export function murmur(words) {
  if (!taken) show(words, "", null);
}

/** Say nothing. */
export function hush() {
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
