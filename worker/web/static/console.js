// Two comforts, without which everything works too: pages that renew themselves, and shortcuts.
"use strict";

(() => {
  const told = document.getElementById("live");
  const SLOWEST = 10;

  function say(words) {
    if (told.textContent !== words) told.textContent = words;
  }

  // What a person is doing in a part outlives its renewal; while text is typed or marked there it stays as it is.
  function isInUse(part) {
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, textarea, select")) return true;
    const filled = (each) => each.value !== each.defaultValue || each.checked !== each.defaultChecked;
    if (places(part, "input, textarea").some(filled)) return true;
    const marked = document.getSelection();
    return !marked.isCollapsed && part.contains(marked.anchorNode);
  }

  function places(part, selector) {
    return [...part.querySelectorAll(selector)];
  }

  function renew(part, fresh) {
    if (isInUse(part)) return;
    const open = new Map(places(part, "details[id]").map((each) => [each.id, each.open]));
    for (const each of places(fresh, "details[id]")) {
      if (open.has(each.id)) each.open = open.get(each.id);
    }
    if (part.innerHTML === fresh.innerHTML) return;
    const scrolled = places(part, ".scroll, pre").map((each) => [each.scrollLeft, each.scrollTop]);
    const can = "a[href], button, summary, [tabindex]";
    const focused = places(part, can).indexOf(document.activeElement);
    const href = focused < 0 ? null : document.activeElement.getAttribute("href");
    part.replaceChildren(...fresh.childNodes);
    places(part, ".scroll, pre").forEach((each, n) => {
      [each.scrollLeft, each.scrollTop] = scrolled[n] ?? [0, 0];
    });
    if (focused < 0) return;
    const same = href && places(part, can).find((each) => each.getAttribute("href") === href);
    (same || places(part, can)[focused] || part.closest("main"))?.focus({ preventScroll: true });
  }

  async function look() {
    const reply = await fetch(location.href, {
      headers: { "X-Live": "yes" }, redirect: "error", cache: "no-store", signal: AbortSignal.timeout(8000),
    });
    if (reply.status === 401) return "signed out";
    if (!reply.ok) throw new Error(reply.status);
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live][id]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) renew(part, fresh);
    }
    return "live";
  }

  async function watch(every) {
    let wait = every;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
      if (document.hidden) continue;
      try {
        if (await look() === "signed out") {
          say("Paused: you are signed out. Load the page again to sign in.");
          return;
        }
        say(`Live: renewed every ${every} seconds.`);
        wait = every;
      } catch {
        say("Paused: the console does not answer. It is asked again and again.");
        wait = Math.min(SLOWEST, wait * 1.5);
      }
    }
  }

  if (told && document.querySelector("[data-live]")) watch(Number(told.dataset.every));

  // Shortcuts of a single key can be switched off, and are none while something is typed.
  const keys = document.getElementById("keys");
  if (!keys) return;
  const on = document.getElementById("keys-on");
  const button = document.getElementById("show-keys");
  try { on.checked = localStorage.getItem("keys") !== "off"; } catch { /* kept for this page alone */ }
  on.addEventListener("change", () => {
    try { localStorage.setItem("keys", on.checked ? "on" : "off"); } catch { /* as above */ }
  });
  button.hidden = false;
  button.addEventListener("click", () => keys.showModal());
  document.addEventListener("keydown", (event) => {
    if (!on.checked || event.ctrlKey || event.altKey || event.metaKey || keys.open) return;
    if (event.target.closest("input, textarea, select, [contenteditable]")) return;
    if (event.key === "/") {
      event.preventDefault();
      (document.getElementById("line") ?? document.getElementById("lookup")).focus();
    } else if (event.key === "?") {
      event.preventDefault();
      keys.showModal();
    }
  });
})();
