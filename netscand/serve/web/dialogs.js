// The two questions: for a token, and before something is forgotten.

import { currentToken } from "./rest.js";
import { find } from "./element.js";

/** Ask for a token; a promise of it, of "" (use none from now on), or of null (leave it as it is). */
export async function askToken(why = "") {
  const text = find("#token-text");
  find("#token-why").textContent = why || "A token raises what this page may do. It is kept for this tab only.";
  find("#token-drop").hidden = !currentToken();
  text.value = "";
  const said = await open(find("#ask-token"));
  const token = text.value.trim();
  text.value = "";
  return said === "use" && token ? token : said === "drop" ? "" : null;
}

/** Ask whether to forget a device; a promise of yes or no. */
export async function askForget(name) {
  find("#forget-why").textContent =
    `${name}: its label, notes and history are deleted. If it is still on the network, it comes back as a new device.`;
  return (await open(find("#ask-forget"))) === "forget";
}

function open(dialog) {
  if (dialog.open) return Promise.resolve("");
  return new Promise((resolve) => {
    dialog.returnValue = "";
    const form = find("form", dialog);
    const leave = (value) => dialog.close(value);
    form.onsubmit = (event) => {
      event.preventDefault();
      leave(event.submitter?.value || form.querySelector("[type=submit]").value);
    };
    form.onclick = (event) => {
      const button = event.target.closest("button[type=button]");
      if (button) leave(button.value);
    };
    dialog.onclose = () => resolve(dialog.returnValue);
    dialog.showModal();
  });
}
