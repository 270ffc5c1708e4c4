// Tags: the filter above the list, and the change of the tags of all shown devices.

import { show } from "./dialogs.js";
import { find } from "./element.js";
import { notice } from "./notice.js";
import { ask, device } from "./rest.js";
import { count, errorText, tagsIn } from "./words.js";

/** Update the filter of tags, and the button that changes them; on a hub, only a site changes them. */
export function paintTags(view, lan) {
  const select = find("#tag"), tags = [...view.tags].sort();
  if (view.query.tag && !view.tags.has(view.query.tag)) tags.push(view.query.tag);
  find("#pick-tag").hidden = !tags.length;
  find("#bulk").hidden = lan.role !== "admin" || Boolean(lan.sites) || !view.rows.length;
  const has = [...select.options].slice(1).map((option) => option.value);
  if (has.join() !== tags.join()) select.replaceChildren(select.options[0], ...tags.map((tag) => new Option(`#${tag}`, tag)));
  select.value = view.query.tag;
}

/** Change the tags of all shown devices, one after the other; report how many, and the first error. */
export async function changeTags(view, lan) {
  const macs = view.rows.map(({ mac }) => mac);
  const changes = await askTags(macs.length);
  if (!changes) return;
  let done = 0, error = "";
  for (const mac of macs) {
    try {
      lan.put(await ask("PATCH", device(mac), changes));
      done += 1;
    } catch (failure) {
      error ||= ` ${errorText(failure)}`;
      if (failure.code !== "bad_request" && failure.code !== "not_found") break;
    }
  }
  notice(`The tags of ${count(done, "device")} are changed.${error}`);
}

/** Ask which tags to add to so many devices, and which to remove; a promise of a body for PATCH, or of null. */
async function askTags(number) {
  const [added, removed] = [find("#tags-add"), find("#tags-remove")];
  find("#tags-why").textContent = `${count(number, "device")} of the list, by its search and filters.`;
  added.value = removed.value = "";
  if ((await show(find("#ask-tags"))) !== "change") return null;
  const changes = { add_tags: tagsIn(added.value), remove_tags: tagsIn(removed.value) };
  return changes.add_tags.length || changes.remove_tags.length ? changes : null;
}
