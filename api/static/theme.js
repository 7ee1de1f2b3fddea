// Not a module: it runs before the first paint, so that a chosen theme does not flash.
// Storage may be forbidden (private windows, embedding): then the system's theme stays.
(() => {
  const root = document.documentElement;

  function remembered() {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  }

  function remember(theme) {
    try {
      if (theme === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", theme);
    } catch {
      // The choice then lasts as long as the page.
    }
  }

  function show(theme) {
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
    else delete root.dataset.theme;
  }

  show(remembered());

  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme-toggle]")) return;
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    show((root.dataset.theme ?? system) === "dark" ? "light" : "dark");
    remember(root.dataset.theme);
  });

  // Settings offer the system's theme too: `new CustomEvent("theme", { detail: "system" })`.
  addEventListener("theme", (event) => {
    show(event.detail);
    remember(event.detail);
  });
})();
