// Light or dark, before anything is drawn: what was chosen here, or else what the system says. Paper is light.
(() => {
  const KEY = "crm-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  const chosen = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
  const apply = () => { document.documentElement.dataset.bsTheme = paper.matches ? "light" : chosen() ?? (system.matches ? "dark" : "light"); };
  apply();
  for (const one of [system, paper]) one.addEventListener("change", apply);
  addEventListener("DOMContentLoaded", () => {
    const button = document.querySelector("[data-theme-toggle]");
    if (!button) return;
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
      try { localStorage.setItem(KEY, next); } catch { /* it lasts for this page */ }
      document.documentElement.dataset.bsTheme = next;
    });
  });
})();
