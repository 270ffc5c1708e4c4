// Creation and change of elements. Text is always text: nothing here or elsewhere parses markup.

/** Create an element with properties (`class`, `data-…`, `aria-…` and `role` as attributes) and children. */
export function el(name, properties = {}, ...children) {
  return dress(document.createElement(name), properties, children);
}

/** Create an SVG element; every property is an attribute. */
export function svg(name, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function dress(made, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key === "class") made.className = value;
    else if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

/** Set the text if it differs. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute if it differs; null removes it. */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Names and values, changed in place. */
export function facts(list, pairs) {
  while (list.childElementCount > 2 * pairs.length) list.lastElementChild.remove();
  while (list.childElementCount < 2 * pairs.length) list.append(el("dt"), el("dd"));
  pairs.forEach(([name, value, title = ""], at) => {
    say(list.children[2 * at], name);
    const cell = list.children[2 * at + 1];
    say(cell, value);
    if (cell.title !== title) cell.title = title;
  });
}

export const find = (selector, within = document) => within.querySelector(selector);
