// What every page behind the sign-in does: who is here, the menu of phones, shortcuts, links
// that keep the filters.

import { ask } from "./api.js";
import { filterQuery, isNarrowed, onFilters, readFilters } from "./filters.js";

const SHORTCUTS = { o: "/overview", c: "/costs", l: "/latency", e: "/errors", r: "/requesters", g: "/logs", a: "/alerts", i: "/integrate", s: "/settings", p: "/profile" };
const SHORTCUT_MS = 900;

/** The account, asked for once a page. */
export const account = ask("account");

async function showPerson() {
  const { email, plan } = await account;
  const person = document.querySelector("[data-person]");
  person.textContent = email;
  person.title = email;
  const badge = document.querySelector("[data-plan]");
  badge.textContent = plan === "pro" ? "Pro" : "Free";
  badge.hidden = false;
}

function keepFilters() {
  const filters = readFilters();
  const plain = !new URLSearchParams(location.search).has("range") && !isNarrowed(filters);
  for (const link of document.querySelectorAll("[data-keep-filters]")) {
    const [path] = link.getAttribute("href").split("?");
    link.setAttribute("href", plain ? path : `${path}?${filterQuery(filters)}`);
  }
}

function openMenu() {
  const button = document.querySelector("[data-menu]");
  const links = document.querySelector("#side-links");
  const set = (open) => {
    links.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
  };
  button.addEventListener("click", () => set(!links.classList.contains("open")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !links.classList.contains("open")) return;
    set(false);
    button.focus();
  });
}

function listenForShortcuts() {
  let begun = 0;
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
    const page = Date.now() - begun < SHORTCUT_MS ? SHORTCUTS[event.key] : undefined;
    begun = event.key === "g" && !page ? Date.now() : 0;
    if (page) location.assign(page);
  });
}

keepFilters();
onFilters(keepFilters);
openMenu();
listenForShortcuts();
showPerson().catch(() => {}); // the page says itself when the server does not answer
