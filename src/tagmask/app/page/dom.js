/** Small helpers to build the page's elements. */

/** Return the first element that matches a selector. */
export const find = (selector, root = document) => root.querySelector(selector);

/**
 * Make an element.
 * @param {string} tag its name.
 * @param {object} properties: `class`, `text`, `on` (listeners by event), `data`, `aria`, and attributes.
 * @param {...(Node|string)} children what it holds.
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) element.addEventListener(event, call);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "aria") for (const [key, text] of Object.entries(value)) element.setAttribute(`aria-${key}`, text);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Whether keys go into a text field now. */
export function isTyping(event) {
  const { tagName, type } = event.target;
  return tagName === "TEXTAREA" || tagName === "SELECT" || (tagName === "INPUT" && !["checkbox", "range", "radio"].includes(type));
}

/** Return a function that calls another once, some milliseconds after the last call. */
export function debounce(call, milliseconds) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), milliseconds);
  };
}

/** Return a colour of three numbers as CSS. */
export const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;

/** Return a share of 1 as text: "0.4 %", "37 %". */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}

/** Return a count with its noun: "1 image", "12,000 images". */
export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

let timer = 0;

/** Show a message at the foot of the page for some seconds; errors stay longer. */
export function notify(text, kind = "note") {
  const box = find("#message");
  box.textContent = text;
  box.dataset.kind = kind;
  box.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (box.hidden = true), kind === "error" ? 9000 : 3500);
}
