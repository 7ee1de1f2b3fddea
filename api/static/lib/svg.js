// Making SVG elements, and the icons of icons.svg.

import { el, fill } from "../dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const ICONS = new URL("../icons.svg", import.meta.url).pathname;

/** Make an SVG element, as `el` makes others. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(NAMESPACE, tag), attributes, ...children);
}

/** Show one of the icons; it says nothing to a screen reader. */
export function icon(name) {
  return svg("svg", { class: "glyph", "aria-hidden": "true" }, svg("use", { href: `${ICONS}#${name}` }));
}

/** A small square in the colour of a series: a custom property's name without dashes. */
export function swatch(color) {
  return el("span", { class: "swatch", "aria-hidden": "true", style: { "--c": `var(--${color})` } });
}
