// The pictures of an entity's page: hover and focus tell, a click sets the instant, handles compare, wheel and drag zoom and move.
// What is drawn comes from the server; while one zooms or moves, the same things are put elsewhere until it has drawn anew.
(() => {
  "use strict";
  const EARLIEST = Date.UTC(1900) - 1.8e3 * 3.15e10, LATEST = Date.UTC(9999, 10, 1); // of the window, in ms
  const NARROWEST = 1, NEAR = 6, EDGE = -0.2, BEYOND = 102; // ms; px to what one snaps to; % at which what goes on begins and ends
  const HOUR = 3.6e6, DAY = 24 * HOUR;
  const picture = () => document.getElementById("picture");
  const view = (svg) => ({ since: Number(svg.dataset.since), until: Number(svg.dataset.until) });

  // ---- time and place
  function timeAt(svg, clientX) {
    const { left, width } = svg.getBoundingClientRect();
    const { since, until } = view(svg);
    return since + ((clientX - left) / width) * (until - since);
  }
  const perPixel = (svg) => (view(svg).until - view(svg).since) / svg.getBoundingClientRect().width;
  const iso = (ms) => new Date(ms).toISOString();

  function day(svg, ms) {
    const parts = new Intl.DateTimeFormat("en", { timeZone: svg.dataset.zone, year: "numeric", month: "2-digit", day: "2-digit" }).formatToParts(ms);
    const part = (type) => parts.find((one) => one.type === type).value;
    return `${part("year").padStart(4, "0")}-${part("month")}-${part("day")}`;
  }

  function told(svg, ms) {
    if (perPixel(svg) > HOUR / 2) return day(svg, ms);
    const clock = new Intl.DateTimeFormat("en-GB", { timeZone: svg.dataset.zone, hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
    return `${day(svg, ms)} ${perPixel(svg) > 5e3 ? clock.slice(0, 5) : clock}`;
  }

  // The instant that a click means: the beginning of a bar if it is near, or else as round as pixels allow.
  function meant(svg, ms, bar) {
    const step = perPixel(svg), from = bar?.dataset.iso;
    if (from && Math.abs(ms - Date.parse(from)) <= NEAR * step) return from;
    const unit = [DAY, HOUR, 6e4, 1e3].find((one) => one <= 4 * step) ?? 1;
    const at = unit === DAY ? day(svg, ms) : iso(Math.floor(ms / unit) * unit);
    return from && Date.parse(at) < Date.parse(from) ? from : at;
  }

  const moments = () => (document.getElementById("time-bar")?.dataset.moments || "").split(" ").filter(Boolean);

  function snapped(svg, ms) {
    const near = moments().find((at) => Math.abs(Date.parse(at) - ms) <= NEAR * perPixel(svg));
    return near ?? meant(svg, ms);
  }

  // ---- zoom and move
  let asking = 0;
  function move(svg, since, until) {
    const width = Math.max(until - since, NARROWEST);
    if (width > LATEST - EARLIEST) return;
    since = Math.min(Math.max(since, EARLIEST), LATEST - width);
    until = since + width;
    const place = (ms) => Math.min(Math.max(((ms - since) / width) * 100, EDGE), BEYOND);
    for (const part of svg.querySelectorAll("[data-a]")) {
      const from = place(Number(part.dataset.a));
      part.setAttribute("x", `${from}%`);
      if (part.dataset.b) part.setAttribute("width", `${(part.dataset.b === "end" ? BEYOND : place(Number(part.dataset.b))) - from}%`);
      else part.setAttribute("visibility", from > EDGE && from < BEYOND ? "visible" : "hidden");
    }
    svg.dataset.since = since;
    svg.dataset.until = until;
    hideCard();
    clearTimeout(asking);
    if (!dragged) asking = setTimeout(drawAnew, 160);
  }

  function drawAnew() {
    const { since, until } = view(picture()), url = new URL(location.href);
    url.searchParams.set("since", iso(since));
    url.searchParams.set("until", iso(until));
    Cockpit.show(url);
  }

  function zoom(svg, by, around) {
    const { since, until } = view(svg);
    const centre = around ?? (since + until) / 2;
    if ((until - since) * by < NARROWEST) return;
    move(svg, centre - (centre - since) * by, centre + (until - centre) * by);
  }

  function pan(svg, by) {
    const { since, until } = view(svg);
    move(svg, since + (until - since) * by, until + (until - since) * by);
  }

  // ---- the card that tells about a bar
  const card = document.createElement("div");
  card.className = "timeline-card";
  card.id = "timeline-card";
  card.setAttribute("role", "tooltip");
  card.hidden = true;
  let hiding = 0;

  function line(list, name, ...values) {
    const [term, told] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    told.append(...values);
    list.append(term, told);
  }

  function showCard(bar, clientX) {
    clearTimeout(hiding);
    const { field, value, count, from, to, learnt, source, actor, drop, believed } = bar.dataset;
    const [head, list] = [document.createElement("strong"), document.createElement("dl")];
    head.textContent = value ?? `${count} values`;
    line(list, "field", field);
    line(list, "from", from.slice(0, 19));
    line(list, "to", to.slice(0, 19));
    if (learnt) line(list, bar.classList.contains("is-late") ? "learnt later" : "learnt", `${learnt} by ${actor}`);
    if (source) {
      const link = document.createElement(drop ? "a" : "span");
      if (drop) link.href = drop;
      link.textContent = source;
      line(list, "came from", link);
    }
    if (believed) line(list, "believed", believed);
    if (count) line(list, "click", "to zoom in");
    card.replaceChildren(head, list);
    card.hidden = false;
    const box = (bar.querySelector("svg") ?? bar).getBoundingClientRect(), own = card.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const middle = clientX ?? Math.min(Math.max(box.left, 0) + 20, wide);
    const below = box.bottom + 6 + own.height <= innerHeight || box.top < own.height + 6;
    card.style.left = `${Math.min(Math.max(middle - own.width / 2, 8), wide - own.width - 8) + scrollX}px`;
    card.style.top = `${(below ? box.bottom + 6 : box.top - own.height - 6) + scrollY}px`;
  }

  function hideCard() { clearTimeout(hiding); card.hidden = true; }
  function hideSoon() { clearTimeout(hiding); hiding = setTimeout(hideCard, 250); }

  const barOf = (target) => (target instanceof Element ? target.closest("a.bar") : null);
  document.addEventListener("pointerover", (event) => {
    const bar = barOf(event.target);
    if (bar && !dragged && event.pointerType !== "touch") showCard(bar, event.clientX);
    else if (card.contains(event.target)) clearTimeout(hiding);
  });
  document.addEventListener("pointerout", (event) => { if (barOf(event.target) || card.contains(event.target)) hideSoon(); });
  document.addEventListener("focusin", (event) => {
    const bar = barOf(event.target);
    if (bar?.matches(":focus-visible")) showCard(bar);
  });
  document.addEventListener("focusout", (event) => { if (barOf(event.target)) hideSoon(); });

  // ---- the pointer: it shows where it is, moves the picture, takes the handles
  let dragged = null; // {kind, ...} while a button is down
  let wasDragged = false; // so the click that follows means nothing
  const fingers = new Map();

  function point(svg, event) {
    const mark = svg.querySelector("#pointer-line");
    if (!mark) return;
    const is = event !== null && event.pointerType !== "touch" && !dragged;
    mark.setAttribute("visibility", is ? "visible" : "hidden");
    if (!is) return;
    const { left, width } = svg.getBoundingClientRect();
    const label = mark.querySelector("text"), box = mark.querySelector("rect");
    label.textContent = told(svg, timeAt(svg, event.clientX));
    const half = label.textContent.length > 10 ? 62 : 38;
    const shift = Math.min(Math.max(event.clientX - left, half), width - half) - (event.clientX - left);
    mark.setAttribute("x", event.clientX - left);
    box.setAttribute("x", shift - half);
    box.setAttribute("width", 2 * half);
    label.setAttribute("x", shift);
  }

  function down(event) {
    const svg = picture();
    if (event.button !== 0 || !svg?.contains(event.target)) return;
    wasDragged = false;
    fingers.set(event.pointerId, event.clientX);
    const handle = event.target.closest(".handle");
    if (handle) {
      dragged = { kind: "handle", name: handle.dataset.name };
      handle.focus();
      event.preventDefault();
    } else if (fingers.size === 2) {
      const [a, b] = fingers.values();
      dragged = { kind: "pinch", apart: Math.max(Math.abs(a - b), 10), centre: timeAt(svg, (a + b) / 2), ...view(svg) };
    } else {
      dragged = { kind: "maybe", x: event.clientX, ...view(svg) };
    }
  }

  function moved(event) {
    const svg = picture();
    if (!svg) return;
    if (!dragged) {
      if (svg.contains(event.target)) point(svg, event);
      return;
    }
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event.clientX);
    if (dragged.kind === "handle") {
      wasDragged = true;
      dragged.at = snapped(svg, timeAt(svg, event.clientX));
      compare(svg, dragged.name, dragged.at);
    } else if (dragged.kind === "pinch" && fingers.size === 2) {
      wasDragged = true;
      const [a, b] = fingers.values(), by = dragged.apart / Math.max(Math.abs(a - b), 10);
      move(svg, dragged.centre - (dragged.centre - dragged.since) * by, dragged.centre + (dragged.until - dragged.centre) * by);
    } else if (dragged.kind === "pan" || Math.abs(event.clientX - dragged.x) > 4) {
      dragged.kind = "pan";
      wasDragged = true;
      svg.classList.add("is-panning");
      point(svg, null);
      const by = ((dragged.x - event.clientX) / svg.getBoundingClientRect().width) * (dragged.until - dragged.since);
      move(svg, dragged.since + by, dragged.until + by);
    }
  }

  function up(event) {
    fingers.delete(event.pointerId);
    if (!dragged) return;
    const { kind } = dragged;
    dragged = null;
    picture()?.classList.remove("is-panning");
    if (kind === "pan" || kind === "pinch") drawAnew();
  }
  document.addEventListener("pointerdown", down);
  document.addEventListener("pointermove", moved);
  document.addEventListener("pointerup", up);
  document.addEventListener("pointercancel", up);
  document.addEventListener("dragstart", (event) => { if (picture()?.contains(event.target)) event.preventDefault(); });

  // ---- two handles: they say between which instants the difference is shown
  let comparing = 0;
  function compare(svg, name, at) {
    const handles = Object.fromEntries([...svg.querySelectorAll(".handle")].map((one) => [one.dataset.name, one]));
    const other = handles[name === "from" ? "to" : "from"];
    const bound = other ? Number(other.dataset.a) : name === "from" ? Infinity : -Infinity;
    let ms = Date.parse(at);
    if (name === "from" ? ms >= bound : ms <= bound) { ms = bound + (name === "from" ? -1 : 1); at = iso(ms); }
    const { since, until } = view(svg), handle = handles[name], band = svg.querySelector(".compared");
    if (handle) {
      handle.dataset.a = ms;
      handle.setAttribute("x", `${((ms - since) / (until - since)) * 100}%`);
      handle.querySelector("text").textContent = told(svg, ms);
      handle.setAttribute("aria-valuetext", told(svg, ms));
    }
    if (band) {
      band.dataset[name === "from" ? "a" : "b"] = ms;
      const place = (key) => Math.min(Math.max(((Number(band.dataset[key]) - since) / (until - since)) * 100, EDGE), BEYOND);
      band.setAttribute("x", `${place("a")}%`);
      band.setAttribute("width", `${Math.max(place("b") - place("a"), 0)}%`);
    }
    clearTimeout(comparing);
    comparing = setTimeout(() => {
      const url = new URL(location.href);
      url.searchParams.set(name, at);
      Cockpit.show(url);
    }, 50);
  }

  function moveHandle(svg, handle, key, isFine) {
    const at = Number(handle.dataset.a), forward = key === "ArrowRight" ? 1 : -1;
    if (isFine) return compare(svg, handle.dataset.name, meant(svg, at + (forward * (view(svg).until - view(svg).since)) / 100));
    const all = moments();
    const next = forward > 0 ? all.find((one) => Date.parse(one) > at) : all.findLast((one) => Date.parse(one) < at);
    if (next) compare(svg, handle.dataset.name, next);
  }

  // ---- clicks
  const isPlain = (event) => !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || !isPlain(event) || event.button !== 0) return;
    const svg = picture(), bar = barOf(event.target), believed = event.target.closest("svg.believed");
    if (svg?.contains(event.target)) {
      event.preventDefault();
      if (wasDragged || event.target.closest(".handle")) { wasDragged = false; return; }
      if (bar && (event.detail === 0 || bar.dataset.count)) Cockpit.show(new URL(bar.getAttribute("href"), location.href));
      else Cockpit.setInstant(meant(svg, timeAt(svg, event.clientX), bar));
      if (bar && event.pointerType === "touch") showCard(bar, event.clientX);
    } else if (believed && event.detail > 0) {
      event.preventDefault();
      const known = believed.dataset.known.split(" "), box = believed.getBoundingClientRect(), url = new URL(location.href);
      const row = Math.floor((event.clientY - box.top) / Number(believed.dataset.row));
      if (row >= known.length) return;
      url.searchParams.set("as_of", meant(believed, timeAt(believed, event.clientX), bar));
      url.searchParams.set("known_at", known[row]);
      Cockpit.show(url);
    } else {
      const link = event.target.closest("#content a[href]");
      const to = link && new URL(link.getAttribute("href"), location.href);
      if (!to || to.origin !== location.origin || to.pathname !== location.pathname) return;
      event.preventDefault();
      Cockpit.show(to, { push: true });
    }
  });

  // ---- keys
  function neighbour(bar, key) {
    const lane = bar.closest(".lane"), bars = [...lane.querySelectorAll("a.bar")], here = bars.indexOf(bar);
    if (key === "ArrowRight") return bars[here + 1];
    if (key === "ArrowLeft") return bars[here - 1];
    if (key === "Home") return bars[0];
    if (key === "End") return bars.at(-1);
    const lanes = [...lane.parentNode.querySelectorAll(".lane")].filter((one) => one.querySelector("a.bar"));
    const other = lanes[lanes.indexOf(lane) + (key === "ArrowDown" ? 1 : -1)];
    if (!other) return undefined;
    const from = (one) => Number(one.querySelector("svg").dataset.a), at = from(bar);
    return [...other.querySelectorAll("a.bar")].reduce((best, one) => (Math.abs(from(one) - at) < Math.abs(from(best) - at) ? one : best));
  }

  document.addEventListener("keydown", (event) => {
    const svg = picture();
    if (event.key === "Escape") hideCard();
    if (!svg || !event.target.closest("#timeline") || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input")) return;
    const bar = barOf(event.target), handle = event.target.closest(".handle");
    const around = bar ? Number(bar.querySelector("svg").dataset.a) : undefined;
    const arrows = event.key === "ArrowLeft" || event.key === "ArrowRight";
    if (handle && arrows) moveHandle(svg, handle, event.key, event.shiftKey);
    else if (event.key === "+" || event.key === "=") zoom(svg, 0.5, around);
    else if (event.key === "-") zoom(svg, 2, around);
    else if (event.key === "0") document.getElementById("zoom-fit").click();
    else if (event.shiftKey && arrows) pan(svg, event.key === "ArrowLeft" ? -0.25 : 0.25);
    else if (bar && ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
      const next = neighbour(bar, event.key);
      if (next) { bar.tabIndex = -1; next.tabIndex = 0; next.focus(); }
    } else return;
    event.preventDefault();
  });

  // ---- each time the page is drawn
  function wheel(event) {
    const svg = event.currentTarget;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(svg, Math.exp(Math.min(Math.max(event.deltaY, -100), 100) * 0.004), timeAt(svg, event.clientX));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(svg, (event.deltaX || event.deltaY) / svg.getBoundingClientRect().width);
    }
  }

  function prepare() {
    clearTimeout(asking);
    hideCard();
    if (!card.isConnected) document.body.append(card);
    const svg = picture();
    if (!svg) return;
    svg.addEventListener("wheel", wheel, { passive: false });
    svg.addEventListener("pointerleave", () => point(svg, null));
    if (!svg.querySelector("a.bar:focus")) (svg.querySelector("a.bar.holds") ?? svg.querySelector("a.bar"))?.setAttribute("tabindex", "0");
    else svg.querySelector("a.bar:focus").tabIndex = 0;
    if (dragged?.kind === "handle" && dragged.at) {
      const handle = svg.querySelector(`#handle-${dragged.name}`), { since, until } = view(svg);
      handle?.setAttribute("x", `${((Date.parse(dragged.at) - since) / (until - since)) * 100}%`);
    } else if (dragged?.kind === "pan" || dragged?.kind === "maybe") {
      dragged = null;
    }
  }
  addEventListener("DOMContentLoaded", prepare);
  document.addEventListener("cockpit:shown", prepare);
})();
