// The dialogs: how they open and close, and the one before a device is forgotten.

import { find } from "./element.js";

/** Ask whether to forget a device; a promise of {history: delete its past events, too}, or of null (keep it). */
export async function askForget(name) {
  const history = find("#forget-history");
  find("#forget-why").textContent =
    `${name}: its label, notes, tags, mark and learned patience are deleted. Its past events stay in the history, with its names, `
    + "until they are too old. If it is still on the network, it comes back as a new device.";
  history.checked = false;
  return (await show(find("#ask-forget"))) === "forget" ? { history: history.checked } : null;
}

/** Open a dialog; a promise of the value of the button that closes it. */
export function show(dialog) {
  if (dialog.open) return Promise.resolve("");
  return new Promise((resolve) => {
    const form = find("form", dialog);
    const leave = (value) => {
      dialog.close(value);
      resolve(value);
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      leave(event.submitter?.value || form.querySelector("[type=submit]").value);
    };
    form.onclick = (event) => {
      const button = event.target.closest("button[type=button]");
      if (button) leave(button.value);
    };
    // Escape; not the close before, whose event comes after the dialog is open again.
    dialog.onclose = () => {
      if (!dialog.open) resolve("");
    };
    dialog.showModal();
  });
}
