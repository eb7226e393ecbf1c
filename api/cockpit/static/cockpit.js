// What all pages share: the time bar, forms that follow while one types, and keys. Everything also works without it.
(() => {
  "use strict";
  let asked = null; // the page that is under way

  // Show another state of the page without loading it whole: only the parts that can differ are exchanged.
  async function show(url, options = {}) {
    asked?.abort();
    const mine = asked = new AbortController();
    try {
      await exchange(url, mine.signal, options);
    } finally {
      if (asked === mine) asked = null;
    }
  }

  async function exchange(url, signal, { push = false, form = null, parts = ["content", "menu"], kept = null, unlessTyped = false }) {
    let response;
    try {
      response = await fetch(url, { signal, headers: { "X-Requested-With": "cockpit" }, credentials: "same-origin" });
    } catch (error) {
      if (error.name !== "AbortError") location.assign(url);
      return;
    }
    if (response.redirected) { location.assign(response.url); return; }
    if (response.status >= 500) { location.assign(url); return; } // its page says what is wrong, and comes again by itself
    const next = new DOMParser().parseFromString(await response.text(), "text/html");
    if (unlessTyped && isTyped()) { askAgain(); return; }
    if (form && !response.ok) { object(form, next.querySelector(".empty-subtitle")?.textContent ?? ""); return; }
    object(form, "");
    document.title = next.title;
    for (const id of parts) {
      const [now, then] = [document.getElementById(id), next.getElementById(id)];
      if (!now || !then) continue;
      const focused = now.contains(document.activeElement) ? document.activeElement : null;
      if (focused?.id && then.querySelector("#" + CSS.escape(focused.id))) {
        const [from, to] = [focused.selectionStart, focused.selectionEnd];
        const value = focused.value;
        now.replaceChildren(...then.childNodes);
        const again = document.getElementById(focused.id);
        if (value !== undefined) again.value = value;
        again.focus({ preventScroll: true });
        try { again.setSelectionRange(from, to); } catch { /* not a field of text */ }
      } else {
        now.replaceChildren(...then.childNodes);
      }
    }
    if (kept) document.getElementById("content").prepend(kept);
    follow(next.getElementById("time-bar"));
    history[push ? "pushState" : "replaceState"](null, "", url);
    if (parts.length) document.dispatchEvent(new CustomEvent("cockpit:shown")); else askAgain();
  }

  // Say what is wrong with a form, below it: what one types stays, and so does the page.
  function object(form, said) {
    form?.querySelector(".form-fault")?.remove();
    if (!said) return;
    const fault = document.createElement("p");
    fault.className = "form-fault text-danger";
    fault.setAttribute("role", "alert");
    fault.textContent = said;
    form.append(fault);
  }

  // ---- the time bar
  const bar = () => document.getElementById("time-bar");
  let moments = [];

  function prepare() {
    const form = bar();
    if (!form) return;
    moments = form.dataset.moments ? form.dataset.moments.split(" ") : [];
    const slider = form.querySelector(".time-slider");
    slider.hidden = moments.length === 0;
    slider.max = moments.length; // its right end is now
    slider.value = form.dataset.at ? place(form.dataset.at) : moments.length;
    tell(form, slider);
  }

  function place(text) {
    const at = Date.parse(text);
    let found = 0;
    while (found < moments.length && Date.parse(moments[found]) <= at) found += 1;
    return Math.max(found - 1, 0);
  }

  // The slider says what the field beside it says: the instant in the time zone of the service.
  function tell(form, slider) {
    slider.setAttribute("aria-valuetext", form.elements.as_of.value || "now");
  }

  function follow(next) {
    const form = bar();
    if (!form || !next) return;
    form.toggleAttribute("data-is-past", next.hasAttribute("data-is-past"));
    form.dataset.at = next.dataset.at;
    if (form.hasAttribute("data-again") && !next.hasAttribute("data-again")) { // its stops had not been read yet
      form.removeAttribute("data-again");
      form.dataset.moments = next.dataset.moments;
      prepare();
    }
    const slider = form.querySelector(".time-slider");
    if (document.activeElement !== slider) {
      slider.value = form.dataset.at ? place(form.dataset.at) : moments.length;
    }
    const [now, then] = [form.querySelector("#time-now"), next.querySelector("#time-now")];
    now.replaceWith(then);
    form.querySelector("#time-note")?.remove();
    const note = next.querySelector("#time-note");
    if (note) form.append(note);
    for (const name of ["as_of", "known_at"]) {
      const field = form.elements[name];
      if (document.activeElement !== field) field.value = next.elements[name].value;
    }
    tell(form, slider);
  }

  function addressOf(form) {
    const url = new URL(form.getAttribute("action"), location.href); // a form may have a field of the name "action"
    for (const [name, value] of new FormData(form)) if (value !== "") url.searchParams.append(name, value);
    return url;
  }

  // Set the instant of the page; other scripts call it too (a click into the timeline).
  function setInstant(at, name = "as_of") {
    const url = new URL(location.href);
    if (at) url.searchParams.set(name, at); else url.searchParams.delete(name);
    url.searchParams.delete("cursor");
    return show(url);
  }

  document.addEventListener("input", (event) => {
    const slider = event.target.closest(".time-slider");
    if (slider) {
      setInstant(moments[slider.value]);
      return;
    }
    const form = event.target.form;
    if (form?.hasAttribute("data-live")) later(() => show(addressOf(form), { form }));
  });
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (form?.hasAttribute("data-live")) later(() => show(addressOf(form), { form }), 0);
  });

  let waiting = 0;
  function later(work, milliseconds = 120) {
    clearTimeout(waiting);
    waiting = setTimeout(work, milliseconds);
  }

  // ---- keys: / searches, [ and ] go to the change before and after, n is now, ? tells them
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    const slider = bar()?.querySelector(".time-slider");
    if (event.key === "/") {
      const field = document.querySelector("[data-search]");
      if (field) { event.preventDefault(); field.focus(); field.select(); }
    } else if ((event.key === "[" || event.key === "]") && slider && !slider.hidden) {
      slider.value = Number(slider.value) + (event.key === "[" ? -1 : 1);
      slider.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (event.key === "n" && bar()?.hasAttribute("data-is-past")) {
      document.getElementById("time-now").click();
    }
  });

  // ---- menus close when one clicks elsewhere or presses Escape
  const menus = () => document.querySelectorAll("details.cockpit-menu-more[open]");
  document.addEventListener("click", (event) => {
    for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of menus()) { menu.open = false; menu.querySelector("summary").focus(); }
  });

  // ---- questions before what cannot be taken back
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
    if (question && !confirm(question)) { event.preventDefault(); return; }
    const busy = event.submitter?.dataset.busy;
    if (busy) setTimeout(() => { event.submitter.disabled = true; event.submitter.textContent = busy; });
  });

  // ---- copying what is shown only once; without the clipboard (plain HTTP) it is marked to be copied by hand
  function offerCopies() {
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch { button.textContent = "Marked: copy it"; }
  });
  document.addEventListener("cockpit:shown", offerCopies);
  addEventListener("DOMContentLoaded", offerCopies);

  // ---- a file that is dropped anywhere on the form is chosen, and looked at
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const zone = event.target.closest?.("[data-dropzone]");
      if (!zone) return;
      event.preventDefault();
      zone.classList.toggle("is-over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        zone.querySelector("input[type=file]").files = event.dataTransfer.files;
        zone.requestSubmit();
      }
    });
  }

  // ---- what was not there yet: the page asks again, a little later each time
  let again = 0;
  let timer = 0;

  // Is there text in a form to send that nobody has sent yet? It must not go when the page is exchanged.
  function isTyped() {
    const fields = [...document.querySelectorAll("#content form[method=post] :is(input, textarea)")];
    return fields.some((f) => (f.type === "file" ? f.files.length > 0 : f.value !== f.defaultValue || f.checked !== f.defaultChecked));
  }

  function askAgain() {
    clearTimeout(timer);
    if (!document.querySelector("[data-again]")) { again = 0; return; }
    again = Math.min((again || 250) * 1.5, 5000);
    timer = setTimeout(() => {
      if (asked || document.querySelector(".form-fault") || (isTyped() && document.querySelector("#content [data-again]"))) { askAgain(); return; } // what one does comes first
      const is_whole = !document.querySelector("#content [data-again]"); // only the time bar waits: what one types stays
      if (document.querySelector("[data-again]")) {
        const kept = document.getElementById("message"); // the server tells once what was done
        show(location.href, is_whole ? { parts: [] } : { kept, unlessTyped: true });
      }
    }, again);
  }
  document.addEventListener("cockpit:shown", askAgain);
  addEventListener("DOMContentLoaded", askAgain);

  addEventListener("popstate", () => location.reload());
  addEventListener("DOMContentLoaded", prepare);
  window.Cockpit = { show, setInstant };
})();
