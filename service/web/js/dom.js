// Elements and words. Text from the server or the user becomes a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element; a property is a listener (onclick), a CSS variable (--x), or an attribute left out when null. */
export function h(tag, properties = {}, ...children) {
  return dress(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), properties, children);
}

function dress(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Show a message, or nothing. */
export function tell(element, text, isError = false) {
  element.textContent = text;
  element.classList.toggle("error", isError);
}

export const percent = (share) => {
  const size = Math.abs(share);
  return `${(100 * (size < 0.0005 ? 0 : share)).toFixed(size >= 0.0005 && size < 0.0995 ? 1 : 0)}\u00a0%`;
};

export const count = (number, noun, many = `${noun}s`) => `${number.toLocaleString("en")} ${number === 1 ? noun : many}`;

export const milliseconds = (ms) => (ms < 9.95 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en"));

export function seconds(value) {
  if (value < 9.95) return `${value.toFixed(1)} s`;
  return value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`;
}

/** Unix seconds as a time of day, with the date when it is not today's. */
export function clock(unix) {
  const then = new Date(unix * 1000);
  const today = then.toDateString() === new Date().toDateString();
  const day = today ? {} : { day: "numeric", month: "short" };
  return then.toLocaleString("en-GB", { ...day, hour: "2-digit", minute: "2-digit" });
}

/** Call `work` once things have been quiet for so long. */
export function debounce(quietMs, work) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), quietMs);
  };
}
