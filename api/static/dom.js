// Making elements. Text goes in as text: nothing here ever parses HTML.

/**
 * Make an element: `el("a", { href, class: "nav", onclick: open }, "text", otherElement)`.
 * A function listens; an object sets style properties (the policy forbids style attributes).
 */
export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, ...children);
}

/** Give an element attributes, listeners, style properties and children. */
export function fill(element, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "style") setStyle(element, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function setStyle(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
}

/** Turn `code` between backticks into elements; the rest stays text. */
export function inline(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", null, part) : part));
}

/** Make paragraphs of a text in which an empty line separates them. */
export function prose(text) {
  const paragraphs = text.trim().split(/\n\s*\n/);
  return el("div", { class: "prose" }, paragraphs.map((each) => el("p", null, inline(each))));
}

/** Show code with a button that copies it. */
export function code(children, plain, label) {
  const button = el("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(plain);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy by hand";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  const body = el("pre", { tabindex: "0", role: "region", "aria-label": label }, el("code", null, children));
  return el("div", { class: "code" }, body, button);
}
