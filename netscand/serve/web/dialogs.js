// The dialogs: for a token, and before a device is forgotten.

import { currentToken } from "./rest.js";
import { find } from "./element.js";

/** Ask for a token; a promise of it, of "" (remove the current one), or of null (cancelled). */
export async function askToken(why = "") {
  const text = find("#token-text");
  find("#token-why").textContent = why || "A token gives this page more permissions. It is stored for this tab only.";
  find("#token-drop").hidden = !currentToken();
  text.value = "";
  const choice = await open(find("#ask-token"));
  const token = text.value.trim();
  text.value = "";
  return choice === "use" && token ? token : choice === "drop" ? "" : null;
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
